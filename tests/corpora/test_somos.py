"""SOMOS: ids are text, tables have no ending, utterances end in .wav."""

import pytest

from urgentmos.errors import UsageError

HEAD = "systemId,utteranceId,choice,listenerId"


@pytest.fixture
def somos(disk):
    for subset, choice in (("clean", "4"), ("full", "2")):
        lines = (f"015,novel_2007_0098_015.wav,{choice},A", "015,novel_2007_0098_015.wav,5,B", "15,novel_2007_0098_15.wav,1,A")
        disk.text(f"training_files/split1/{subset}/TRAINSET", HEAD, *lines)
    return disk


def test_the_system_015_is_not_the_system_15(somos) -> None:
    clips = somos.clips("somos", "train")
    assert [clip.system_id for clip in clips.values()] == ["015", "15"]
    assert {clip.reference_id for clip in clips.values()} == {"novel_2007_0098"}
    assert clips["novel_2007_0098_015"].audio_path.endswith("audios/novel_2007_0098_015.wav")


def test_it_stays_text_in_the_manifest(somos, rows) -> None:
    somos.wav("audios/novel_2007_0098_015.wav", "audios/novel_2007_0098_15.wav")
    _, output = somos.prepare("somos")
    assert [row["system_id"] for row in rows(output / "train.jsonl")] == ["015", "15"]


def test_the_subset_is_an_option(somos) -> None:
    assert somos.clips("somos", "train")["novel_2007_0098_015"].metrics["mos_overall"] == 4.5
    assert somos.clips("somos", "train", subset="full")["novel_2007_0098_015"].metrics["mos_overall"] == 3.5
    with pytest.raises(UsageError, match="subset=clean"):
        somos.clips("somos", "train", subset="best")
