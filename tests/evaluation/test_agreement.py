"""The statistics: those of Track 2 to the last digit, scipy's on random tables, and nothing made up where undefined."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, pearsonr, spearmanr

from urgentmos.clips.verdicts import Judged, PairLabels
from urgentmos.evaluation.agreement import (
    STATISTICS,
    Resampling,
    agreement,
    difference_of_clips,
    difference_of_preferences,
    of_clips,
    of_preferences,
    of_systems,
    spearman_matrix,
    system_means,
    verdict_counts,
)

NAN = float("nan")
QUICK = Resampling(samples=0)
CELLS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.sampled_from("abcd")), min_size=3, max_size=40)


def is_close(found, expected: dict[str, float | str]) -> None:
    for name, value in expected.items():
        got = found[name] if isinstance(found, dict) else getattr(found, name)
        assert got is None if value == "NaN" else got == pytest.approx(value, abs=1e-12), name


# ---- against scipy


@settings(max_examples=150)
@given(CELLS)
def test_random_tables_agree_with_scipy(rows: list[tuple[int, int, str]]) -> None:
    p, r = (np.array([row[k] for row in rows]) / 8 for k in (0, 1))
    found = agreement(p, r)
    assert found.n == len(p) and found.mse == pytest.approx(np.mean((p - r) ** 2))
    if np.ptp(p) == 0 or np.ptp(r) == 0:
        assert found.lcc is found.srcc is found.ktau is None and "equal" in found.reason
    else:
        expected = [f(p, r).statistic for f in (pearsonr, spearmanr, kendalltau)]
        assert found[1:4] == pytest.approx(expected, abs=1e-12) and found.reason is None


@settings(max_examples=100)
@given(CELLS)
def test_systems_are_evaluated_on_their_means(rows: list[tuple[int, int, str]]) -> None:
    p, r = (np.array([row[k] for row in rows]) / 8 for k in (0, 1))
    systems = [row[2] for row in rows]
    found = of_systems(p, r, systems, systems, QUICK, whole=False)
    names = sorted(set(systems))
    means = [np.array([np.mean(x[[s == name for s in systems]]) for name in names]) for x in (p, r)]
    assert found["n"] == len(names) and found["mse"] == pytest.approx(np.mean((means[0] - means[1]) ** 2))
    if found["lcc"] is not None:
        assert found["srcc"] == pytest.approx(spearmanr(*means).statistic, abs=1e-12)


@given(CELLS, st.randoms())
def test_the_order_of_rows_changes_nothing(rows: list[tuple[int, int, str]], random) -> None:
    shuffled = random.sample(rows, len(rows))
    one, two = (agreement(*(np.array([row[k] for row in order], dtype=float) for k in (0, 1))) for order in (rows, shuffled))
    assert [x is None for x in one] == [x is None for x in two]
    assert [x for x in one[:5] if x is not None] == pytest.approx([x for x in two[:5] if x is not None])


# ---- against Track 2


@pytest.fixture(scope="module")
def track2(shared) -> dict:
    return json.loads((shared / "parity/evaluate.json").read_text())


def joined(preds: list[dict], refs: list[dict]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    known: dict[str, list[float]] = {}
    for row in refs:
        known.setdefault(row["sample_id"], []).append(row["value"])
    rows = [(p["value"], r, p["system_id"]) for p in preds for r in known[p["sample_id"]]]
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows]), [row[2] for row in rows]


def both_levels(preds: list[dict], refs: list[dict]) -> tuple[dict, dict]:
    p, r, systems = joined(preds, refs)
    return agreement(p, r)._asdict(), of_systems(p, r, systems, systems, QUICK, whole=False)


EDGES = {
    "preds_subset_of_refs(one system missing from preds)": lambda p, r: ([x for x in p if x["system_id"] != "sys03"], r),
    "unbalanced (sys00 has 5 utts)": lambda p, r: (p[:5] + p[20:], r),
    "one system only": lambda p, r: ([x for x in p if x["system_id"] == "sys00"], r),
    "one utterance": lambda p, r: (p[:1], r),
    "constant predictions": lambda p, r: ([{**x, "value": 3.0} for x in p], r),
    "duplicate ref row": lambda p, r: (p, [*r, r[0]]),
}


@pytest.mark.parametrize("name", EDGES)
def test_edge_cases_of_track_2(track2: dict, name: str) -> None:
    utterance, system = both_levels(*EDGES[name](track2["table"]["preds"], track2["table"]["refs"]))
    expected = track2["edge_cases"][name]["result"]
    is_close(utterance, expected["utt"])
    is_close(system, expected["sys"])


def test_the_table_of_track_2_in_any_order(track2: dict) -> None:
    preds, refs = track2["table"]["preds"], track2["table"]["refs"]
    for order in (preds, preds[::-1]):
        utterance, system = both_levels(order, refs)
        is_close(utterance, track2["table"]["expected"]["utt"])
        is_close(system, track2["table"]["expected"]["sys"])


def test_a_missing_prediction_costs_its_row_and_systems_are_those_of_track_2(track2: dict) -> None:
    preds = [dict(row) for row in track2["table"]["preds"]]
    preds[0]["value"] = NAN
    utterance, system = both_levels(preds, track2["table"]["refs"])
    is_close(system, track2["edge_cases"]["nan prediction"]["result"]["sys"])
    assert utterance["n"] == 199 and utterance["lcc"] is not None  # Track 2 loses all four to one NaN


# ---- what is not defined


@pytest.mark.parametrize(
    ("p", "r", "reason"),
    [
        ([], [], "nothing has both"),
        ([1.0, NAN], [NAN, 2.0], "nothing has both"),
        ([2.0], [3.0], "a single row"),
        ([2.0, 2.0, 2.0], [1.0, 2.0, 3.0], "all predictions are equal (2)"),
        ([1.0, 2.0, 3.0], [4.5, 4.5, 4.5], "all labels are equal (4.5)"),
    ],
)
def test_undefined_is_none_with_a_reason_and_no_warning(p: list, r: list, reason: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = agreement(np.array(p), np.array(r))
        of_systems(np.array(p), np.array(r), ["s"] * len(p), list(range(len(p))), QUICK, whole=False)
    assert found.lcc is found.srcc is found.ktau is None and reason in found.reason
    assert (found.mse is None) == (found.n == 0)


def test_clips_without_a_system_are_in_no_system() -> None:
    names, p, _ = system_means(np.array([1.0, 3.0, 9.0]), np.array([1.0, 1.0, 1.0]), ["s", "s", None])
    assert names == ["s"] and p.tolist() == [2.0]
    none = of_systems(np.ones(2), np.ones(2), [None, None], ["u", "v"], QUICK, whole=False)
    assert none["n"] == 0 and none["reason"] == "no row names a system"


# ---- intervals


def noisy_table(n_systems: int = 6, n_contents: int = 20, noise: float = 0.5, seed: int = 0):
    rng = np.random.default_rng(seed)
    quality = np.linspace(1.5, 4.5, n_systems)
    label = (quality[:, None] + 0.4 * rng.normal(size=(n_systems, n_contents))).ravel()
    systems = [f"s{i}" for i in range(n_systems) for _ in range(n_contents)]
    contents = [f"u{j}" for _ in range(n_systems) for j in range(n_contents)]
    return label + noise * rng.normal(size=label.size), label, systems, contents


@pytest.mark.parametrize("whole", [False, True])
def test_intervals_hold_their_statistic(whole: bool) -> None:
    p, r, systems, contents = noisy_table(noise=4.0)  # so that the ranks of systems are not perfect in every draw
    how = Resampling(samples=60)
    for found in (of_clips(p, r, systems if whole else contents, how), of_systems(p, r, systems, contents, how, whole=whole)):
        assert set(found["interval"]) == set(STATISTICS)
        for name, (low, high) in found["interval"].items():
            assert low <= found[name] <= high and low < high and (high <= 1 or name == "mse")


def test_more_confidence_is_a_longer_interval_and_one_content_has_none() -> None:
    p, r, _, contents = noisy_table()
    wide, narrow = (of_clips(p, r, contents, Resampling(60, 0, c))["interval"]["lcc"] for c in (0.99, 0.8))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert of_clips(p, r, ["u"] * len(p), Resampling(60))["interval"] == {}


# ---- preferences


def test_counts_of_preferences() -> None:
    labels = PairLabels(np.array([0.0, 0.5, 1.0, -1.0, 1.0]), np.full(5, NAN))
    found = of_preferences(Judged(gap=np.array([0.0, 0.1, 1.0, 1.0, NAN])), labels, list("uvwxy"), QUICK)
    assert (found["acc_delta"], found["n"], found["missing"], found["label_ties"]) == (0.75, 4, 1, 1)
    assert (found["acc_0"], found["n_0"]) == (2 / 3, 3)
    assert verdict_counts(labels) == {"a": 2, "tie": 2, "b": 1}


def test_equal_labels_only_leave_acc_0_undefined() -> None:
    found = of_preferences(Judged(gap=np.zeros(3)), PairLabels(np.zeros(3), np.full(3, NAN)), list("uvw"), Resampling(30))
    assert found["acc_delta"] == 1.0 and found["acc_0"] is None and found["reason"] == "all labels are ties"
    assert json.dumps(found, allow_nan=False)


def test_only_scalar_judges_have_a_threshold_to_sweep() -> None:
    labels = PairLabels(np.array([1.0, -1.0, 0.0]), np.full(3, NAN))
    scalar = of_preferences(Judged(gap=np.array([0.2, -0.2, 0.1])), labels, list("uvw"), QUICK)
    assert scalar["best"] == {"threshold": 0.1, "accuracy": 1.0} and scalar["acc_delta"] == pytest.approx(1 / 3)
    assert "sweep" not in of_preferences(Judged(verdict=np.array([1.0, -1.0, 0.0])), labels, list("uvw"), QUICK)


def test_pairs_of_one_content_are_resampled_together() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(20) < 0.6  # whole contents are right or wrong
    gap = np.repeat(np.where(right, 1.0, -1.0), 30)
    labels = PairLabels(np.ones(600), np.full(600, NAN))
    contents = np.repeat(np.arange(20), 30).tolist()
    together = of_preferences(Judged(gap=gap), labels, contents, Resampling(100))["interval"]["acc_0"]
    alone = of_preferences(Judged(gap=gap), labels, list(range(600)), Resampling(100))["interval"]["acc_0"]
    assert together[1] - together[0] > 3 * (alone[1] - alone[0])


# ---- metrics and two predictors


def test_the_matrix_of_metrics_is_symmetric_and_uses_what_both_have() -> None:
    a = np.array([1.0, 2.0, 3.0, NAN])
    matrix = spearman_matrix({"a": a, "b": -(a**3), "c": np.ones(4), "d": np.array([NAN, NAN, NAN, 1.0])})
    assert matrix[0][0] == pytest.approx(1) and matrix[0][1] == matrix[1][0] == pytest.approx(-1)
    assert matrix[2] == [None] * 4 and matrix[3][0] is None


def test_a_better_predictor_is_told_from_a_worse_one_and_not_from_itself() -> None:
    good, r, _, contents = noisy_table(noise=0.2, seed=1)
    bad = noisy_table(noise=1.5, seed=1)[0]
    found = difference_of_clips(good, bad, r, contents, Resampling(80))
    for name in ("lcc", "srcc"):
        assert found[name]["difference"] > 0.2
        assert all(found[name][test]["p"] < 0.01 for test in ("bootstrap", "williams", "steiger"))
    assert found["mse"]["difference"] < 0
    same = difference_of_clips(good, good, r, contents, Resampling(80))
    assert all(same[name]["bootstrap"]["p"] == 1.0 for name in STATISTICS)


def test_a_better_judge_of_pairs_is_told_from_a_worse_one() -> None:
    rng = np.random.default_rng(0)
    gap = rng.choice([1.0, -1.0], 300)
    labels = PairLabels(gap, np.full(300, NAN))
    worse = Judged(gap=np.where(rng.random(300) < 0.4, -gap, gap))
    found = difference_of_preferences(Judged(gap=gap), worse, labels, list(range(300)), Resampling(80))
    assert found["n"] == 300 and found["acc_0"]["difference"] > 0.3 and found["acc_0"]["bootstrap"]["p"] < 1e-6
