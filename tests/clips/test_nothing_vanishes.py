"""Whatever audio is given is used, or named in an error or a note: random trees of systems, archives, junk and odd names."""

import io
import os
import shutil
import tarfile
import unicodedata
import zipfile
from itertools import count
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from urgentmos.audio import left_out
from urgentmos.audio.formats import FOREIGN_SUFFIXES, is_foreign, is_sound
from urgentmos.audio.places import archives
from urgentmos.clips.clip import to_record
from urgentmos.clips.inputs import Inputs, read_clips, read_inputs, read_pairs, read_system_inputs, write_records
from urgentmos.common.names import name_key
from urgentmos.errors import UsageError

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
CLOSED = (".7z", ".rar", ".tar.zst")
STEMS = ["utt1", "utt2", "Utt1", "caf\u00e9", "cafe\u0301", "a.b", "x y", "u#1", "-1"]
ENDINGS = [".wav", ".flac", ".WAV", ".mp3", ".mp2", ".sph", ".lab", ".txt", ".csv", ".json", ""]
REFUSED = [".wav.gz", ".zip"]
FOLDERS = ["", "", "", "sub/", "own/", "__MACOSX/", ".hidden/"]


def names_of(endings: list[str]) -> st.SearchStrategy[str]:
    return st.builds("{}{}{}".format, st.sampled_from(FOLDERS), st.sampled_from(STEMS), st.sampled_from(endings))


mild = st.lists(names_of(ENDINGS), max_size=6, unique_by=lambda name: name_key(os.path.splitext(name)[0]))
files = st.one_of(mild, mild, mild, st.lists(names_of([*ENDINGS, *REFUSED]), max_size=6))
some_audio = files.map(lambda names: ["same.wav", *names])  # else most systems have nothing in common, and are refused
kind_of_system = st.sampled_from(["", *ARCHIVES, "", *ARCHIVES, "", *ARCHIVES, ".7z", ".tar.zst"])
trees = st.one_of(
    st.lists(st.tuples(st.sampled_from("abcdef"), kind_of_system, some_audio), max_size=3, unique_by=lambda system: system[0]),
    st.lists(st.tuples(st.sampled_from("ab"), kind_of_system, files), max_size=4),
)
_numbers = count()


def pack(path: Path, names: list[str]) -> None:
    """An archive of empty-ish members; one with an ending that no packer here writes holds nothing."""
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            for name in dict.fromkeys(names):
                out.writestr(name, b"RIFF")
    elif path.name.endswith(ARCHIVES):
        mode = {".tar": "w", ".tgz": "w:gz"}.get(path.suffix, f"w:{path.suffix[1:]}")
        with tarfile.open(path, mode) as out:
            for name in dict.fromkeys(names):
                info = tarfile.TarInfo(name)
                info.size = 4
                out.addfile(info, io.BytesIO(b"RIFF"))
    else:
        path.write_bytes(b"7z")


def plant(root: Path, systems: list[tuple[str, str, list[str]]], loose: list[str]) -> set[str]:
    """Writes the tree; returns places of all audio in it: paths, and ARCHIVE#MEMBER."""
    audio = set()
    for system, ending, names in systems:
        if ending:
            pack(root / f"{system}{ending}", names)
            if ending in CLOSED:
                audio.add(str(root / f"{system}{ending}"))
        for name in names:
            place = f"{root / system}{ending}#{name}" if ending else f"{root / system}/{name}"
            if not ending:
                write(Path(place))
            if is_given(name) and ending not in CLOSED:
                audio.add(place)
    for name in loose:
        write(root / name)
        if is_given(name):
            audio.add(str(root / name))
    # a repeated archive was written over: only what is in the last one was given
    return {place for place in audio if "#" not in place or member_exists(place)}


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"RIFF") if not path.name.endswith(".zip") else pack(path, ["deep.wav"])


def member_exists(place: str) -> bool:
    file, _, name = place.partition("#") if os.path.exists(place.partition("#")[0]) else (place, "", "")
    if not name or os.path.lexists(place):
        return True
    if file.endswith(".zip"):
        return name in zipfile.ZipFile(file).namelist()
    return name in tarfile.open(file).getnames()


def is_given(name: str) -> bool:
    """Whether it is audio that a user would miss: sound, packed sound, archives; not what is hidden."""
    parts = name.split("/")
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return False
    return is_sound(name) or is_foreign(name) or name.endswith((".wav.gz", ".zip"))


def unnamed(audio: set[str], used: set[str], sentences: str) -> list[str]:
    """Audio that is neither used nor named. A zip is used if something in it is."""
    return [
        place
        for place in audio
        if place not in used
        and not any(one.startswith(f"{place}#") for one in used)
        and place.rpartition("/")[2].rpartition("#")[2] not in sentences
    ]


