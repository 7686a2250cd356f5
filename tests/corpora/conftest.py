"""Tiny corpora on disk: waves, tables and Parquet files that a test lays out as the real ones are."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import soundfile

from urgentmos.corpora import get
from urgentmos.corpora.prepare import Prepared, prepare

RATE = 8_000


def samples(seed: str) -> np.ndarray:
    """(T,) float32, 0.1 s of noise that differs between seeds."""
    return np.random.default_rng(crc32(seed.encode())).uniform(-0.3, 0.3, RATE // 10).astype(np.float32)


def encoded(seed: str, kind: str = "FLAC") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples(seed), RATE, format=kind)
    return buffer.getvalue()


@dataclass
class Disk:
    """A folder in which a test lays out a corpus."""

    root: Path

    def wav(self, *names: str, sound: str | None = None) -> None:
        for name in names:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples(sound or name), RATE, format="FLAC" if name.endswith(".flac") else "WAV")

    def text(self, name: str, *lines: str, encoding: str = "utf-8") -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding=encoding)

    def parquet(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=2)

    def clips(self, corpus: str, split: str, /, **options: str) -> dict[str, Any]:
        """uid -> clip of what the corpus module yields; uids are unique."""
        reader = get(corpus).clips
        assert reader is not None
        found = list(reader(self.root, split, **options))
        assert len({clip.uid for clip in found}) == len(found)
        return {clip.uid.partition(":")[2]: clip for clip in found}

    def prepare(self, corpus: str, **how: Any) -> tuple[Prepared, Path]:
        output = self.root.parent / f"{self.root.name}-out"
        return prepare(get(corpus), self.root, output, **{"dev_share": 0.0, **how}), output


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    (tmp_path / "root").mkdir()
    return Disk(tmp_path / "root")


@pytest.fixture
def sound() -> Callable[..., dict[str, Any]]:
    """A cell of a Parquet file of the hub: {"bytes", "path"}."""
    return lambda seed, kind="FLAC": {"bytes": encoded(seed, kind), "path": f"{seed}.{kind.lower()}"}


@pytest.fixture
def rows() -> Callable[[Path], list[dict[str, Any]]]:
    return lambda path: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
