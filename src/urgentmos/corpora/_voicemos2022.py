"""The files of the VoiceMOS Challenge 2022, which BVCC and BC19 share: system, wav, score, id, listener; no header."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from urgentmos.corpora.reading import Rated, bare_rows_of

SETS = {"train": "TRAINSET", "dev": "DEVSET", "test": "TESTSET"}


def ratings(data: Path, split: str) -> Iterator[Rated]:
    """The ratings in data/sets/TRAINSET (no file ending). A wav may be named without ".wav"."""
    for row in bare_rows_of(data / "sets" / SETS[split], 5):
        system, wav, _, _, listener, *_ = row.cells
        stem = wav.removesuffix(".wav")
        content = stem.partition("-")[2] or None
        yield Rated(stem, data / "wav" / f"{stem}.wav", system, content, listener, row.number(2))
