"""Error codes and other scales among labels: named, and in no statistic."""

import json
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos import rank
from urgentmos.clips.clip import Clip
from urgentmos.clips.label_range import codes, is_outside, left_out, limits, outside
from urgentmos.clips.pairs import derive
from urgentmos.errors import UsageError
from urgentmos.evaluation.agreement import Resampling
from urgentmos.evaluation.options import Options
from urgentmos.evaluation.predictions import Source, read_source
from urgentmos.evaluation.summary import evaluate
from urgentmos.metrics import METRICS

CODES = {
    "pesq": [-1, 0, 99, -999, inf],
    "mos_overall": [-1, 0, -999, 99, 999, inf],
    "utmos": [-1, 0, 99, 999, -inf],
    "sdr": [99, -999, inf],
}


def clips(values: list[float | None], metric: str = "mos_overall", n_systems: int = 3) -> list[Clip]:
    return [
        Clip(
            f"s{i % n_systems}:u{i // n_systems}",
            f"{i}.wav",
            f"s{i % n_systems}",
            f"u{i // n_systems}",
            metrics={metric: value},
        )
        for i, value in enumerate(values)
    ]


def some_values(metric: str, n: int = 24, seed: int = 0) -> list[float]:
    low, high = {"pesq": (1, 4.6), "sdr": (-10, 30)}.get(metric, (1, 5))
    return [float(x) for x in np.random.default_rng(seed).uniform(low, high, n)]


@pytest.mark.parametrize(("metric", "code"), [(m, c) for m, some in CODES.items() for c in some])
def test_error_codes_are_left_out_and_told(metric, code):
    values = some_values(metric)
    values[7] = values[11] = code
    kept, (sentence,) = left_out(clips(values, metric))
    low, high = limits(metric)
    assert [clip.metrics[metric] for clip in kept] == [None if i in (7, 11) else x for i, x in enumerate(values)]
    expected = f"2 of 24 values of {metric} lie outside {low:g} .. {high:g} and are left out, the first: s1:u2 ({code:g}). "
    assert sentence == expected + "Correct them or leave them empty."


@pytest.mark.parametrize("metric", METRICS)
def test_the_ends_of_a_range_are_inside(metric):
    low, high = METRICS[metric].range()
    for value in [x for x in (low, high, low - 0.004, high + 0.004) if abs(x) != inf]:
        assert not is_outside(metric, value)
    for value in [x for x in (low - 0.01, high + 0.01, inf, -inf) if abs(x) != inf or x in (inf, -inf)]:
        assert is_outside(metric, value)


@pytest.mark.parametrize(
    ("metric", "value"),
    [("utmos", 0.5), ("utmos", 5.4), ("nisqa_mos", 0.6), ("lps", -3.0), ("mcd", 150.0), ("lsd", 40.0), ("mine", -999)],
)
def test_what_a_metric_without_bounds_can_be_is_inside(metric, value):
    assert not is_outside(metric, value)


@pytest.mark.parametrize("values", [[55, 3, 80, 100, 0, 20], [7, 8, 3, 4, 9, 6], [0.3, 0.8, 0.9, 1.0, 0.1]])
def test_another_scale_is_refused(values):
    with pytest.raises(UsageError, match="the scale looks wrong"):
        left_out(clips(values))
    with pytest.raises(UsageError, match="the scale looks wrong"):
        derive(clips(values), "reference")


def test_an_infinity_is_no_value_of_any_metric():
    assert is_outside("mine", inf) and is_outside("mine", -inf) and not is_outside("mine", None)


def test_a_column_of_codes_is_no_other_scale():
    kept, sentences = left_out(clips([-1.0] * 6))
    assert len(sentences) == 1 and all(clip.metrics == {"mos_overall": None} for clip in kept)


def test_of_predictions_only_codes_are_left_out():
    assert codes("mos_overall", [("a", 0.2), ("b", 3.0), ("c", 4.0), ("d", 5.7)]) is None
    assert codes("mos_overall", [("a", -1.0), ("b", 3.0), ("c", 4.0), ("d", 5.7)]).uids == ["a"]  # type: ignore[union-attr]
    assert codes("mos_overall", [("a", -1.0), ("b", -1.4), ("c", 4.0), ("d", 3.0), ("e", 2.0)]) is None  # within the others
    assert outside("mos_overall", [("a", 0.2), ("b", 3.0), ("c", 4.0)]).uids == ["a"]  # type: ignore[union-attr]


@settings(max_examples=40)
@given(
    places=st.sets(st.integers(0, 23), min_size=1, max_size=8),
    pick=st.randoms(use_true_random=False),
    metric=st.sampled_from(sorted(CODES)),
)
def test_no_code_moves_a_statistic(places, pick, metric):
    values = some_values(metric)
    with_codes = [pick.choice(CODES[metric]) if i in places else x for i, x in enumerate(values)]
    with_holes = [None if i in places else x for i, x in enumerate(values)]
    assert [c.metrics for c in left_out(clips(with_codes, metric))[0]] == [c.metrics for c in clips(with_holes, metric)]
    gaps = [[pair.cmos for pair in derive(clips(some, metric), metric=metric)] for some in (with_codes, with_holes)]
    assert gaps[0] == gaps[1]


