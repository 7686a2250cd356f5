"""VoiceMOS 2026 Track 1: clips and pairs without labels in two configurations, two data sets with one split name each."""

import pytest


@pytest.fixture
def vmc(disk, sound):
    for split, n in (("dev", 2), ("test", 3)):
        acr = [{"sample_id": f"{split}{i}", "audio": sound(f"{split}{i}")} for i in range(n)]
        ccr = [
            {"sample_id": f"{split}c{i}", "audio_a": sound(f"{split}a{i}"), "audio_b": sound(f"{split}b{i}")} for i in (0, 1)
        ]
        disk.parquet(f"vmc2026-track1-{split}/acr/test-00000-of-00001.parquet", acr)
        disk.parquet(f"vmc2026-track1-{split}/ccr/test-00000-of-00001.parquet", ccr)
    return disk


def test_the_data_set_tells_the_split_and_the_columns_tell_the_kind(vmc, rows) -> None:
    prepared, output = vmc.prepare("vmc2026_track1")
    assert [(s.name, len(s.clips), len(s.pairs), s.left_out) for s in prepared.splits] == [
        ("dev", 2, 2, []),
        ("test", 3, 2, []),
    ]
    assert [row["meta"]["sample_id"] for row in rows(output / "dev.jsonl")] == ["dev0", "dev1"]
    assert "dev: 2 pairs, but 2520 were published" in " ".join(prepared.warnings)


def test_no_label_is_no_fault_here(vmc, rows) -> None:
    _, output = vmc.prepare("vmc2026_track1")
    assert rows(output / "test.jsonl")[0]["metrics"] == {"mos_overall": None}
    pair = rows(output / "test_pairs.jsonl")[0]
    assert pair["verdict"] is None and pair["metrics"] == {} and pair["meta"]["sample_id"] == "testc0"


def test_one_data_set_alone_is_a_root(vmc) -> None:
    vmc.root = vmc.root / "vmc2026-track1-test"
    assert len(vmc.clips("vmc2026_track1", "test")) == 3
