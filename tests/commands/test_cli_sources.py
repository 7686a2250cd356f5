"""From the command line: a prediction that stands in a file is ranked neither as a measurement nor as listeners' MOS."""

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
from click.testing import CliRunner, Result

from urgentmos.cli import main

RATE = 16_000


def urgentmos(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def place(tmp_path: Path, make_voice: Any) -> Path:
    """Two systems of three contents, and a manifest with the listeners' MOS of them."""
    lines = ["audio_path,system_id,reference_id,mos_overall"]
    for i, system in enumerate("ab"):
        (tmp_path / system).mkdir()
        for u in range(3):
            soundfile.write(tmp_path / system / f"u{u}.wav", make_voice(3 * i + u, 0.6), RATE)
            lines.append(f"{system}/u{u}.wav,{system},u{u},{2 + i + u / 10}")
    (tmp_path / "labelled.csv").write_text("\n".join(lines))
    return tmp_path


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_predictions_are_neither_measured_nor_human(suffix: str, place: Path) -> None:
    scores = place / f"s{suffix}"
    assert urgentmos("score", place / "a", place / "b", "-o", place / "plain.jsonl").exit_code == 0
    assert all(
        set(row["sources"].values()) == {f"predicted by pocket {row['meta']['version']}"} for row in rows(place / "plain.jsonl")
    )
    manifest = [
        {**row, "system_id": row["audio_path"][0], "reference_id": row["audio_path"][2:4]}
        for row in rows(place / "plain.jsonl")
    ]
    from urgentmos.clips.tables import write_records

    for older in (False, True):  # a file of an older version names the model only
        write_records([{k: v for k, v in row.items() if k != "sources" or not older} for row in manifest], scores)
        for metric, whose in (("pesq", "not measured"), ("mos_overall", "not given by listeners")):
            refused = urgentmos("rank", scores, "-m", metric, "-o", place / "r.json")
            assert refused.exit_code == 2 and not (place / "r.json").exists()
            assert f"the {metric} of these clips is predicted by pocket" in refused.stderr and whose in refused.stderr
        ranked = urgentmos("rank", scores, "-o", place / "r.json", "--samples", 100)
        ranking = json.loads((place / "r.json").read_text())
        assert ranked.exit_code == 0 and "correlation" not in ranking and not any("mos" in s for s in ranking["systems"])
        assert ranking["sources"]["score"].startswith("predicted by pocket")
        (place / "r.json").unlink()
        measured = urgentmos("rank", scores, "-m", "dnsmos_ovrl", "-o", place / "r.json", "--samples", 100)
        ranking = json.loads((place / "r.json").read_text())
        assert measured.exit_code == 0 and ranking["sources"]["score"].startswith("measured by dnsmos")
        assert "the dnsmos_ovrl of 6 of 6 clips in the manifest is predicted by pocket" in measured.stderr
        (place / "r.json").unlink()


def test_a_score_keeps_the_listeners_and_says_so(place: Path) -> None:
    scored = urgentmos("score", place / "labelled.csv", "-o", place / "s.csv")
    assert scored.exit_code == 0
    assert "mos_overall of 6 clips (listeners): kept in meta.other_values" in scored.stderr
    for file in ("labelled.csv", "s.csv"):
        urgentmos("rank", place / file, "-o", place / f"{file}.json", "--samples", 100)
    one, other = (json.loads((place / f"{file}.json").read_text()) for file in ("labelled.csv", "s.csv"))
    assert one == other and one["correlation"] and one["sources"]["mos"] == "listeners"
    by_listeners = urgentmos("rank", place / "s.csv", "-m", "mos_overall", "--scoring", "mos", "--table", "--samples", 100)
    assert by_listeners.exit_code == 0 and "3.10" in by_listeners.stdout and "Scores: listeners." in by_listeners.stderr
    assert urgentmos("evaluate", place / "s.csv", place / "labelled.csv", "-o", place / "e.json").exit_code == 0
    report = json.loads((place / "e.json").read_text())
    assert report["sources"]["mos_overall"]["label"] == "listeners" and not report["warnings"]


def test_one_metric_of_a_labelled_manifest_fits_into_an_scp(place: Path) -> None:
    assert urgentmos("score", place / "labelled.csv", "--metrics", "pesq", "-o", place / "pesq.scp").exit_code == 0
    assert len((place / "pesq.scp").read_text().splitlines()) == 6
    assert urgentmos("score", place / "labelled.csv", "--metrics", "pesq", "-o", place / "s.jsonl").exit_code == 0
    assert all(set(row["metrics"]) == {"pesq", "mos_overall"} for row in rows(place / "s.jsonl"))
    assert {row["sources"]["mos_overall"] for row in rows(place / "s.jsonl")} == {"listeners"}


def test_a_label_makes_way_for_nothing_without_a_word(place: Path) -> None:
    (place / "given.csv").write_text("audio_path,lsd,dnsmos_ovrl\na/u0.wav,9.5,4.5\n")
    labelled = urgentmos("label", place / "given.csv", "--metrics", "dnsmos_ovrl,lsd", "-o", place / "l.jsonl")
    (row,) = rows(place / "l.jsonl")
    assert labelled.exit_code == 1 and row["metrics"]["lsd"] is None  # there is no reference signal
    assert row["meta"]["other_values"] == {"dnsmos_ovrl": {"unknown": 4.5}, "lsd": {"unknown": 9.5}}
    assert "lsd, dnsmos_ovrl of 1 clip (from an unknown source): kept" in labelled.stderr
    assert row["sources"] == {"dnsmos_ovrl": row["sources"]["dnsmos_ovrl"]} and row["sources"]["dnsmos_ovrl"].startswith(
        "measured by"
    )


def test_pairs_of_predictions_say_so(place: Path) -> None:
    urgentmos("score", place / "labelled.csv", "-o", place / "s.jsonl")
    predicted = urgentmos("pairs", place / "s.jsonl", "--metric", "pesq", "-o", place / "p.jsonl")
    assert "the pesq of these pairs is predicted by pocket" in predicted.stderr
    assert all(row["sources"]["pesq"].startswith("predicted by pocket") for row in rows(place / "p.jsonl"))
    human = urgentmos("pairs", place / "s.jsonl", "-o", place / "h.jsonl")
    assert "Warning" not in human.stderr and {row["sources"]["mos_overall"] for row in rows(place / "h.jsonl")} == {"listeners"}
