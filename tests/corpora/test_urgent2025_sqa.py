"""URGENT2025-SQA: the schema of 2024 under a name of its own; its rated part came later."""


def test_the_absent_rated_part_does_not_hinder_train(disk, sound) -> None:
    made = {"audio": sound("x"), "sample_id": "fileid_1", "system_id": "se_T1", "mos": None, "raw_ratings": None, "utmos": 3.0}
    disk.parquet("data/validation-00000-of-00001.parquet", [made])
    prepared, _ = disk.prepare("urgent2025_sqa")
    assert [split.name for split in prepared.splits] == ["train"]
    assert prepared.splits[0].clips[0].uid == "urgent2025_sqa:se_T1:validation/fileid_1"
    assert any(warning.startswith("test: not read") for warning in prepared.warnings)
