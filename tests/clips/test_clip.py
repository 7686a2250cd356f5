"""A manifest row becomes a clip and the clip becomes the row again."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.clips.clip import Clip, from_record, to_record

names = st.text(min_size=1, max_size=8)
values = st.none() | st.integers() | names | st.lists(names, max_size=2)


@given(
    meta=st.dictionaries(names, values, max_size=3),
    extra=st.dictionaries(st.sampled_from(["votes", "error", "model"]), names),
    metrics=st.dictionaries(st.sampled_from(["mos_overall", "pesq"]), st.none() | st.floats(-5, 5)),
)
def test_no_key_of_a_row_is_lost(meta, extra, metrics):
    row = {"uid": "u", "audio_path": "a.wav", "metrics": metrics, "meta": meta, **extra}
    clip = from_record(row)
    assert clip.metrics == metrics
    kept = to_record(clip, None)["meta"]
    assert {key: kept[key] for key in meta} == meta
    assert all(value in (kept.get(key), kept.get(f"row.{key}")) for key, value in extra.items())


def test_a_row_that_says_two_things_under_one_name_keeps_both():
    assert from_record({"audio_path": "a", "votes": 8, "meta": {"votes": 9}}).meta == {"votes": 9, "row.votes": 8}


def test_keys_come_in_the_order_of_the_contract():
    row = to_record(Clip("u", "a.wav"), None, {"model": "pocket", "error": None, "warnings": []})
    first = [
        "uid",
        "audio_path",
        "system_id",
        "reference_id",
        "corpus",
        "duration",
        "reference_path",
        "metrics",
        "sources",
        "meta",
    ]
    assert list(row) == [*first, "model", "error", "warnings"]


@pytest.mark.parametrize(
    "row", [{"mos": 3}, {"metrics": {"mos": 3}}, {"metrics.mos": "3.0"}, {"mos_overall": 3.0, "mos": None}]
)
def test_a_released_mos_is_our_mos_overall(row):
    assert from_record({"audio_path": "a", **row}).metrics == {"mos_overall": 3.0}


def test_two_values_for_one_metric_are_refused():
    with pytest.raises(ValueError, match="two values for mos_overall"):
        from_record({"audio_path": "a", "mos": 3, "metrics": {"mos_overall": 4}})


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({}, "no audio_path"),
        ({"audio_path": ""}, "no audio_path"),
        ({"file": "a.wav"}, "rename 'file'"),
        ({"audio_path": 3}, "not a path"),
        ({"audio_path": "a", "system_id": ["x"]}, "system_id"),
        ({"audio_path": "a", "metrics": [1]}, "metrics"),
        ({"audio_path": "a", "meta": "x"}, "meta"),
        ({"audio_path": "a", "duration": "long"}, "duration: 'long' is not a number"),
        ({"audio_path": "a", "pesq": "good"}, "pesq: 'good' is not a number"),
    ],
)
def test_a_row_without_meaning_says_why(row, sentence):
    with pytest.raises(ValueError, match=sentence):
        from_record(row)


def test_ids_are_text():
    clip = from_record({"audio_path": "a", "uid": 7, "system_id": "015", "reference_id": 3.0, "corpus": ""})
    assert (clip.uid, clip.system_id, clip.reference_id, clip.corpus) == ("7", "015", "3", None)


def test_a_uid_is_made_where_there_is_none():
    assert from_record({"audio_path": "x/a.b.wav"}).uid == "x/a.b"
    assert from_record({"audio_path": "a.wav", "system_id": "s", "reference_id": "u"}).uid == "s:u"


def test_an_earlier_error_makes_way_for_the_new_one():
    clip = from_record({"audio_path": "a", "error": "too short", "warnings": [], "model": "old"})
    assert clip.meta == {"error": "too short", "model": "old"}
    row = to_record(clip, None, {"error": None, "warnings": []})
    assert row["error"] is None
    assert row["meta"] == {"model": "old"}


def test_paths_go_out_relative_to_the_file_and_come_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("sub/x y/a.wav", str(tmp_path / "sub" / "b.wav"), "sub/../sub/c.wav"):
        row = to_record(Clip("u", path, reference_path=path), tmp_path / "sub")
        assert not os.path.isabs(row["audio_path"])
        assert row["audio_path"] == row["reference_path"]
        back = from_record(row, "sub")
        assert os.path.abspath(back.audio_path) == os.path.abspath(path)


def test_a_path_elsewhere_goes_out_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert to_record(Clip("u", "a.wav"), "subfolder")["audio_path"] == str(tmp_path / "a.wav")
    assert to_record(Clip("u", "subfolder2/a.wav"), "subfolder")["audio_path"] == str(tmp_path / "subfolder2" / "a.wav")
    assert to_record(Clip("u", "a.wav"), None)["audio_path"] == "a.wav"


def test_dots_behind_a_link_are_followed_on_disk(tmp_path):
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "real" / "a.wav").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    row = to_record(Clip("u", str(tmp_path / "link" / ".." / "a.wav")), tmp_path)
    assert (tmp_path / row["audio_path"]).samefile(tmp_path / "real" / "a.wav")
