"""A clean signal goes to the clip that it belongs to, and to no other."""

import random
from pathlib import Path

import pytest

from urgentmos.clips.clip import Clip
from urgentmos.clips.references import attach_references
from urgentmos.errors import UsageError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"RIFF")


def test_references_by_content_by_name_and_by_path(tmp_path):
    touch(tmp_path, "clean/u1.flac", "clean/sub/u2.wav", "clean/x/same.wav", "clean/y/same.wav")
    clips = [
        Clip("1", "sys/other.wav", reference_id="u1"),
        Clip("2", "sys/other.wav", reference_id="sub/u2"),
        Clip("3", "sys/u1.wav"),
        Clip("4", "sys/y/same.wav"),
        Clip("5", "sys/same.wav"),
        Clip("6", "sys/u9.wav"),
        Clip("7", "sys/u1.wav", reference_path="mine.wav"),
    ]
    random.Random(0).shuffle(clips)
    attached = attach_references(clips, tmp_path / "clean")
    assert [clip.uid for clip in attached] == [clip.uid for clip in clips]
    found = {clip.uid: clip.reference_path for clip in attached}
    assert found == {
        "1": str(tmp_path / "clean" / "u1.flac"),
        "2": str(tmp_path / "clean" / "sub" / "u2.wav"),
        "3": str(tmp_path / "clean" / "u1.flac"),
        "4": str(tmp_path / "clean" / "y" / "same.wav"),
        "5": None,
        "6": None,
        "7": "mine.wav",
    }


def test_of_two_formats_the_one_of_the_clip_is_taken(tmp_path):
    touch(tmp_path, "u.wav", "u.flac")
    assert attach_references([Clip("u", "s/u.wav")], tmp_path)[0].reference_path == str(tmp_path / "u.wav")


@pytest.mark.parametrize("name", ["no", "bare"])
def test_a_reference_folder_without_audio_is_a_sentence(name, tmp_path):
    (tmp_path / "bare").mkdir()
    with pytest.raises(UsageError, match="clean signals"):
        attach_references([Clip("u", "u.wav")], tmp_path / name)