@settings(max_examples=15, deadline=None)
@given(places=st.sets(st.integers(0, 23), min_size=1, max_size=3), code=st.sampled_from(CODES["mos_overall"]))
def test_no_code_moves_a_ranking_or_an_evaluation(places, code):
    values = some_values("mos_overall")
    spoilt, holes = ([other if i in places else x for i, x in enumerate(values)] for other in (code, None))
    rankings = [rank(clips(some), "mos_overall", scoring="mos", samples=100) for some in (spoilt, holes)]
    assert [(s.system_id, s.score) for s in rankings[0].systems] == [(s.system_id, s.score) for s in rankings[1].systems]
    assert any("left out, the first: " in text for text in rankings[0].warnings)


def rows(path: Path, values: list[float | None], metric: str = "mos_overall") -> Source:
    lines = [
        json.dumps({"uid": c.uid, "system_id": c.system_id, "reference_id": c.reference_id, "metrics": c.metrics})
        for c in clips(values, metric)
    ]
    path.write_text("\n".join(lines))
    return read_source(path)


QUICK = Options(resampling=Resampling(0))


@pytest.mark.parametrize("side", ["predictions", "references"])
@pytest.mark.parametrize("code", CODES["mos_overall"])
def test_no_code_moves_an_evaluation(tmp_path, side, code):
    values = some_values("mos_overall")
    other = [1 + 0.9 * (x - 1) for x in values]
    spoilt, holes = list(other), list(other)
    for i in (3, 17):
        spoilt[i], holes[i] = code, None  # type: ignore[call-overload]
    reports = []
    for some in (spoilt, holes):
        one, two = rows(tmp_path / "one.jsonl", some), rows(tmp_path / "two.jsonl", values)  # type: ignore[arg-type]
        reports.append(evaluate(one, two, QUICK) if side == "predictions" else evaluate(two, one, QUICK))
    assert all(reports[0][level] == reports[1][level] for level in ("utterance", "system", "preference"))
    assert reports[0]["warnings"][0].startswith(f"{tmp_path / 'one.jsonl'}: 2 of 24 values of mos_overall lie outside")


def test_human_labels_beside_another_judge_are_checked_too(tmp_path):
    both = [
        Clip(c.uid, c.audio_path, c.system_id, c.reference_id, metrics={"pesq": 2.0 + k % 3, "mos_overall": m})
        for k, (c, m) in enumerate(
            zip(clips(some_values("mos_overall")), [*some_values("mos_overall")[:-1], -999], strict=True)
        )
    ]
    found = rank(both, "pesq", scoring="mos", samples=100)
    assert any("1 of 24 values of mos_overall lie outside 1 .. 5" in text for text in found.warnings)
    assert all(s.mos is not None and 1 <= s.mos <= 5 for s in found.systems)


def test_a_ranking_by_another_scale_is_refused():
    with pytest.raises(UsageError, match=r"24 of 24 values .*the scale looks wrong.*1 \+ x / 25"):
        rank(clips([20 + 3 * x for x in range(24)]), "mos_overall", scoring="mos", samples=100)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metric", "factor", "reason"),
    [
        ("mos_overall", 1, None),
        ("utmos", 1, None),
        ("dnsmos_ovrl", 1, None),
        ("pesq", 0.9, "pesq and mos_overall have different units"),
        ("sdr", 1, "sdr and mos_overall have different units"),
        ("mine", 1, "mine and mos_overall have different units"),
        ("mos_overall", 20, "the predictions are not on the scale of mos_overall"),
    ],
)
def test_only_values_of_one_unit_have_a_squared_error(tmp_path, metric, factor, reason):
    values = some_values("mos_overall")
    report = evaluate(
        rows(tmp_path / "p.jsonl", [x * factor for x in values], metric), rows(tmp_path / "r.jsonl", values), QUICK
    )  # type: ignore[arg-type]
    for level in ("utterance", "system"):
        found = report[level][metric]
        assert found["mse_reason"] == reason and (found["mse"] is None) == (reason is not None)
        assert found["lcc"] == pytest.approx(1)
    assert (factor == 20) == any("the scale looks wrong" in text for text in report["warnings"])


def test_labels_for_training_are_checked(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("torch")
    from urgentmos.training.data import read_data

    for i in range(4):
        soundfile.write(tmp_path / f"{i}.wav", np.zeros(1600), 16_000)
    lines = [json.dumps({"audio_path": f"{i}.wav", "metrics": {"mos_overall": m}}) for i, m in enumerate([3, -1, 4, 2])]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    said: list[str] = []
    data = read_data([str(tmp_path / "m.jsonl")], [], said.append)
    assert data.labelled() == {"mos_overall": 3} and "1 of 4 values of mos_overall lie outside" in said[0]
    pair = {"uids": ["a", "b"], "audio_paths": ["0.wav", "1.wav"], "metrics": {"mos_overall": -999}}
    (tmp_path / "p.jsonl").write_text(json.dumps(pair))
    with pytest.raises(
        UsageError, match=r"p.jsonl: 1 of 1 values of the CMOS of mos_overall lie outside -4 .. 4, the first: a / b"
    ):
        read_data([], [str(tmp_path / "p.jsonl")], said.append)
