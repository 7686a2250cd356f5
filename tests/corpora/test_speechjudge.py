"""SpeechJudge-Data: ties, rows whose sound cannot be decoded, raters' grades."""

import pytest


@pytest.fixture
def speechjudge(disk, sound):
    labels = ["A", "Tie", "B", "A"]
    made = [
        {
            "index": i,
            "chosen": i % 2 == 0,
            "target_text": f"text {i // 2}",
            "audioA": sound(f"{i}a", "WAV"),
            "audioB": sound(f"{i}b") if i != 2 else {"bytes": b"no sound at all", "path": "x.wav"},
            "naturalness_annotation": ["A+1", "Tie (both not good)"],
            "naturalness_label": label,
        }
        for i, label in enumerate(labels)
    ]
    made[3]["audioA"] = {"bytes": None, "path": None}
    disk.parquet("data/train-00000-of-00001.parquet", made)
    return disk


def test_a_row_that_cannot_be_decoded_costs_only_itself(speechjudge, rows) -> None:
    _, output = speechjudge.prepare("speechjudge")
    pairs = rows(output / "train_pairs.jsonl")
    assert [pair["verdict"] for pair in pairs] == ["a", "tie"] and all(pair["metrics"] == {} for pair in pairs)
    errors = [row["error"] for row in rows(output / "left_out.jsonl")]
    assert "cannot be decoded" in errors[0] and "holds no sound" in errors[1] and len(errors) == 2


def test_the_text_is_the_content_and_the_raters_grades_are_kept(speechjudge, rows) -> None:
    _, output = speechjudge.prepare("speechjudge")
    one, two = rows(output / "train_pairs.jsonl")
    assert one["reference_id"] == two["reference_id"] == "text 0"
    assert one["meta"]["naturalness_annotation"] == ["A+1", "Tie (both not good)"] and one["meta"]["chosen"] is True


def test_sound_is_written_once_in_the_format_it_has(speechjudge, rows) -> None:
    _, output = speechjudge.prepare("speechjudge")
    (path_a, path_b) = rows(output / "train_pairs.jsonl")[0]["audio_paths"]
    assert path_a.startswith("audio/") and path_a.endswith(".wav") and path_b.endswith(".flac")
    before = {p: p.stat().st_mtime_ns for p in (output / "audio").iterdir()}
    speechjudge.prepare("speechjudge")
    assert {p: p.stat().st_mtime_ns for p in (output / "audio").iterdir() if p in before} == before


def test_sound_that_was_broken_is_taken_out_again_when_the_data_set_was_fetched_anew(speechjudge, sound) -> None:
    speechjudge.prepare("speechjudge")
    good = [
        {"index": i, "target_text": "t", "audioA": sound(f"{i}a"), "audioB": sound(f"{i}b"), "naturalness_label": "A"}
        for i in range(4)
    ]
    speechjudge.parquet("data/train-00000-of-00001.parquet", good)
    prepared, _ = speechjudge.prepare("speechjudge")
    assert len(prepared.splits[0].pairs) == 4 and not prepared.splits[0].left_out