@settings(max_examples=200, deadline=None)
@given(systems=trees, loose=mild)
def test_every_recording_is_used_or_named(systems, loose, tmp_path_factory):
    root = tmp_path_factory.getbasetemp() / f"tree{next(_numbers)}"
    root.mkdir()
    named = left_out._NAMED
    left_out._NAMED = 1000  # so that a note spells out all
    try:
        audio = plant(root, systems, loose)
        for read in (read_inputs, read_system_inputs):
            try:
                inputs: Inputs = read(root)
            except UsageError as e:
                assert str(root) in str(e)
                continue
            event(f"{read.__name__} reads the tree")
            notes = "\n".join(note.sentence for note in inputs.notes)
            assert unnamed(audio, {clip.audio_path for clip in inputs.clips}, notes) == []
            if read is read_system_inputs:
                said = "\n".join(inputs.warnings)
                assert unnamed(audio, {clip.audio_path for clip in inputs.clips}, said) == [], "a ranking says it, too"
    finally:
        left_out._NAMED = named
        shutil.rmtree(root)


@settings(max_examples=100, deadline=None)
@given(a=some_audio, b=some_audio, kind_a=kind_of_system, kind_b=kind_of_system)
def test_every_recording_of_two_folders_is_compared_or_named(a, b, kind_a, kind_b, tmp_path_factory):
    root = tmp_path_factory.getbasetemp() / f"pair{next(_numbers)}"
    root.mkdir()
    named = left_out._NAMED
    left_out._NAMED = 1000
    try:
        audio = plant(root, [("a", kind_a, a), ("b", kind_b, b)], [])
        paths = [root / f"a{kind_a}", root / f"b{kind_b}"]
        try:
            pairs = read_pairs(*paths)
        except UsageError as e:
            assert str(root) in str(e)
            return
        used = {clip.audio_path for pair in pairs.pairs for clip in pair} | {*pairs.alone[0], *pairs.alone[1]}
        assert unnamed(audio, used, "\n".join(note.sentence for note in pairs.notes)) == []
        assert all(name_key(x.reference_id) == name_key(y.reference_id) for x, y in pairs.pairs)
    finally:
        left_out._NAMED = named
        shutil.rmtree(root)


@pytest.mark.parametrize("suffix", sorted(FOREIGN_SUFFIXES))
def test_sound_of_a_kind_that_is_not_read_is_named_as_such(suffix, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    (tmp_path / f"b{suffix.upper()}").write_bytes(b"x")
    inputs = read_inputs(tmp_path)
    if len(inputs.clips) == 1:  # else audio.py reads it
        (note,) = inputs.notes
        assert f"b{suffix.upper()} (sound of a kind that is not read" in note.sentence and note.warning == note.sentence


# ---- names

name_bytes = st.binary(min_size=1, max_size=12).map(lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_"))
letters = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=6)
stems = st.one_of(name_bytes.map(os.fsdecode), letters, letters.map(lambda t: unicodedata.normalize("NFD", t)))


@settings(max_examples=150, deadline=None)
@given(
    names=st.lists(stems, min_size=1, max_size=4, unique_by=name_key),
    format=st.sampled_from(["jsonl", "csv", "json", "parquet"]),
)
def test_any_name_comes_back_from_an_output_file(names, format, tmp_path_factory):
    names = [f"u{name}.wav" for name in names]
    if any(len(os.fsencode(name)) > 200 or "\r" in name or "\n" in name for name in names):
        return
    root = tmp_path_factory.getbasetemp() / f"names{next(_numbers)}"
    for system in ("s", "t\udce9"):
        for name in names:
            write(root / "in" / system / name)
    clips = read_clips(root / "in")
    assert len(clips) == 2 * len(names)
    output = root / f"scores.{format}"
    write_records([to_record(clip, root) for clip in clips], output)
    back = read_system_inputs(output)
    assert {os.fsencode(clip.audio_path) for clip in back.clips} == {os.fsencode(clip.audio_path) for clip in clips}
    assert {name_key(clip.reference_id) for clip in back.clips} == {name_key(clip.reference_id) for clip in clips}
    shutil.rmtree(root)


@given(text=letters, form=st.sampled_from(["NFC", "NFD"]))
def test_spellings_of_a_name_share_a_key_and_cases_do_not(text, form):
    assert name_key(unicodedata.normalize(form, text)) == name_key(text) == name_key(name_key(text))
    assert (name_key("A" + text) == name_key("a" + text)) is False


def test_archives_are_what_their_last_ending_says():
    assert [archives.stem(f"x/c{ending}") for ending in ARCHIVES] == ["c"] * len(ARCHIVES)
