"""VoiceMOS Challenge 2026, Track 1: enhanced speech of the URGENT 2026 challenge, to be scored (ACR) and compared (CCR).

dev 1,008 clips and 2,520 pairs, test 4,032 clips and 10,080 pairs (672 sources x 6 systems). Labels are not published; the
organisers score a predictions.csv with the columns sample_id and pred_score (meta.sample_id here).
Licence: see the data sets' pages. Hub: urgent-challenge/vmc2026-track1-dev and -test.
Cite: the challenge's page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from urgentmos.clips.clip import Clip
from urgentmos.corpora import About, Count, NotOnDisk, Source, hub
from urgentmos.errors import need

ABOUT = About(
    title="VoiceMOS Challenge 2026, Track 1",
    licence="see the pages of the data sets",
    cite="VoiceMOS Challenge 2026",
    page="https://huggingface.co/datasets/urgent-challenge/vmc2026-track1-dev",
    sources=tuple(
        Source(hub=f"urgent-challenge/vmc2026-track1-{split}", into=f"vmc2026-track1-{split}") for split in ("dev", "test")
    ),
)
SPLITS = ("dev", "test")
UNLABELLED = SPLITS
_PAGE = "pages of the data sets"
COUNTS = {"dev": Count(1_008, pairs=2_520, source=_PAGE), "test": Count(4_032, pairs=10_080, source=_PAGE)}


def clips(root: Path, split: str) -> Iterator[Clip]:
    """The ACR rows: one recording each."""
    for file in _files(root, split, "audio"):
        for labels, sound in hub.rows_of(file, ("audio",)):
            sample = str(labels["sample_id"])
            clip = hub.clip_of("vmc2026_track1", sample, sound["audio"], labels)
            yield replace(clip, meta=clip.meta | {"sample_id": sample})


def pairs(root: Path, split: str) -> Iterator[dict[str, Any]]:
    """The CCR rows: two recordings each, without a verdict."""
    for file in _files(root, split, "audio_a"):
        for labels, sound in hub.rows_of(file, ("audio_a", "audio_b")):
            sample = str(labels["sample_id"])
            yield {
                "uids": [f"vmc2026_track1:{sample}-{side}" for side in "ab"],
                "audio_paths": [sound["audio_a"], sound["audio_b"]],
                "durations": [None, None],
                "metrics": {},
                "verdict": None,
                "scope": "native",
                "meta": {"sample_id": sample},
            }


def _files(root: Path, split: str, column: str) -> list[Path]:
    """Parquet files of a split that have the sound column: the column distinguishes ACR from CCR.

    The data set's folder (...-dev, ...-test) names the split; the hub may call its only split "test" in both.
    """
    parquet = need("pyarrow.parquet", "corpora")
    paths = [path for path in sorted(root.rglob("*.parquet")) if _split_of(path, root) == split]
    files = [path for path in paths if column in parquet.read_schema(path).names]
    if not files:
        raise NotOnDisk(f"{root}: no Parquet file of {split} with the column {column}. Name the folder, or add --download.")
    return files


def _split_of(path: Path, root: Path) -> str | None:
    folders = [*path.relative_to(root).parts[:-1], root.resolve().name]
    for name in folders:
        for split in SPLITS:
            if name.endswith(f"-{split}"):
                return split
    word = path.name.split("-")[0].removesuffix(".parquet")
    return word if word in SPLITS else None
