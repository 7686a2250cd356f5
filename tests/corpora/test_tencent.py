"""Tencent: a misspelt folder, paths that begin with "./", two tables of which one may be absent."""

import pytest

from urgentmos.corpora import NotOnDisk


def test_both_tables_are_read_below_the_misspelt_folder(disk) -> None:
    disk.text("TencentCorups/withoutReverberationTrainDevMOS.csv", "deg_wav,mos", "./withoutReverberationTrainDev/1.wav,3.5")
    disk.text("TencentCorups/withReverberationTrainDevMOS.csv", "deg_wav,mos", "./withReverberationTrainDev/1.wav,")
    clips = disk.clips("tencent", "train")
    assert list(clips) == ["withoutReverberationTrainDev_1", "withReverberationTrainDev_1"]
    assert clips["withoutReverberationTrainDev_1"].audio_path.endswith("TencentCorups/withoutReverberationTrainDev/1.wav")
    assert [clip.metrics["mos_overall"] for clip in clips.values()] == [3.5, None]


def test_one_table_is_enough_and_none_is_told(disk) -> None:
    with pytest.raises(NotOnDisk, match="withReverberationTrainDevMOS"):
        disk.clips("tencent", "train")
    disk.text("withReverberationTrainDevMOS.csv", "deg_wav,mos", "./a/1.wav,3")
    assert list(disk.clips("tencent", "train")) == ["a_1"]
