"""BVCC: five columns without header or file ending; missing waves and ratings."""

import pytest

from urgentmos.corpora import NotOnDisk, get

LINES = (
    "sysA,sysA-utt1.wav,4,VDP1,L1",
    "sysA,sysA-utt1.wav,2,VDP2,L2",
    "sysA,sysA-utt1.wav,2,VDP2,L2",  # the same row again
    "sysB,sysB-utt1,5,VDP3,L1",  # no .wav
    "sysB,sysB-utt2.wav,,VDP4,L1",  # no rating
    "sysA,sysA-utt3.wav,3,VDP5,L1",  # no wave on disk
)


@pytest.fixture
def bvcc(disk):
    disk.text("main/DATA/sets/TRAINSET", *LINES)
    disk.wav(*(f"main/DATA/wav/{name}.wav" for name in ("sysA-utt1", "sysB-utt1", "sysB-utt2")))
    return disk


def test_the_first_line_is_data_and_a_name_may_lack_its_ending(bvcc) -> None:
    clips = bvcc.clips("bvcc", "train")
    assert list(clips) == ["sysA-utt1", "sysB-utt1", "sysB-utt2", "sysA-utt3"]
    clip = clips["sysA-utt1"]
    assert (clip.system_id, clip.reference_id, clip.corpus) == ("sysA", "utt1", "bvcc")
    assert clips["sysB-utt1"].audio_path.endswith("wav/sysB-utt1.wav")


def test_a_score_is_the_mean_of_the_listeners_and_a_repeated_row_counts_once(bvcc) -> None:
    clip = bvcc.clips("bvcc", "train")["sysA-utt1"]
    assert clip.metrics["mos_overall"] == 3.0 and clip.meta["mos_overall"] == [["L1", 4.0], ["L2", 2.0]]
    assert clip.meta["mos_overall_std"] == 1.0 and clip.meta["repeated_ratings"] == 1


def test_what_cannot_be_used_is_told_with_its_reason(bvcc, rows) -> None:
    prepared, output = bvcc.prepare("bvcc")
    left = {row["uid"]: row["error"] for row in rows(output / "left_out.jsonl")}
    assert left["bvcc:sysB-utt2"] == "no score" and "does not exist" in left["bvcc:sysA-utt3"] and len(left) == 2
    assert [row["uid"] for row in rows(output / "train.jsonl")] == ["bvcc:sysA-utt1", "bvcc:sysB-utt1"]
    said = " ".join(prepared.warnings)
    assert "2 clips, but 4973 were published" in said and "2 systems, but 175" in said and "dev: not read" in said


def test_bc19_is_not_read_as_bvcc(bvcc) -> None:
    bvcc.text("ood/DATA/sets/TRAINSET", "sysX,sysX-utt9.wav,1,VDP,L1")
    assert list(bvcc.clips("bc19", "train")) == ["sysX-utt9"]
    assert "sysX-utt9" not in bvcc.clips("bvcc", "train")


def test_the_folder_data_itself_is_a_root(bvcc) -> None:
    bvcc.root = bvcc.root / "main" / "DATA"
    assert len(bvcc.clips("bvcc", "train")) == 4


def test_an_empty_folder_is_told_with_what_was_looked_for(disk) -> None:
    reader = get("bvcc").clips
    assert reader is not None
    with pytest.raises(NotOnDisk, match="main/DATA/sets/DEVSET"):
        reader(disk.root, "dev")
