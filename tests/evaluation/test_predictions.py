"""Rows of any file as clips or pairs, and how two files are matched."""

import json
from pathlib import Path

import numpy as np
import pytest

from urgentmos.clips.pairs import derive
from urgentmos.clips.verdicts import A, B
from urgentmos.errors import UsageError
from urgentmos.evaluation.predictions import Source, judged_pairs, likeliest, match_clips, read_source


def source(folder: Path, name: str, rows: list[dict] | str, **how: str) -> Source:
    text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
    (folder / name).write_text(text)
    return read_source(folder / name, **how)


# ---- clips


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", "uid,mos_overall\nx,3.5\ny,\n"),
        ("p.csv", "sample_id,pred_score\nx,3.5\ny,\n"),
        ("mos.scp", "x 3.5\ny nan\n"),
        ("p.jsonl", '{"uid": "x", "metrics": {"mos": 3.5}}\n{"uid": "y", "metrics": {"mos_overall": null}}\n'),
        ("p.csv", "utt_id;value\nx;3.5\ny;\n"),
    ],
)
def test_scores_of_anyone_are_read(tmp_path: Path, name: str, text: str) -> None:
    found = source(tmp_path, name, text)
    assert [(row.uid, row.values.get("mos_overall")) for row in found.clips] == [("x", 3.5), ("y", None)] and not found.pairs


