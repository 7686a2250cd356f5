"""BC19: the content is what follows the first "-"; the published numbers are those of VoiceMOS 2022."""

from urgentmos.corpora import get


def test_the_content_follows_the_first_dash(disk) -> None:
    disk.text("ood/DATA/sets/TESTSET", "sysA,sysA-utt-x1.wav,4,VDP,L1", "sysB,sysB-utt-x1.wav,1,VDP,L1")
    clips = disk.clips("bc19", "test")
    assert {clip.reference_id for clip in clips.values()} == {"utt-x1"}
    assert [clip.system_id for clip in clips.values()] == ["sysA", "sysB"]


def test_the_published_counts_make_the_812_labelled_waves() -> None:
    assert sum(count.clips for count in get("bc19").counts.values()) == 1352 - 540
