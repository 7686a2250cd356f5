"""SpeechEval: verdicts in one place, recordings in another, keys that are absent, clips of other corpora."""

import json

import pytest

from urgentmos.corpora import get


@pytest.fixture
def speecheval(disk):
    data = [
        {"task": "CompareEval", "key": "k1", "path": "wav/en_BVCC_sysa-utt1.wav", "path_B": "wav/en_CosyVoice_2.wav"},
        {"task": "CompareEval", "key": "k2", "path": "wav/en_CosyVoice_2.wav", "path_B": "wav/zh_F5_3.wav"},
        {"task": "CompareEval", "key": "k3", "audios": ["wav/zh_F5_3.wav", "wav/zh_F5_3.wav"]},
        {"task": "SingleEval", "key": "k4", "path": "wav/zh_F5_3.wav", "path_B": "x.wav"},
    ]
    place = "rawdata/data_split/split_data_dual_eval/train/multitask.jsonl"
    disk.text(place, *(json.dumps(row) for row in data))
    verdicts = {"k1": "A", "k2": "tie", "k3": "B", "k4": "A", "k9": "B"}
    disk.text("preference/train.jsonl", *(json.dumps({"key": k, "preference": v}) for k, v in verdicts.items()))
    disk.wav(*(f"rawdata/wav/{name}.wav" for name in ("en_BVCC_sysa-utt1", "en_CosyVoice_2", "zh_F5_3")))
    return disk


def test_verdicts_carry_no_cmos(speecheval, rows) -> None:
    _, output = speecheval.prepare("speecheval")
    pairs = rows(output / "train_pairs.jsonl")
    assert [(pair["verdict"], pair["metrics"], pair["scope"]) for pair in pairs] == [("a", {}, "native"), ("tie", {}, "native")]
    assert pairs[0]["uids"] == ["speecheval:wav/en_BVCC_sysa-utt1", "speecheval:wav/en_CosyVoice_2"]
    assert all((output / path).is_file() for pair in pairs for path in pair["audio_paths"])
    assert pairs[0]["durations"] == [0.1, 0.1]


def test_a_key_without_recordings_and_a_pair_of_one_clip_are_told(speecheval, rows) -> None:
    _, output = speecheval.prepare("speecheval")
    left = [row["error"] for row in rows(output / "left_out.jsonl")]
    assert left == ["compares a recording with itself", *["the preference's key is not in the data"] * 2]


def test_the_clips_of_pairs_are_a_manifest_too(speecheval, rows) -> None:
    _, output = speecheval.prepare("speecheval")
    clips = rows(output / "train.jsonl")
    assert len(clips) == 3 and {uid for pair in rows(output / "train_pairs.jsonl") for uid in pair["uids"]} == {
        clip["uid"] for clip in clips
    }


def test_clips_of_other_corpora_are_named_and_found_by_their_sound(speecheval, tmp_path) -> None:
    pairs = list(get("speecheval").pairs(speecheval.root, "train"))
    assert pairs[0]["meta"]["sources"] == ["BVCC", "CosyVoice"]
    speecheval.wav("main/DATA/wav/sysa-utt1.wav", sound="rawdata/wav/en_BVCC_sysa-utt1.wav")
    speecheval.text("main/DATA/sets/TESTSET", "sysa,sysa-utt1.wav,3,x,L1")
    _, output = speecheval.prepare("bvcc")
    prepared, _ = speecheval.prepare("speecheval", against=[output / "test.jsonl"])
    (said,) = [sentence for sentence in prepared.warnings if "share" in sentence]
    assert "share 1 recordings" in said and "bvcc:sysa-utt1" in said
