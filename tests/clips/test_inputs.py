"""Any input becomes clips with paths that open and uids that stay; what cannot is a sentence."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.clips.clip import Clip
from urgentmos.clips.inputs import (
    check,
    is_urgentpk,
    read_clips,
    read_systems,
    to_record,
    write_records,
)
from urgentmos.errors import UsageError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"RIFF")
    return root


def uids(clips: list[Clip]) -> list[str]:
    return [clip.uid for clip in clips]


# ---- files and folders


def test_a_folder_is_read_recursively_sorted_and_without_junk(tmp_path):
    touch(
        tmp_path,
        "b/2.WAV",
        "b/10.flac",
        "a.x.mp3",
        "c é/x y.ogg",
        "notes.txt",
        ".hidden.wav",
        "._a.wav",
        "__MACOSX/a.wav",
        ".d/a.wav",
    )
    clips = read_clips([tmp_path])
    assert uids(clips) == ["a.x", "b/10", "b/2", "c é/x y"]
    assert all(Path(clip.audio_path).is_file() for clip in clips)


def test_what_is_named_like_audio_gives_a_row_whatever_it_is(tmp_path):
    touch(tmp_path, "full.wav/inside.wav", "z.wav")
    (tmp_path / "empty.wav").mkdir()
    (tmp_path / "broken.wav").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self.wav").symlink_to(tmp_path / "self.wav")
    assert uids(read_clips([tmp_path])) == ["broken", "empty", "full.wav/inside", "self", "z"]
    assert uids(read_clips([tmp_path / "broken.wav", tmp_path / "empty.wav"])) == ["broken", "empty"]


def test_links_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path, "in/a/1.wav", "other/2.wav")
    (tmp_path / "in" / "a" / "up").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "b").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "back").symlink_to(tmp_path / "in")
    assert uids(read_clips([tmp_path / "in"])) == ["a/1", "b/2"]


def test_inputs_are_concatenated_in_order_and_uids_stay_unique(tmp_path):
    touch(tmp_path, "p/u.wav", "p/v.wav", "q/u.wav", "r/w.wav")
    assert uids(read_clips([tmp_path / "q", tmp_path / "p", tmp_path / "r"])) == ["q/u", "p/u", "p/v", "w"]
    assert uids(read_clips([tmp_path / "r/w.wav", tmp_path / "p/u.wav"])) == ["w", "u"]
    assert uids(read_clips([tmp_path / "p/u.wav", tmp_path / "q/u.wav"])) == ["p/u", "q/u"]
    assert uids(read_clips([tmp_path / "r/w.wav"] * 3)) == ["r/w", "r/w#2", "r/w#3"]


def test_one_folder_with_the_same_name_in_two_formats(tmp_path):
    touch(tmp_path, "a.flac", "a.wav", "a#2.wav")
    assert uids(read_clips([tmp_path])) == ["a#2", "a", "a#3"]


def test_a_number_never_takes_the_name_of_a_later_file(tmp_path):
    (tmp_path / "m.csv").write_text("audio_path\na.wav\na.flac\na#2.wav\n")
    assert uids(read_clips([tmp_path / "m.csv"])) == ["a", "a#3", "a#2"]


@given(st.lists(st.sampled_from(["a.wav", "a.flac", "a#2.wav", "b/a.wav", "b/a.mp3"]), min_size=1, max_size=8))
def test_uids_of_files_never_repeat(tmp_path_factory, names):
    root = touch(tmp_path_factory.getbasetemp() / "uids", *names)
    clips = read_clips([root / name for name in names])
    assert [clip.audio_path for clip in clips] == [str(root / name) for name in names]
    assert len(set(uids(clips))) == len(clips)


def test_a_relative_input_opens_from_the_current_directory(tmp_path, monkeypatch):
    touch(tmp_path, "d/a.wav")
    (tmp_path / "d" / "m.jsonl").write_text('{"audio_path": "a.wav"}\n')
    monkeypatch.chdir(tmp_path)
    for name in ("d", "d/a.wav", "d/m.jsonl"):
        assert read_clips(name)[0].audio_path == os.path.join("d", "a.wav")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("no.wav", "no such file"), ("a.txt", "no known kind"), ("bare", "holds no clips"), ("none.jsonl", "holds no clips")],
)
def test_an_input_without_clips_is_a_sentence_that_says_what_works(name, sentence, tmp_path):
    touch(tmp_path, "a.txt")
    (tmp_path / "bare").mkdir()
    (tmp_path / "none.jsonl").touch()
    with pytest.raises(UsageError, match=sentence) as e:
        read_clips([tmp_path / name])
    assert name in str(e.value)
    assert "manifest" in str(e.value)


def test_no_input_is_a_sentence():
    with pytest.raises(UsageError, match="no input"):
        read_clips([])


# ---- manifests


def test_paths_are_relative_to_the_manifest_and_need_not_exist(tmp_path):
    rows = [{"audio_path": "x y/a.wav", "reference_path": "clean/a.wav"}, {"audio_path": "/abs/b.wav"}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    a, b = read_clips([tmp_path / "m.jsonl"])
    assert (a.uid, a.audio_path, a.reference_path) == ("x y/a", f"{tmp_path}/x y/a.wav", f"{tmp_path}/clean/a.wav")
    assert b.audio_path == "/abs/b.wav"


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_clips_round_trip_through_every_format(suffix, tmp_path):
    clips = [
        Clip(
            "015",
            str(tmp_path / "a b.wav"),
            "s",
            "u",
            "c",
            1.5,
            str(tmp_path / "r.wav"),
            {"pesq": 0.1 + 0.2},
            {"k": "", "n": [1]},
        ),
        Clip("é", "/abs/b.wav", metrics={"pesq": None}, meta={"k": "015"}),
    ]
    write_records([to_record(clip, tmp_path) for clip in clips], tmp_path / f"m{suffix}")
    assert read_clips([tmp_path / f"m{suffix}"]) == clips


def test_explicit_uids_are_kept_and_repeats_are_for_check(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"uid": "u", "audio_path": "a.wav"}\n{"uid": "u", "audio_path": "b.wav"}\n')
    touch(tmp_path, "u.wav", "a.wav", "b.wav")
    clips = read_clips([tmp_path / "u.wav", tmp_path / "m.jsonl"])
    assert uids(clips) == [f"{tmp_path.name}/u", "u", "u"]
    assert [p.kind for p in check(clips)] == ["duplicate uid"]


def test_bad_rows_are_collected_with_file_and_line(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"audio_path": "a.wav"}\n{"uid": "b"}\n\n{oops\n{"audio_path": "c", "pesq": "good"}\n')
    with pytest.raises(UsageError) as e:
        read_clips([tmp_path / "m.jsonl"])
    said = [line.split("m.jsonl, ")[1] for line in str(e.value).splitlines() if "m.jsonl, " in line]
    assert [line.split(":")[0] for line in said] == ["line 2", "line 4", "line 5"]


def test_a_csv_without_a_header_or_path_names_what_it_has(tmp_path):
    (tmp_path / "m.csv").write_text("x/a.wav,3.5\nx/b.wav,3.6\n")
    with pytest.raises(UsageError, match=r"no audio_path, but 'x/a.wav', '3.5'"):
        read_clips([tmp_path / "m.csv"])


def test_scp_paths_may_hold_blanks_and_lie_beside_it_or_here(tmp_path, monkeypatch):
    touch(tmp_path, "data/wav/a b.wav", "here/c.wav")
    (tmp_path / "data" / "wav.scp").write_text("015\twav/a b.wav\r\n\nc here/c.wav\nd gone.wav\n")
    monkeypatch.chdir(tmp_path)
    clips = read_clips(["data/wav.scp"])
    assert uids(clips) == ["015", "c", "d"]
    assert [clip.audio_path for clip in clips] == ["data/wav/a b.wav", "here/c.wav", "data/gone.wav"]
    (tmp_path / "kaldi").mkdir()
    (tmp_path / "kaldi" / "wav.scp").write_text("a ../data/wav/a b.wav\n")
    assert Path(read_clips(["kaldi"])[0].audio_path).is_file()


def test_a_command_in_a_scp_is_refused_and_not_run(tmp_path):
    (tmp_path / "wav.scp").write_text(f"a touch {tmp_path}/ran |\n")
    with pytest.raises(UsageError, match="command"):
        read_clips([tmp_path / "wav.scp"])
    assert not (tmp_path / "ran").exists()


def test_a_scp_of_values_is_no_list_of_clips(tmp_path):
    (tmp_path / "mos.scp").write_text("a 3.5\n")
    with pytest.raises(UsageError, match="audio_path"):
        read_clips([tmp_path / "mos.scp"])


@settings(max_examples=150)
@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["uid", "audio_path", "metrics", "meta", "mos", "duration", "x"]), inner)
            ),
        ),
        max_size=3,
    )
)
def test_no_json_makes_a_traceback(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_text(json.dumps(rows))
    try:
        assert len(read_clips([path])) == len(rows)
    except UsageError as e:
        assert "fuzz.json" in str(e)


# ---- systems


def test_one_folder_per_system(tmp_path):
    touch(tmp_path, "b/x.wav", "b/sub/y.wav", "a/x.flac", "a/sub/y.wav", "stray.wav", ".git/x.wav")
    clips = read_systems(tmp_path)
    assert uids(clips) == ["a:sub/y", "a:x", "b:sub/y", "b:x"]
    assert {(clip.system_id, clip.reference_id) for clip in clips} == {(s, u) for s in "ab" for u in ("x", "sub/y")}
    assert check(clips, systems=True) == []


@pytest.mark.parametrize(
    ("names", "sentence"), [(["x.wav"], "one folder per system"), (["a/x.wav", "b/notes.txt"], "system without audio")]
)
def test_a_folder_without_systems_explains_the_layout(names, sentence, tmp_path):
    touch(tmp_path, *names)
    with pytest.raises(UsageError, match=sentence):
        read_systems(tmp_path)


@pytest.mark.parametrize("name", ["system_id", "reference_id"])
def test_a_manifest_to_rank_names_the_missing_column(name, tmp_path):
    rows = [{"uid": f"{i}", "audio_path": "a.wav", "system_id": "s", "reference_id": f"u{i}"} for i in range(3)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert uids(read_systems(tmp_path / "m.jsonl")) == ["0", "1", "2"]
    del rows[1][name]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UsageError, match=f"1 of 3 rows have no {name}"):
        read_systems(tmp_path / "m.jsonl")


def test_rows_that_score_wrote_can_be_ranked(tmp_path):
    clip = Clip("s:u", str(tmp_path / "a.wav"), "s", "u", metrics={"mos_overall": 3.5})
    write_records([to_record(clip, tmp_path, {"model": "pocket", "error": None, "warnings": []})], tmp_path / "m.csv")
    (back,) = read_systems(tmp_path / "m.csv")
    assert back.metrics == {"mos_overall": 3.5}
    assert back.meta == {"model": "pocket"}


@pytest.fixture
def urgentpk(tmp_path):
    root = tmp_path / "set"
    for system in ("b", "a"):
        touch(root, f"{system}/wav/u 1.wav", f"{system}/wav/u2.wav", f"{system}/wav/u3.wav")
        (root / system / "wav.scp").write_text("u1 wav/u 1.wav\nu2 wav/u2.wav\nu3 wav/u3.wav\n")
        (root / system / "mos.scp").write_text("u1 3.5\nu2 nan\n")
    (root / "split.json").write_text('{"tr": ["u1"], "cv": [], "tt": ["u3", "u2"]}')
    return root


def test_an_urgentpk_folder(urgentpk):
    assert is_urgentpk(urgentpk)
    clips = read_systems(urgentpk)
    assert uids(clips) == ["a:u3", "a:u2", "b:u3", "b:u2"]
    assert [clip.metrics for clip in clips] == [{}, {"mos_overall": None}] * 2
    assert read_systems(urgentpk, "tr")[0].metrics == {"mos_overall": 3.5}
    assert uids(read_clips([urgentpk])) == ["a:u1", "a:u2", "a:u3", "b:u1", "b:u2", "b:u3"]
    assert check(read_clips([urgentpk]), systems=True) == []


@pytest.mark.parametrize(
    ("text", "subset", "sentence"),
    [
        ('{"tr": ["u1"]}', "tt", "no subset 'tt', but tr"),
        ('{"tt": []}', "tt", "Choose another"),
        ('{"tt": 3}', "tt", "not a list"),
        ("[1]", "tt", "no subset"),
        ("{", "tt", "cannot be read"),
    ],
)
def test_a_wrong_split_is_a_sentence(text, subset, sentence, urgentpk):
    (urgentpk / "split.json").write_text(text)
    with pytest.raises(UsageError, match=sentence):
        read_systems(urgentpk, subset)


def test_a_content_that_one_system_lacks_is_found_by_check(urgentpk):
    (urgentpk / "a" / "wav.scp").write_text("u2 wav/u2.wav\n")
    found = check(read_systems(urgentpk), systems=True)
    assert [(p.kind, p.uid) for p in found] == [("unequal contents", "a")]


def test_a_system_without_any_content_is_not_dropped(urgentpk):
    (urgentpk / "a" / "wav.scp").write_text("u9 wav/u2.wav\n")
    with pytest.raises(UsageError, match="a without any content"):
        read_systems(urgentpk)


# ---- real data


def test_the_reference_data_set_is_read_whole(shared):
    clips = read_systems(shared / "parity" / "rank" / "dataset")
    assert len(clips) == 48
    assert all(1 <= (clip.metrics["mos_overall"] or 0) <= 5 for clip in clips)
    assert check(clips, systems=True) == []


def test_labels_of_a_listening_test_are_read(shared):
    clips = read_clips([shared / "data" / "human" / "p835" / "labels.csv"])
    assert len(clips) == 78
    assert check(clips, systems=True) == []
    assert all(clip.metrics["mos_overall"] and clip.meta["votes"] > 0 for clip in clips)
