"""What an evaluation says of the sources of both files, and what it never holds against listeners."""

import json
from pathlib import Path
from typing import Any

import pytest

from urgentmos.evaluation.predictions import match_clips, read_source
from urgentmos.evaluation.summary import evaluate

POCKET, MEASURED = "predicted by pocket c19abcda1728", "measured by pesq (pesq 0.0.4)"
VALUES = [1.0, 2.5, 2.0, 3.5, 4.0, 4.5]


def write(path: Path, metrics: dict[str, list[float]], sources: dict[str, str | list[str]] | None = None, **row: Any) -> Path:
    lines = []
    for k in range(6):
        stated = {name: source if isinstance(source, str) else source[k] for name, source in (sources or {}).items()}
        own = {name: values[k] for name, values in metrics.items()}
        clip = {"uid": f"u{k}", "audio_path": f"{k}.wav", "system_id": f"s{k % 2}", "reference_id": f"c{k // 2}"}
        lines.append(json.dumps({**clip, "metrics": own, "sources": stated, **row}))
    path.write_text("\n".join(lines))
    return path


def run(predictions: Path, references: Path) -> dict[str, Any]:
    return evaluate(read_source(predictions), read_source(references))


def test_both_sources_are_named(tmp_path: Path) -> None:
    report = run(
        write(tmp_path / "p.jsonl", {"mos_overall": VALUES}, {"mos_overall": POCKET}),
        write(tmp_path / "r.jsonl", {"mos_overall": VALUES[::-1]}),
    )
    assert report["sources"] == {"mos_overall": {"prediction": POCKET, "label": "listeners"}} and not report["warnings"]


def test_predicted_references_are_not_listeners(tmp_path: Path) -> None:
    for sources, row in (({"mos_overall": POCKET}, {}), ({}, {"model": "pocket", "meta": {"version": "c19abcda1728"}})):
        references = write(tmp_path / "r.jsonl", {"mos_overall": VALUES[::-1]}, sources, **row)
        report = run(write(tmp_path / "p.jsonl", {"mos_overall": VALUES}, {"mos_overall": "other 1"}), references)
        assert report["sources"]["mos_overall"] == {"prediction": "predicted by other 1", "label": POCKET}
        assert report["warnings"] == [f"mos_overall is held against labels {POCKET}, not against listeners"]


def test_a_model_held_against_itself_is_said(tmp_path: Path) -> None:
    file = write(tmp_path / "p.jsonl", {"mos_overall": VALUES, "pesq": VALUES}, {"mos_overall": POCKET, "pesq": POCKET})
    assert run(file, file)["warnings"] == [
        f"predictions and references have one source ({POCKET}), so their agreement shows nothing: mos_overall, pesq",
        f"mos_overall is held against labels {POCKET}, not against listeners",
        f"pesq is held against labels {POCKET}, not against measurements",
    ]


def test_predictions_among_labels_are_left_out(tmp_path: Path) -> None:
    mixed: list[str] = [*["listeners"] * 4, POCKET, POCKET]
    report = run(
        write(tmp_path / "p.jsonl", {"mos_overall": VALUES}, {"mos_overall": POCKET}),
        write(tmp_path / "r.jsonl", {"mos_overall": VALUES[::-1]}, {"mos_overall": mixed}),
    )
    assert report["utterance"]["mos_overall"]["n"] == 4 and report["sources"]["mos_overall"]["label"] == "listeners"
    assert "the mos_overall of 2 of 6 references is a prediction and is left out, as others have labels" in report["warnings"]


def test_labels_that_a_score_kept_are_the_references(tmp_path: Path) -> None:
    kept = {"other_values": {"mos_overall": {"listeners": 2.0}}}
    scored = write(tmp_path / "s.jsonl", {"mos_overall": VALUES}, {"mos_overall": POCKET}, meta=kept)
    report = run(scored, scored)
    assert report["sources"]["mos_overall"] == {"prediction": POCKET, "label": "listeners"}
    assert list(match_clips(read_source(scored), read_source(scored)).labels["mos_overall"]) == [2.0] * 6  # as the page draws
    assert report["utterance"]["mos_overall"]["mse"] == pytest.approx(sum((x - 2) ** 2 for x in VALUES) / 6)


def test_labels_that_both_files_hold_are_no_predictions(tmp_path: Path) -> None:
    sources = {"mos_overall": POCKET, "pesq": MEASURED}
    report = run(
        write(tmp_path / "p.jsonl", {"mos_overall": VALUES, "pesq": VALUES}, dict(sources)),
        write(tmp_path / "r.jsonl", {"mos_overall": VALUES[::-1], "pesq": VALUES}, {"pesq": MEASURED}),
    )
    assert list(report["utterance"]) == list(report["sources"]) == ["mos_overall"] and "pesq" not in report["preference"]
    assert report["warnings"] == [f"pesq: both files hold the same labels ({MEASURED}); left out"]


def test_anyones_predictions_without_sources_are_no_labels_of_listeners(tmp_path: Path) -> None:
    file = write(tmp_path / "r.jsonl", {"mos_overall": VALUES})
    report = run(file, file)
    assert report["sources"] == {"mos_overall": {"prediction": "from an unknown source", "label": "listeners"}}
    assert not report["warnings"]


@pytest.mark.parametrize(
    ("row", "source"),
    [
        ({"cmos": 1.0, "model": "pocket", "version": "c19abcda1728", "verdict": "a"}, POCKET),  # of compare
        ({"metrics": {"mos_overall": 1.0}, "verdict": "a", "sources": {"mos_overall": POCKET}}, POCKET),  # of pairs
        ({"verdict": "a", "model": "other"}, "predicted by other"),
        ({"verdict": "a"}, "listeners"),
        ({"metrics": {"mos_overall": 1.0}, "verdict": "a"}, "listeners"),
    ],
)
def test_labels_of_pairs_have_sources(row: dict[str, Any], source: str, tmp_path: Path) -> None:
    pairs = [{"a": f"u{k}", "b": f"u{k + 1}", **row} for k in range(5)]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    report = run(write(tmp_path / "p.jsonl", {"mos_overall": VALUES}, {"mos_overall": "x 1"}), tmp_path / "r.jsonl")
    assert report["sources"] == {"mos_overall": {"prediction": "predicted by x 1", "label": source}}
    assert any("not against listeners" in warning for warning in report["warnings"]) == (source != "listeners")
