"""Data sets of the hub as the Parquet files they are: labels are read without the sound, sound only when it is wanted.

A recording inside a Parquet file is named by a locator, `FILE.parquet#COLUMN[ROW]`, which stands in a clip's audio_path
until `prepare.py` has written its bytes to a file of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from urgentmos.clips.clip import Clip
from urgentmos.corpora import NotOnDisk
from urgentmos.corpora.reading import mean_rating, score
from urgentmos.errors import UsageError, need
from urgentmos.metrics import METRICS

LOCATOR = re.compile(r"(?P<file>.+\.parquet)#(?P<column>\w+)\[(?P<row>\d+)\]", re.DOTALL)
SOUND_BATCH = 16  # rows of sound in memory at once
_MAGIC = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3", b"\xff\xf3": ".mp3"}


def files_of(root: Path, split: str) -> list[Path]:
    """Parquet files below root that belong to a split: `split-00000-of-00002.parquet`. NotOnDisk if there is none.

    The whole first word counts: blind_test is not blind_test_mos.
    """
    files = [path for path in sorted(root.rglob("*.parquet")) if path.name.split("-")[0].removesuffix(".parquet") == split]
    if not files:
        raise NotOnDisk(f"{root}: no {split}-*.parquet is there. Name the folder of the data set, or add --download.")
    return files


def rows_of(file: Path, sound: Iterable[str]) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """(labels, {sound column: locator}) for each row; the sound itself is not read. UsageError if a sound column is missing."""
    parquet = need("pyarrow.parquet", "corpora")
    try:
        table = parquet.ParquetFile(file)
    except (OSError, need("pyarrow", "corpora").ArrowInvalid) as e:
        raise UsageError(f"{file}: is not a Parquet file ({e}). Fetch it again.") from None
    names = table.schema_arrow.names
    missing = [column for column in sound if column not in names]
    if missing:
        raise UsageError(f"{file}: has no column {missing[0]!r}, but {', '.join(names)}. Is it the right data set?")
    row = 0
    for batch in table.iter_batches(columns=[name for name in names if name not in set(sound)]):
        for labels in batch.to_pylist():
            yield labels, {column: f"{file}#{column}[{row}]" for column in sound}
            row += 1


def sounds(locators: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
    """(locator, bytes or None) of recordings inside Parquet files, file by file in the order of their rows."""
    wanted: dict[tuple[str, str], dict[int, str]] = {}
    for locator in locators:
        if match := LOCATOR.fullmatch(locator):
            wanted.setdefault((match["file"], match["column"]), {})[int(match["row"])] = locator
    broken = need("pyarrow", "corpora").ArrowInvalid
    for (file, column), rows in wanted.items():
        try:
            yield from _sounds_of(file, column, rows)
        except (OSError, broken) as e:
            raise UsageError(f"{file}: cannot be read to its end ({e}). Fetch it again.") from None


def _sounds_of(file: str, column: str, rows: Mapping[int, str]) -> Iterator[tuple[str, bytes | None]]:
    parquet = need("pyarrow.parquet", "corpora")
    row, last = 0, max(rows)
    for batch in parquet.ParquetFile(file).iter_batches(batch_size=SOUND_BATCH, columns=[column]):
        for i in range(len(batch)):
            if row in rows:
                yield rows[row], _bytes(batch.column(0)[i].as_py(), Path(file).parent)
            row += 1
        if row > last:
            return


def _bytes(cell: Any, folder: Path) -> bytes | None:
    """The sound of a cell {"bytes", "path"} or of bare bytes; a path is looked up beside the Parquet file."""
    if isinstance(cell, bytes):
        return cell
    if not isinstance(cell, Mapping):
        return None
    if isinstance(cell.get("bytes"), bytes):
        return bytes(cell["bytes"])
    path = folder / str(cell.get("path") or "")
    return path.read_bytes() if path.is_file() and path.resolve().is_relative_to(folder.resolve()) else None


def suffix_of(sound: bytes) -> str:
    """File ending by the first bytes; ".audio" if nothing is recognised, for the decoder to refuse."""
    return next((suffix for magic, suffix in _MAGIC.items() if sound.startswith(magic)), ".audio")


def measured(labels: Mapping[str, Any], place: str) -> dict[str, float | None]:
    """The columns that are called like a metric."""
    names = [name for name in labels if name in METRICS and name != "mos_overall"]
    return {name: score(labels[name], f"{place}: {name}") for name in names}


def clip_of(
    corpus: str, sample: str, locator: str, labels: Mapping[str, Any], system: str | None = None, content: str | None = None
) -> Clip:
    """A clip with its listeners' ratings, or else its given mean, and the measured metrics among its columns."""
    ratings = [score(rating, f"{locator}: raw_ratings") for rating in labels.get("raw_ratings") or []]
    mos, meta = mean_rating((None, rating) for rating in ratings) if ratings else (None, {})
    if mos is None:
        mos = score(labels.get("mos_overall", labels.get("mos")), f"{locator}: mos")
    metrics = {"mos_overall": mos, **measured(labels, locator)}
    return Clip(f"{corpus}:{sample}", locator, system, content, corpus, metrics=metrics, meta=meta)
