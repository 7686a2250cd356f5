"""Parquet files with sound in them, as data sets on a hub have it: a column of {bytes, path}.

Labels are read without the sound. The sound of a row is read in its order: a cursor moves through the file with a few rows
in memory, and starts again, at a row group, only for an earlier row.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from urgentmos.audio.formats import AUDIO_SUFFIXES
from urgentmos.audio.places.names import scheme_of
from urgentmos.audio.places.stored import open_stored, stamp_of
from urgentmos.common.json_values import plain
from urgentmos.common.untrusted import reason, shown
from urgentmos.errors import AudioError, UsageError, need

BATCH = 8  # rows of sound read at once
LOOK_BACK = 4  # batches a cursor keeps, for threads out of step
FAR = 512  # rows that a cursor reads over to reach one, rather than start again in that row's group
CURSORS = 4  # files that are being read
BUFFER = 1 << 20  # bytes of a column read ahead

# First bytes -> ending, for cells without a name; the decoder knows most formats by itself.
_MAGIC = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\x1aE\xdf\xa3": ".webm", b"#!AMR": ".amr"}


class Row(NamedTuple):
    """A row of labels; `name` is the path that its sound had when the file was made, "" if it had none."""

    labels: dict[str, Any]
    name: str


def _broken() -> tuple[type[Exception], ...]:
    """Exceptions that unpacking a damaged or hostile file may raise."""
    arrow = need("pyarrow", "parquet").ArrowException
    return (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        NotImplementedError,
        MemoryError,
        RecursionError,
        arrow,
    )


def _open(file: str) -> Any:
    parquet = need("pyarrow.parquet", "parquet")
    try:
        return parquet.ParquetFile(open_stored(file), buffer_size=BUFFER)
    except AudioError as e:
        raise UsageError(f"{e}.") from e
    except _broken() as e:
        raise UsageError(f"{file}: cannot be read as Parquet ({reason(e)}). Correct it or write it anew.") from e


def audio_columns(file: str) -> list[str]:
    """Columns of {bytes, path}; [] for a file without any, such as a manifest."""
    pa = need("pyarrow", "parquet")
    with _open(file) as table:
        schema = table.schema_arrow
    if "audio_path" in schema.names:
        return []

    def holds_sound(kind: Any) -> bool:
        if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
            return False
        kind = kind.field("bytes").type
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    return [field.name for field in schema if holds_sound(field.type)]


def column_of(file: str, columns: list[str]) -> str:
    """The column whose sound is meant; UsageError if there are several and none is called audio."""
    if len(columns) == 1 or "audio" in columns:
        return "audio" if "audio" in columns else columns[0]
    raise UsageError(
        f"{file}: sound lies in {len(columns)} columns ({', '.join(columns)}). Write a manifest with an audio_path of the form "
        f"{os.path.basename(file)}#{columns[0]}[0], or call the column that is meant audio."
    )


def rows(file: str, column: str, sound: list[str]) -> Iterator[Row]:
    """The labels of each row, and the name of its sound; the bytes are not read."""
    try:
        with _open(file) as table:
            names = [name for name in table.schema_arrow.names if name not in sound]
            has_path = table.schema_arrow.field(column).type.get_field_index("path") >= 0
            for batch in table.iter_batches(columns=[*names, *([f"{column}.path"] if has_path else [])]):
                for cell in batch.to_pylist() if batch.num_columns else [{}] * batch.num_rows:
                    path = (cell.pop(column, None) or {}).get("path")
                    yield Row({name: plain(value) for name, value in cell.items()}, path if isinstance(path, str) else "")
    except _broken() as e:
        raise UsageError(f"{file}: cannot be read to its end ({reason(e)}). Copy it again.") from e


# ---- sound


class _Cursor:
    """Reads the sound of a file in its order."""

    def __init__(self, file: str, column: str) -> None:
        self._table = _open(file)
        if column not in self._table.schema_arrow.names:
            raise AudioError(f"{file} has no column {shown(column)}. Check the name")
        self._column = column
        self._batches: Iterator[Any] = iter(())
        self._held: OrderedDict[int, Any] = OrderedDict()  # row -> cell
        self._next = -FAR  # nowhere yet
        self.lock = threading.Lock()

    def cell(self, row: int) -> Any:
        """KeyError if there is no such row."""
        if row in self._held:
            return self._held[row]
        if not self._next <= row < self._next + FAR:
            self._start(row)
        while row >= self._next:
            batch = next(self._batches)
            for i, cell in enumerate(batch.column(0).to_pylist()):
                self._held[self._next + i] = cell
            self._next += batch.num_rows
            while len(self._held) > LOOK_BACK * BATCH:
                self._held.popitem(last=False)
        return self._held[row]

    def _start(self, row: int) -> None:
        """From the row group of `row` on, to the end of the file."""
        first = 0
        groups = range(self._table.num_row_groups)
        for group in groups:
            end = first + self._table.metadata.row_group(group).num_rows
            if row < end:
                self._next = first
                self._held.clear()
                self._batches = self._table.iter_batches(batch_size=BATCH, row_groups=groups[group:], columns=[self._column])
                return
            first = end
        raise KeyError(row)


_cursors: OrderedDict[tuple[str, str, Any], _Cursor] = OrderedDict()
_lock = threading.Lock()


def _cell(file: str, column: str, row: int) -> Any:
    key = (file, column, stamp_of(file))
    with _lock:
        cursor = _cursors.pop(key, None) or _Cursor(file, column)
        _cursors[key] = cursor
        if len(_cursors) > CURSORS:
            _cursors.popitem(last=False)
    try:
        with cursor.lock:
            return cursor.cell(row)
    except (KeyError, StopIteration):
        raise AudioError(f"{file} has no row {row}. Rows are counted from 0") from None
    except _broken() as e:
        with _lock:
            _cursors.pop(key, None)
        raise AudioError(f"{file} cannot be read at row {row} ({reason(e)}). Copy it again") from e


def sound(file: str, column: str, row: int) -> bytes:
    """The bytes of a cell. A cell with a path alone means a file beside a Parquet file of this machine, or below it."""
    cell = _cell(file, column, row)
    held = cell.get("bytes") if isinstance(cell, dict) else cell
    if isinstance(held, bytes) and held:
        return held
    name = cell.get("path") if isinstance(cell, dict) else None
    if name and scheme_of(file) is None:
        folder = Path(file).resolve().parent
        beside = (folder / str(name)).resolve()
        if beside.is_relative_to(folder) and beside.is_file():
            return beside.read_bytes()
    raise AudioError(f"{file}#{column}[{row}] holds no sound. Fetch the data set again")


def suffix_of(file: str, column: str, row: int) -> str:
    """The ending of a cell's path if it is one of sound, else that of its first bytes, else ""."""
    cell = _cell(file, column, row)
    name = str(cell.get("path") or "") if isinstance(cell, dict) else ""
    if (suffix := PurePosixPath(name).suffix.lower()) in AUDIO_SUFFIXES:
        return suffix
    start = sound(file, column, row)[:12]
    if start[4:8] == b"ftyp":
        return ".m4a"
    return next((suffix for magic, suffix in _MAGIC.items() if start.startswith(magic)), "")
