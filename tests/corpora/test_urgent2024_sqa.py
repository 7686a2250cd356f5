"""URGENT-SQA: two schemas of sample_id, phases whose names begin alike, null scores, error codes of PESQ."""

import pytest

from urgentmos.corpora._urgent_sqa import content_of


def row(sound, sample: str, system: str, mos: float | None = None, **more):
    ratings = None if mos is None else [mos - 0.5, mos + 0.5]
    base = {"audio": sound(f"{system}-{sample}"), "sample_id": sample, "system_id": system, "mos": mos}
    return {**base, "raw_ratings": ratings, "pesq": 2.0, "dnsmos_ovrl": 3.0, **more}


def test_both_schemas_tell_the_same_contents(disk, sound) -> None:
    shared = [row(sound, f"fileid_{n}", f"se_{team}", 3.0) for n in (1, 2) for team in ("A1", "B2")]
    unique = [{**r, "sample_id": f"{r['system_id'].split('_')[1]}_{r['sample_id']}"} for r in shared]
    for folder, rows in (("x", shared), ("y", unique)):
        disk.parquet(f"{folder}/data/blind_test_mos-00000-of-00001.parquet", rows)
    root, found = disk.root, []
    for folder in ("x", "y"):
        disk.root = root / folder
        found.append({(c.system_id, c.reference_id) for c in disk.clips("urgent2024_sqa", "test").values()})
    assert found[0] == found[1] and len(found[0]) == 4
    assert {content for _, content in found[0]} == {"blind_test_mos/fileid_1", "blind_test_mos/fileid_2"}


@pytest.mark.parametrize(
    ("sample", "unique", "content"),
    [
        ("P426_fileid_184", True, "fileid_184"),
        ("phase_P426_fileid_184", True, "phase_fileid_184"),
        ("fileid_184", True, "fileid_184"),
        ("P426_fileid_184", False, "P426_fileid_184"),
        ("XP426_fileid_184", True, "XP426_fileid_184"),  # another submission's name ends alike
    ],
)
def test_the_submission_is_taken_out_of_unique_ids_only(sample: str, unique: bool, content: str) -> None:
    assert content_of(sample, "system_P426", unique) == content


def test_blind_test_is_not_blind_test_mos(disk, sound) -> None:
    disk.parquet("data/blind_test_mos-00000-of-00001.parquet", [row(sound, "a", "s_1", 3.0)])
    disk.parquet("data/blind_test-00000-of-00001.parquet", [row(sound, "b", "s_1"), row(sound, "c", "s_1")])
    assert len(disk.clips("urgent2024_sqa", "test")) == 1
    assert len(disk.clips("urgent2024_sqa", "blind_test")) == 2


def test_one_file_number_in_two_phases_is_two_contents(disk, sound) -> None:
    for phase in ("validation", "nonblind_test"):
        disk.parquet(f"{phase}-00000-of-00001.parquet", [row(sound, "fileid_1", "s_1")])
    clips = disk.clips("urgent2024_sqa", "train")
    assert {clip.reference_id for clip in clips.values()} == {"validation/fileid_1", "nonblind_test/fileid_1"}


def test_a_clip_without_human_score_keeps_its_measured_metrics(disk, sound, rows) -> None:
    made = [row(sound, "a", "s_1", pesq=-6.0, sdr=None), row(sound, "b", "s_1", pesq=4.5, sdr=-12.5)]
    disk.parquet("validation-00000-of-00001.parquet", made)
    prepared, output = disk.prepare("urgent2024_sqa")
    one, two = rows(output / "train.jsonl")
    assert one["metrics"] == {"mos_overall": None, "pesq": None, "dnsmos_ovrl": 3.0, "sdr": None}
    assert two["metrics"]["pesq"] == 4.5 and two["metrics"]["sdr"] == -12.5
    assert "train: 2 clips, but 238000 were published" in " ".join(prepared.warnings)


def test_the_score_is_the_mean_of_the_ratings(disk, sound) -> None:
    disk.parquet("blind_test_mos-0.parquet", [row(sound, "a", "s_1", 3.0, raw_ratings=[1, 4]), row(sound, "b", "s_1", 2.0)])
    one, two = disk.clips("urgent2024_sqa", "test").values()
    assert one.metrics["mos_overall"] == 2.5 and one.meta["mos_overall"] == [[None, 1.0], [None, 4.0]]
    assert two.metrics["mos_overall"] == 2.0
