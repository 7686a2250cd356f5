"""urgent2024_mos: the id is team and file."""


def test_the_id_is_team_and_file(disk, sound) -> None:
    ids = ("P426-fileid_184", "noisy-fileid_184")
    made = [{"id": i, "audio": sound(i), "sampling_rate": 8000, "mos": 3.1, "raw_ratings": [3] * 7 + [4]} for i in ids]
    disk.parquet("data/test-00000-of-00001.parquet", made)
    one, two = disk.clips("urgent2024_mos", "test").values()
    assert (one.system_id, two.system_id) == ("P426", "noisy") and one.reference_id == two.reference_id == "fileid_184"
    assert one.metrics["mos_overall"] == 3.125 and len(one.meta["mos_overall"]) == 8
