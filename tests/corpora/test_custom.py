"""Your own table: columns by name, ids as text, paths with blanks and accents, splits, ratings."""

import re
import unicodedata

import pytest

from urgentmos.errors import UsageError

COLUMNS = {"audio_path": "wav", "mos_overall": "score", "system_id": "model", "reference_id": "text"}


def test_columns_are_taken_by_name_and_ids_stay_text(disk) -> None:
    disk.text("my.csv", "wav,score,model,text,pesq", "a b/ü.wav,3.5,015,1,2.5", "c.wav,,15,1,", encoding="utf-8-sig")
    one, two = disk.clips("custom", "train", **COLUMNS, pesq="pesq").values()
    assert (one.system_id, one.reference_id, two.system_id) == ("015", "1", "15")
    assert one.metrics == {"mos_overall": 3.5, "pesq": 2.5} and two.metrics == {"mos_overall": None, "pesq": None}
    assert one.audio_path == str(disk.root / "a b" / "ü.wav")


def test_a_path_in_the_other_unicode_form_and_with_blanks_opens(disk, rows) -> None:
    disk.wav(unicodedata.normalize("NFD", "a b/ü.wav"))
    disk.text("my.csv", "wav,score,model,text", unicodedata.normalize("NFC", "a b/ü.wav,3.5,x,1"))
    _, output = disk.prepare("custom", options=COLUMNS)
    (row,) = rows(output / "train.jsonl")
    assert (output / row["audio_path"]).is_file()


def test_ratings_become_means(disk) -> None:
    disk.text("my.tsv", "wav\tscore\twho", "a.wav\t4\tL1", "a.wav\t2\tL2", "a.wav\t2\tL2")
    (clip,) = disk.clips("custom", "train", audio_path="wav", mos_overall="score", listener="who").values()
    assert clip.metrics == {"mos_overall": 3.0} and clip.meta["mos_overall"] == [["L1", 4.0], ["L2", 2.0]]


def test_splits_are_a_column_or_made_from_the_contents(disk, rows) -> None:
    lines = [f"{i}.wav,3,x,t{i}" for i in range(20)]
    disk.wav(*(f"{i}.wav" for i in range(20)))
    disk.text("my.csv", "wav,score,model,text", *lines)
    prepared, _ = disk.prepare("custom", options=COLUMNS, dev_share=0.3)
    assert {split.name for split in prepared.splits} == {"train", "dev"}
    disk.text(
        "my.csv", "wav,score,model,text,set", *(f"{line},{'valid' if i < 5 else 'train'}" for i, line in enumerate(lines))
    )
    prepared, _ = disk.prepare("custom", options={**COLUMNS, "split": "set"}, dev_share=0.3)
    assert {split.name: len(split.clips) for split in prepared.splits} == {"train": 15, "dev": 5}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"audio_path": "wav"}, "metric=COLUMN are needed"),
        ({"mos": "score"}, "audio_path=COLUMN"),
        ({"audio_path": "wav", "mos": "points"}, "no column 'points'"),
        ({"audio_path": "wav", "quality": "score"}, "quality= is not understood"),
        ({"audio_path": "wav", "mos": "score", "split": "model"}, "split 'x' is none of"),
        ({"audio_path": "wav", "mos": "score", "file": "other.csv"}, "no other.csv"),
    ],
)
def test_what_is_not_understood_is_told(disk, options: dict[str, str], said: str) -> None:
    disk.text("my.csv", "wav,score,model", "a.wav,3,x")
    with pytest.raises(UsageError, match=said):
        disk.clips("custom", "train", **options)


def test_the_same_row_twice_is_left_out_once(disk, rows) -> None:
    disk.wav("a.wav", "b.wav")
    disk.text("my.csv", "wav,score", "a.wav,3", "a.wav,3", "b.wav,2", "b.wav,4")
    _, output = disk.prepare("custom", options={"audio_path": "wav", "mos": "score"})
    assert [row["metrics"]["mos_overall"] for row in rows(output / "train.jsonl")] == [3.0, 2.0]
    errors = [row["error"] for row in rows(output / "left_out.jsonl")]
    assert errors == ["the same row stands there twice", "its uid was taken by an earlier row with another label"]


# ---- cells and ratings that cannot be used

LISTENERS = {"audio_path": "wav", "mos_overall": "score", "listener": "who"}


@pytest.mark.parametrize("text", ["good", "3.5*", "--", "1 000"])
@pytest.mark.parametrize("options", [{"audio_path": "wav", "mos_overall": "score"}, LISTENERS])
def test_a_cell_that_is_no_number_is_named(disk, text: str, options: dict[str, str]) -> None:
    disk.text("my.csv", "wav,score,who", "a.wav,3,L1", ",,", f"b.wav,{text},L2")
    with pytest.raises(UsageError, match=rf"my.csv, line 4: score: '{re.escape(text)}' is not a number.*leave it empty"):
        disk.clips("custom", "train", **options)


@pytest.mark.parametrize("text", ["", "NA", "n/a", "-", "#N/A", "null", "None", "NaN"])
def test_a_missing_rating_is_missing(disk, text: str) -> None:
    disk.text("my.csv", "wav,score,who", "a.wav,3,L1", f"a.wav,{text},L2")
    (clip,) = disk.clips("custom", "train", **LISTENERS).values()
    assert clip.metrics == {"mos_overall": 3.0} and clip.meta["empty_ratings"] == 1


@pytest.mark.parametrize("code", ["-1", "0", "-999", "99", "inf"])
def test_an_error_code_is_no_rating(disk, code: str) -> None:
    disk.wav("a.wav")
    disk.text("my.csv", "wav;score;who", "a.wav;3,5;L1", f"a.wav;{code};L2", "a.wav;4;L3")
    prepared, _ = disk.prepare("custom", options=LISTENERS)
    clips = [clip for split in prepared.splits for clip in split.clips]
    assert [clip.metrics for clip in clips] == [{"mos_overall": 3.75}]
    assert any(f"1 rating lies outside 1 .. 5, not counted, the first: custom:a ({code})" in w for w in prepared.warnings)


def test_ratings_on_another_scale_are_refused(disk) -> None:
    disk.text("my.csv", "wav,score,who", "a.wav,30,L1", "a.wav,55,L2", "b.wav,4,L1")
    with pytest.raises(UsageError, match=r"2 of 3 values of mos_overall .*the scale looks wrong"):
        disk.clips("custom", "train", **LISTENERS)


def test_a_table_without_a_header_is_recognised(disk) -> None:
    disk.text("my.csv", "a.wav,3", "b.wav,4")
    with pytest.raises(UsageError, match="Line 1 looks like data"):
        disk.clips("custom", "train", audio_path="wav", mos_overall="score")


def test_a_table_that_score_wrote_gives_predictions_and_another_listeners(tmp_path):
    (tmp_path / "s.csv").write_text(
        "audio_path,model,metrics.mos_overall,sources.mos_overall,meta.version,mos\na.wav,pocket,3.0,,v1,2.0\n"
        "b.wav,pocket,3.0,listeners,v1,2.0\n"
    )
    from urgentmos.corpora import custom

    scored = list(custom.clips(tmp_path, "train", audio_path="audio_path", mos_overall="metrics.mos_overall"))
    assert [clip.sources for clip in scored] == [{"mos_overall": "predicted by pocket v1"}, {"mos_overall": "listeners"}]
    own = list(custom.clips(tmp_path, "train", audio_path="audio_path", system_id="model", mos_overall="mos"))
    assert [clip.sources for clip in own] == [{}, {}]
