"""PSTN: no systems, no contents, empty deviations; a dev set that does not depend on the order of files."""

HEAD = "filename,MOS,std,95%CI,votes"


def test_an_empty_deviation_is_absent_and_ids_that_nobody_told_are_none(disk) -> None:
    disk.text("pstn_train/pstn_train.csv", HEAD, "abc_1.wav,3.5,,0.2,5", "def_1.wav,2,0.5,0.1,5")
    clips = disk.clips("pstn", "train")
    assert clips["abc_1"].meta == {"confidence95": 0.2, "votes": 5.0, "sample_id": "abc"}
    assert clips["def_1"].meta["mos_std"] == 0.5
    assert clips["abc_1"].system_id is None and clips["abc_1"].reference_id is None


def test_the_dev_set_is_the_same_in_any_order_and_keeps_samples_together(disk, rows) -> None:
    lines = [f"s{i}_{part}.wav,3,,,5" for i in range(12) for part in (1, 2)]
    disk.wav(*(f"pstn_train/{line.split(',')[0]}" for line in lines))
    sides = []
    for order in (lines, lines[::-1]):
        disk.text("pstn_train/pstn_train.csv", HEAD, *order)
        _, output = disk.prepare("pstn", dev_share=0.4)
        sides.append({split: {row["uid"] for row in rows(output / f"{split}.jsonl")} for split in ("train", "dev")})
    assert sides[0] == sides[1] and sides[0]["dev"] and sides[0]["train"]
    samples = [{uid.split("_")[0] for uid in sides[0][split]} for split in ("train", "dev")]
    assert not samples[0] & samples[1]
