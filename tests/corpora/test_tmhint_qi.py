"""TMHINT-QI: one table for both splits, empty scores, equal ratings by listeners without a name, files of macOS."""

import pytest

HEAD = "idx,method,uttr,snr,noise,quality_score,intelligibility_score,file_name"


@pytest.fixture
def tmhint(disk):
    names = {"a": "DDAE_b3_0_babble_TMHINT_b1_12", "b": "Noisy_b3_0_babble_TMHINT_b1_12", "c": "KLT_TMHINT_b2_1"}
    disk.text(
        "TMHINTQI/raw_data.csv",
        HEAD,
        f"1,DDAE,u,0,babble,3,9,{names['a']}",
        f"2,DDAE,u,0,babble,3,10,{names['a']}",
        f"3,DDAE,u,0,babble,,,{names['a']}",
        f"4,Noisy,u,0,babble,2,5,{names['b']}",
        f"5,KLT,u,-2,pink,,4,{names['c']}",
        "6,KLT,u,-2,pink,4,4,KLT_TMHINT_gone",
    )
    disk.wav(f"TMHINTQI/train/{names['a']}.wav", f"TMHINTQI/test/{names['b']}.wav", f"TMHINTQI/train/{names['c']}.wav")
    disk.wav("TMHINTQI/__MACOSX/train/._x.wav")
    return disk


def test_the_folder_of_the_wave_tells_the_split(tmhint) -> None:
    assert list(tmhint.clips("tmhint_qi", "test")) == ["Noisy_b3_0_babble_TMHINT_b1_12"]
    assert len(tmhint.clips("tmhint_qi", "train")) == 3


def test_equal_ratings_of_unnamed_listeners_all_count_and_empty_ones_do_not(tmhint) -> None:
    clip = tmhint.clips("tmhint_qi", "train")["DDAE_b3_0_babble_TMHINT_b1_12"]
    assert clip.meta["mos_overall"] == [[None, 3.0], [None, 3.0]] and clip.meta["empty_ratings"] == 1
    assert clip.meta["intelligibility"] == [9.0, 10.0] and clip.metrics["mos_overall"] == 3.0
    assert (clip.system_id, clip.reference_id) == ("DDAE-SNR0-babble", "TMHINT_b1_12")


def test_clips_without_score_or_wave_are_told_once(tmhint, rows) -> None:
    prepared, output = tmhint.prepare("tmhint_qi")
    left = {row["uid"]: row["error"] for row in rows(output / "left_out.jsonl")}
    assert left["tmhint_qi:KLT_TMHINT_b2_1"] == "no score" and "does not exist" in left["tmhint_qi:KLT_TMHINT_gone"]
    assert len(left) == 2 and "train: 1 ratings are empty" in prepared.warnings
    assert "train and test share 1 contents (other recordings of them)" in prepared.warnings