def test_a_manifest_keeps_system_content_and_corpus(tmp_path: Path) -> None:
    row = {"audio_path": "a/u.wav", "system_id": "a", "reference_id": "u", "corpus": "c", "metrics": {"estoi": 0.5}}
    clip = source(tmp_path, "m.jsonl", [row]).clips[0]
    assert (clip.uid, clip.system, clip.content, clip.corpus, clip.values) == ("a:u", "a", "u", "c", {"estoi": 0.5})
    assert clip.path == str(tmp_path / "a/u.wav")


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"score": 3}], "no column with the ids of the clips, but score. Call the column with the ids uid"),
        ([{"uid": "x"}, {"score": 3}], "line 2: has no uid"),
        ([{"uid": "x", "score": "good"}], "line 1: score: 'good' is not a number"),
        ([{"uids": ["a", "b"], "verdict": "c"}], "line 1: 'c' is no verdict"),
        ([], "holds no rows"),
    ],
)
def test_rows_without_a_meaning_are_named(tmp_path: Path, rows: list[dict], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        source(tmp_path, "p.jsonl", rows)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        read_source(tmp_path)


def test_an_id_that_comes_again_is_told_and_counted_once_or_each_time(tmp_path: Path) -> None:
    rows = [{"uid": "x", "score": 1}, {"uid": "x", "score": 2}, {"uid": "y", "score": 3}]
    first = source(tmp_path, "p.jsonl", rows)
    assert first.duplicates == ["x"] and [row.values["mos_overall"] for row in first.clips] == [1, 3]
    every = source(tmp_path, "p.jsonl", rows, duplicates="all")
    assert every.duplicates == ["x"] and len(every.clips) == 3
    assert len(match_clips(first, every)) == 3 and len(match_clips(every, every)) == 5  # as a join does


def test_matching_is_by_uid_and_tells_what_is_left(tmp_path: Path) -> None:
    mine = source(tmp_path, "p.csv", "uid,score\nb,2\na,1\nq,9\n")
    theirs = source(tmp_path, "r.csv", "uid,mos_overall,system_id\na,1.5,s\nb,2.5,t\nz,4,s\n")
    found = match_clips(mine, theirs)
    assert found.uids == ["b", "a"] and found.systems == ["t", "s"]
    assert found.predicted["mos_overall"].tolist() == [2, 1] and found.labels["mos_overall"].tolist() == [2.5, 1.5]
    assert found.without_label == ["q"] and found.without_prediction == ["z"]


# ---- pairs


def test_rows_of_pairs_compare_and_judges_are_read(tmp_path: Path) -> None:
    rows = [
        {
            "uids": ["x", "y"],
            "audio_paths": ["x.wav", "y.wav"],
            "metrics": {"mos_overall": 0.6},
            "verdict": "a",
            "scope": "any",
        },
        {"a": "x.wav", "b": "y.wav", "p_a": 0.2, "p_tie": 0.5, "p_b": 0.3, "cmos": -0.1, "verdict": "tie"},
        {"uid_a": "y", "uid_b": "x", "verdict": "A is better"},
        {"uids": ["y", "z"], "verdict": "tie", "scope": "native"},
    ]
    pairs = source(tmp_path, "p.jsonl", rows).pairs
    assert [row.native for row in pairs] == [False, False, True, True]
    assert [row.verdict for row in pairs] == [A, 0, A, 0]
    assert pairs[0].paths == (str(tmp_path / "x.wav"), str(tmp_path / "y.wav")) and pairs[1].metrics == {"mos_overall": -0.1}


def test_a_csv_of_verdicts_is_read(tmp_path: Path) -> None:
    pairs = source(tmp_path, "judge.csv", "a,b,verdict\nx,y,B\ny,z,Tie\nx,z,\n").pairs
    assert [row.verdict for row in pairs[:2]] == [B, 0] and np.isnan(pairs[2].verdict)


def test_the_likeliest_of_three() -> None:
    p_a, p_tie, p_b = np.array([[0.5, 0.2, 0.4, 0.3, np.nan], [0.1, 0.5, 0.2, 0.4, 0.1], [0.4, 0.3, 0.4, 0.3, 0.2]])
    np.testing.assert_array_equal(likeliest(p_a, p_tie, p_b), [A, 0, 0, 0, np.nan])


def test_mirrored_pairs_are_found_and_turned(tmp_path: Path) -> None:
    asked = source(tmp_path, "r.jsonl", [{"uids": list(pair), "verdict": "a"} for pair in ("xy", "yx", "xz", "yz")])
    rows = [{"uids": ["x", "y"], "p_a": 0.7, "p_tie": 0.2, "p_b": 0.1, "cmos": 1.5}, {"uids": ["z", "x"], "cmos": 0.4}]
    judges = judged_pairs(source(tmp_path, "p.jsonl", rows), asked.pairs, "mos_overall")
    np.testing.assert_array_equal(judges["verdict"][0].verdict, [A, B, np.nan, np.nan])
    np.testing.assert_array_equal(judges["verdict"][0].leaning, [1, -1, np.nan, np.nan])
    np.testing.assert_array_equal(judges["cmos"][0].gap, [1.5, -1.5, -0.4, np.nan])


def test_a_row_in_the_right_order_goes_before_a_mirrored_one(tmp_path: Path) -> None:
    asked = source(tmp_path, "r.jsonl", [{"uids": ["x", "y"], "verdict": "a"}])
    rows = [{"uids": ["y", "x"], "cmos": 3.0}, {"uids": ["x", "y"], "cmos": 1.0}]
    for order in (rows, rows[::-1]):
        judges = judged_pairs(source(tmp_path, "p.jsonl", order), asked.pairs, "mos_overall")
        assert judges["cmos"][0].gap.tolist() == [1.0]


def test_files_that_compare_names_are_found_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = source(tmp_path, "r.jsonl", [{"uids": ["x", "y"], "audio_paths": ["in/x.wav", "in/y.wav"], "verdict": "a"}])
    monkeypatch.chdir(tmp_path / "..")
    name = tmp_path.name
    said = source(tmp_path, "p.jsonl", [{"a": f"{name}/in/y.wav", "b": f"{name}/in/x.wav", "verdict": "b"}])
    assert judged_pairs(said, asked.pairs, "mos_overall")["verdict"][0].verdict.tolist() == [A]


def test_a_score_of_the_pair_itself_is_a_cmos(tmp_path: Path) -> None:
    asked = source(tmp_path, "r.jsonl", [{"sample_id": "p1", "uids": ["x", "y"], "metrics": {"mos_overall": 1.0}}])
    said = source(tmp_path, "p.csv", "sample_id,pred_score\np1,0.7\n")
    assert judged_pairs(said, asked.pairs, "mos_overall")["cmos"][0].gap.tolist() == [0.7]


def test_what_pairs_writes_is_read_back(tmp_path: Path) -> None:
    from urgentmos.clips.clip import Clip
    from urgentmos.clips.pairs import RowMaker
    from urgentmos.clips.tables import write_records

    clips = [Clip(s, f"{s}.wav", s, "u", "c", 1.0, None, {"mos_overall": m}) for s, m in (("x", 4.0), ("y", 3.0), ("z", 3.2))]
    pairs = derive(clips)
    for ending in ("jsonl", "csv", "json", "parquet"):
        path = tmp_path / f"p.{ending}"
        write_records(map(RowMaker(tmp_path), pairs), path)
        read = read_source(path).pairs
        assert [(r.a, r.b, r.metrics["mos_overall"]) for r in read] == [(p.a.uid, p.b.uid, p.cmos) for p in pairs]
        assert not any(r.native for r in read)
