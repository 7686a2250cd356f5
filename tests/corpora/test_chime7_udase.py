"""CHiME-7 UDASE: three scales in one table, the clean condition, ratings as a Python list."""

import pytest

from urgentmos.errors import UsageError

HEAD = "sample,condition,scale,MOS,rating_list"


@pytest.fixture
def chime(disk):
    lines = [
        's1.wav,C0,OVRL,2.0,"[1, 2, 3]"',
        's1.wav,C0,SIG,4.0,"[4, 4, 4]"',
        's1.wav,C0,BAK,5.0,"[5, 5, 5]"',
        "s1,C1,ovrl,3.25,",
        's1.wav,Ref,OVRL,5.0,"[5, 5]"',
    ]
    disk.text("listening_test/MOS_results_listening_test.csv", HEAD, *lines)
    return disk


def test_only_the_overall_scale_is_the_score(chime) -> None:
    clips = chime.clips("chime7_udase", "test")
    assert list(clips) == ["C0/s1", "C1/s1"]
    assert [clip.metrics["mos_overall"] for clip in clips.values()] == [2.0, 3.25]
    assert clips["C0/s1"].meta["mos_overall"] == [[None, 1.0], [None, 2.0], [None, 3.0]]


def test_all_scales_repeat_the_released_average(chime) -> None:
    assert chime.clips("chime7_udase", "test", scale="all")["C0/s1"].metrics["mos_overall"] == pytest.approx(11 / 3)
    assert chime.clips("chime7_udase", "test", scale="BAK")["C0/s1"].metrics["mos_overall"] == 5.0
    with pytest.raises(UsageError, match="scale=OVRL"):
        chime.clips("chime7_udase", "test", scale="MOS")


def test_the_clean_condition_is_no_system(chime) -> None:
    clips = chime.clips("chime7_udase", "test")
    assert {clip.system_id for clip in clips.values()} == {"C0", "C1"}
    assert {clip.reference_id for clip in clips.values()} == {"s1"}
    assert clips["C1/s1"].audio_path.endswith("listening_test/data/C1/s1.wav")


def test_a_list_that_is_no_list_runs_nothing_and_leaves_the_mean(disk) -> None:
    text = "\"__import__('os').abort()\""
    disk.text("listening_test/MOS_results_listening_test.csv", HEAD, f"s1.wav,C0,OVRL,2.0,{text}")
    assert disk.clips("chime7_udase", "test")["C0/s1"].metrics["mos_overall"] == 2.0


def test_the_whole_test_makes_the_published_number_of_ordered_pairs(disk) -> None:
    """Table 3 of the UrgentMOS paper: 128 contents x 5 conditions -> 2,560."""
    lines = [f"s{i}.wav,C{c},{scale},3.0," for i in range(128) for c in range(5) for scale in ("SIG", "BAK", "OVRL")]
    disk.text("listening_test/MOS_results_listening_test.csv", HEAD, *lines)
    systems: dict[str, set[str]] = {}
    for clip in disk.clips("chime7_udase", "test").values():
        systems.setdefault(clip.reference_id, set()).add(clip.system_id)
    assert sum(len(s) * (len(s) - 1) for s in systems.values()) == 2_560
