"""Whole reports: which predictions meet which labels, corpora, published numbers, two predictors, and what is missing."""

import json
from pathlib import Path

import numpy as np
import pytest

from urgentmos.errors import UsageError
from urgentmos.evaluation.agreement import Resampling
from urgentmos.evaluation.options import Options
from urgentmos.evaluation.predictions import Source, read_source
from urgentmos.evaluation.summary import evaluate

QUICK = Resampling(samples=0)


@pytest.fixture
def source(tmp_path: Path):
    def write(name: str, rows: list[dict]) -> Source:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_source(path)

    return write


def clips(n_systems: int = 3, n_contents: int = 4, noise: float = 0.0, corpus: str | None = None, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    return [
        {
            "uid": f"{corpus}:s{i}:u{j}",
            "system_id": f"s{i}",
            "reference_id": f"u{j}",
            "corpus": corpus,
            "metrics": {"mos_overall": 1.0 + 0.7 * i + 0.1 * j + noise * float(rng.normal())},
        }
        for i in range(n_systems)
        for j in range(n_contents)
    ]


def renamed(rows: list[dict], name: str, sign: float = 1.0) -> list[dict]:
    return [{**row, "metrics": {name: sign * row["metrics"]["mos_overall"]}} for row in rows]


def report(predictions: Source, references: Source, **options) -> dict:
    found = evaluate(predictions, references, Options(resampling=QUICK, **options))
    assert json.dumps(found, allow_nan=False)
    return found


def test_perfect_predictions_are_perfect_at_every_level(source) -> None:
    rows = clips()
    found = report(source("p", rows), source("r", rows))
    for level in ("utterance", "system"):
        assert found[level]["mos_overall"]["mse"] == 0 and found[level]["mos_overall"]["srcc"] == pytest.approx(1)
    assert found["utterance"]["mos_overall"]["n"] == 12 and found["system"]["mos_overall"]["n"] == 3
    assert found["pairs"]["possible"] == found["pairs"]["n"] == 4 * 3 * 2
    assert found["preference"]["mos_overall"]["acc_delta"] == found["preference"]["mos_overall"]["acc_0"] == 1.0
    assert found["warnings"] == []


def test_a_metric_meets_its_namesake_else_human_mos_else_what_is_asked_for(source) -> None:
    refs = [{**r, "metrics": {**r["metrics"], "estoi": 0.1}} for r in clips()]
    said = [{**r, "metrics": {"estoi": 0.2, "utmos": 3.0}} for r in clips()]
    found = report(source("p", said), source("r", refs))
    assert {m: f["label"] for m, f in found["utterance"].items()} == {"estoi": "estoi", "utmos": "mos_overall"}
    asked = report(source("p", said), source("r", refs), label="mos_overall")
    assert {f["label"] for f in asked["utterance"].values()} == {"mos_overall"}


def test_a_distance_prefers_the_smaller_one(source) -> None:
    found = report(source("p", renamed(clips(), "lsd", -1)), source("r", clips()))
    assert found["utterance"]["lsd"]["lcc"] == pytest.approx(-1) and found["preference"]["lsd"]["acc_0"] == 1.0


def test_metrics_of_the_labels_are_correlated(source) -> None:
    refs = [{**r, "metrics": {**r["metrics"], "mcd": -r["metrics"]["mos_overall"]}} for r in clips()]
    found = report(source("p", clips()), source("r", refs))["metric_spearman"]
    assert found["metrics"] == ["mos_overall", "mcd"] and found["srcc"][0][1] == pytest.approx(-1)


def test_each_corpus_is_evaluated_on_its_own(source) -> None:
    good, bad = clips(corpus="somos"), renamed(clips(corpus="mine"), "mos_overall", -1)
    refs = clips(corpus="somos") + clips(corpus="mine")
    found = report(source("p", good + bad), source("r", refs), published=True)
    assert found["corpora"]["somos"]["utterance"]["mos_overall"]["lcc"] == pytest.approx(1)
    assert found["corpora"]["mine"]["utterance"]["mos_overall"]["lcc"] == pytest.approx(-1)
    assert [found["corpora"][c]["preference"]["mos_overall"]["acc_0"] for c in ("somos", "mine")] == [1.0, 0.0]
    assert [part["columns"] for part in found["published"]] == [["SOMOS"], ["SOMOS"]]
    rows = {row["model"]: row for row in found["published"][0]["rows"]}
    assert rows["Random"] == {"model": "Random", "ours": False, "SOMOS": [0.34, 0.5]}
    assert rows["mos_overall"] == {"model": "mos_overall", "ours": True, "SOMOS": [1.0, 1.0]}


def test_random_guesses_are_a_row_of_their_own(source) -> None:
    rows = clips(10, 12, noise=0.3)
    found = report(source("p", rows), source("r", rows), random=True)
    assert abs(found["utterance"]["random"]["srcc"]) < 0.4
    assert found["preference"]["random"]["acc_delta"] == pytest.approx(1 / 3, abs=0.06)
    assert found["preference"]["random"]["acc_0"] == pytest.approx(1 / 2, abs=0.06)


# ---- pairs


def test_verdicts_of_an_llm_against_labels_of_clips(source) -> None:
    refs = source("r", clips(2, 2))
    verdicts = [
        {"uids": ["None:s0:u0", "None:s1:u0"], "verdict": "B"},
        {"uids": ["None:s0:u1", "None:s1:u1"], "verdict": "A"},
        {"uids": ["None:s0:u1", "gone"], "verdict": "A"},
    ]
    found = report(source("p", verdicts), refs)
    assert found["preference"]["verdict"]["acc_delta"] == found["preference"]["verdict"]["acc_0"] == 0.5
    assert found["pairs"] == {
        "from": "the predicted pairs",
        "n": 2,
        "possible": 3,
        "native": 0,
        "label": "mos_overall",
        "labels": {"a": 0, "tie": 0, "b": 2},
    }


def test_scores_of_clips_against_native_verdicts(source) -> None:
    refs = [{"uids": ["x", "y"], "verdict": "a"}, {"uids": ["y", "z"], "verdict": "tie"}, {"uids": ["x", "z"], "verdict": "b"}]
    said = [{"uid": "x", "score": 4}, {"uid": "y", "score": 3}, {"uid": "z", "score": 3.4}]
    found = report(source("p", said), source("r", refs))
    judged = found["preference"]["mos_overall"]
    assert judged["acc_delta"] == pytest.approx(2 / 3) and (judged["acc_0"], judged["n_0"]) == (0.5, 2)
    assert found["pairs"]["native"] == 3 and found["utterance"] == {}


def test_both_heads_of_a_model_are_judged(source) -> None:
    refs = [{"uids": ["x", "y"], "metrics": {"mos_overall": 0.8}}, {"uids": ["y", "x"], "metrics": {"mos_overall": -0.8}}]
    said = [{"a": "x", "b": "y", "p_a": 0.3, "p_tie": 0.5, "p_b": 0.2, "cmos": 0.7, "verdict": "tie"}]
    found = report(source("p", said), source("r", refs))["preference"]
    assert (found["verdict"]["acc_delta"], found["verdict"]["acc_0"]) == (0.0, 1.0)
    assert (found["cmos"]["acc_delta"], found["cmos"]["acc_0"]) == (1.0, 1.0)


def test_accuracy_by_gap_uses_native_verdicts_where_there_are_some(source) -> None:
    refs = [
        {"uids": ["x", "y"], "metrics": {"mos_overall": 0.1}, "verdict": "b", "scope": "native"},
        {"uids": ["x", "z"], "metrics": {"mos_overall": 0.5}, "verdict": "a", "scope": "reference"},
    ]
    said = [{"uids": ["x", "y"], "verdict": "b"}, {"uids": ["x", "z"], "verdict": "b"}]
    bins = report(source("p", said), source("r", refs))["by_gap"]["verdict"]["bins"]
    assert [(b["n"], b["accuracy"]) for b in bins[:2]] == [(1, 1.0), (1, 0.0)]


def test_derived_pairs_are_capped_and_drawn_reproducibly(source) -> None:
    predictions, references = source("p", clips(6, 8, 0.4)), source("r", clips(6, 8))
    one, two, other = (
        evaluate(predictions, references, Options(limit=50, resampling=Resampling(0, seed)))["preference"] for seed in (0, 0, 1)
    )
    assert one["mos_overall"]["n"] == 50 and one == two != other


@pytest.mark.parametrize(("systems", "contents"), [(1, 4), (3, 1), (1, 1)])
def test_one_system_or_one_content_or_both(source, systems: int, contents: int) -> None:
    found = evaluate(source("p", clips(systems, contents, 0.5)), source("r", clips(systems, contents)), Options())
    assert json.dumps(found, allow_nan=False)
    assert ("pairs" in found) == (systems > 1)
    assert (found["system"]["mos_overall"]["lcc"] is None) == (systems == 1)
    assert (found["utterance"]["mos_overall"]["interval"] == {}) == (contents == 1 or systems * contents == 1)


def test_pairs_without_a_content_are_resampled_by_that_of_their_clips(source) -> None:
    """Else pairs of one content would count as independent, and intervals would be too short."""
    rows = clips(6, 5, 0.6)
    bare = [
        {"uids": [a["uid"], b["uid"]], "metrics": {"mos_overall": a["metrics"]["mos_overall"] - b["metrics"]["mos_overall"]}}
        for a in clips(6, 5)
        for b in clips(6, 5)
        if a["reference_id"] == b["reference_id"] and a["uid"] != b["uid"]
    ]
    told = [{**row, "reference_id": row["uids"][0].split(":")[2]} for row in bare]
    reports = [evaluate(source("p", rows), source("r", pairs), Options()) for pairs in (bare, told)]
    one, two = (found["preference"]["mos_overall"] for found in reports)
    assert one["interval"]["acc_0"] == two["interval"]["acc_0"]


# ---- two predictors


def test_two_predictors_are_compared_on_what_both_predict(source) -> None:
    refs = source("r", clips(5, 12))
    good, bad = source("g", clips(5, 12, 0.2)), source("b", clips(5, 12, 2.0, seed=1)[:-6])
    found = evaluate(good, refs, Options(resampling=Resampling(60)), bad)["versus"]
    one = found["utterance"]["mos_overall"]
    assert one["n"] == 54 and one["lcc"]["difference"] > 0 and one["lcc"]["williams"]["p"] < 0.01
    assert found["system"]["mos_overall"]["n"] == 5
    assert found["preference"]["mos_overall"]["acc_0"]["difference"] > 0


def test_two_predictors_of_other_names_are_compared_if_each_has_one(source) -> None:
    refs = source("r", clips())
    mine, theirs = source("p", renamed(clips(noise=0.1), "utmos")), source("v", renamed(clips(noise=1.0), "nisqa_mos"))
    assert set(evaluate(mine, refs, Options(resampling=QUICK), theirs)["versus"]["utterance"]) == {"utmos - nisqa_mos"}


# ---- what does not fit


def test_missing_and_repeated_ids_are_reported(source) -> None:
    rows = clips()
    said = [*rows[1:], rows[1], {**rows[0], "uid": "unknown"}]
    said[1] = {**said[1], "metrics": {"mos_overall": None}}
    found = report(source("p", said), source("r", [*rows, rows[5]]))
    counts = {name: ids["n"] for name, ids in found["ids"].items()}
    assert set(counts.values()) == {1} and found["ids"]["predicted_without_reference"]["first"] == ["unknown"]
    assert found["utterance"]["mos_overall"]["n"] == 10
    assert any("repeat an id" in w for w in found["warnings"])


def test_constant_predictions_have_no_correlation_and_say_so(source) -> None:
    said = [{**row, "metrics": {"mos_overall": 3.0}} for row in clips()]
    found = report(source("p", said), source("r", clips()))
    assert found["utterance"]["mos_overall"]["lcc"] is None and found["utterance"]["mos_overall"]["mse"] > 0
    assert any("all predictions are equal (3)" in w for w in found["warnings"])
    assert found["preference"]["mos_overall"]["acc_0"] == 0.0  # cannot decide


def test_files_that_share_nothing_are_refused_with_both_ids(source) -> None:
    with pytest.raises(UsageError, match=r"'q'.*'None:s0:u0'.*same uid"):
        evaluate(source("p", [{"uid": "q", "score": 1}]), source("r", clips()))


def test_a_label_that_is_not_there_is_refused_with_those_that_are(source) -> None:
    with pytest.raises(UsageError, match=r"holds mos_overall: the label estoi is missing.*--label"):
        evaluate(source("p", clips()), source("r", clips()), Options(label="estoi"))
