"""Helpers of corpus modules: tables read as bare text, listeners' ratings gathered into clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from urgentmos.clips import delimited
from urgentmos.clips.clip import Clip
from urgentmos.clips.label_range import is_outside, outside
from urgentmos.clips.records import label, with_decimal_points
from urgentmos.clips.tables import complain, read_bytes
from urgentmos.errors import UsageError

MOS = "mos_overall"


class Rated(NamedTuple):
    """One listener's rating of one recording."""

    sample: str  # names the clip within its corpus
    path: Path
    system: str | None
    content: str | None
    listener: str | None
    value: float | None


def text_of(path: Path) -> str:
    """The text of a file; UsageError names the file that cannot be read."""
    return delimited.text_of(path, read_bytes(path))


@dataclass
class _Sheet:
    """A table of a file, with its columns of numbers as they are asked for."""

    path: Path
    table: delimited.Table
    numbers: dict[str, list[str]] = field(default_factory=dict)

    def column(self, name: str) -> list[str]:
        """The cells of a column of numbers, with decimal points."""
        if name not in self.numbers:
            place = self.table.columns.index(name)
            cells = [row[place].strip() for row in self.table.rows]
            self.numbers[name] = cells if self.table.delimiter == "," else with_decimal_points(cells)
        return self.numbers[name]


class Row(dict[str, str]):
    """The cells of one row by their columns, all of them text."""

    def __init__(self, sheet: _Sheet, count: int) -> None:
        super().__init__(zip(sheet.table.columns, map(str.strip, sheet.table.rows[count]), strict=True))
        self._sheet, self._count = sheet, count

    def number(self, column: str) -> float | None:
        """The number in a cell, None if it is empty or the column is missing. UsageError names the line, column and value."""
        if column not in self:
            return None
        place = f"{self._sheet.path}, line {self._sheet.table.lines[self._count]}: {column}"
        return score(self._sheet.column(column)[self._count], place)


def rows_of(path: Path, columns: Iterable[str], *, pad: bool = True) -> Iterator[Row]:
    """Rows of a table with a header, every cell as text: the id "015" stays "015". pad: a short row lacks its last cells ("").

    UsageError if a column is missing, or a row has too many cells.
    """
    table = delimited.read_table(path, read_bytes(path), pad=pad)
    table = table._replace(columns=[name.strip() for name in table.columns])
    missing = [name for name in columns if name not in table.columns]
    if missing:
        header = " Line 1 looks like data: the file needs a header." if delimited.looks_like_data(table.columns) else ""
        has = ", ".join(filter(None, table.columns)) or "nothing"
        raise UsageError(f"{path}: has no column {missing[0]!r}, but {has}. Is it the right file?{header}")
    complain(path, table.problems)
    sheet = _Sheet(path, table)
    return (Row(sheet, count) for count in range(len(table.rows)))


def bare_rows_of(path: Path, width: int) -> Iterator[Bare]:
    """Rows of a table without header; UsageError for one with fewer than `width` cells."""
    table = delimited.read_table(path, read_bytes(path), columns=[str(k) for k in range(width)], bare=True)
    for line, cells in zip(table.lines, table.rows, strict=True):
        if len(cells) < width:
            raise UsageError(f"{path}, line {line}: {len(cells)} cells, not {width} or more. Fetch it again.")
        yield Bare(path, line, [cell.strip() for cell in cells])


class Bare(NamedTuple):
    """One row of a table without header."""

    path: Path
    line: int
    cells: list[str]

    def number(self, place: int) -> float | None:
        """The number in a cell, None if it is empty. UsageError names the line, the column and the value."""
        return score(self.cells[place], f"{self.path}, line {self.line}: column {place + 1}")


def score(value: object, place: str) -> float | None:
    """A number, or None where there is none. UsageError, with the place, for what is not a number."""
    try:
        return label(value)
    except ValueError as e:
        raise UsageError(f"{place}: {e}. Correct it there, or leave it empty.") from None


def clips_of(corpus: str, ratings: Iterable[Rated]) -> Iterator[Clip]:
    """One clip per recording with the mean of its ratings, in the order in which the recordings first appear.

    A row that is repeated word for word (same listener, same rating) counts once. How many rows were empty or repeated, or
    outside 1 .. 5, is in meta: "empty_ratings", "repeated_ratings", "ratings_outside". UsageError if the ratings are on
    another scale.
    """
    gathered: dict[str, list[Rated]] = {}
    for rating in ratings:
        gathered.setdefault(rating.sample, []).append(rating)
    every = ((f"{corpus}:{sample}", row.value) for sample, rows in gathered.items() for row in rows)
    if (wrong := outside(MOS, every)) and wrong.other_scale:
        raise UsageError(wrong.sentence())
    for sample, rows in gathered.items():
        first = rows[0]
        unique = list(dict.fromkeys(rows)) if first.listener is not None else rows
        mos, meta = mean_rating((row.listener, row.value) for row in unique)
        if len(unique) < len(rows):
            meta["repeated_ratings"] = len(rows) - len(unique)
        yield Clip(f"{corpus}:{sample}", str(first.path), first.system, first.content, corpus, metrics={MOS: mos}, meta=meta)


def mean_rating(given: Iterable[tuple[str | None, float | None]]) -> tuple[float | None, dict[str, Any]]:
    """(listener, rating) -> their mean, and as meta the ratings, their standard deviation, and how many do not count."""
    given = list(given)
    ratings = [[listener, value] for listener, value in given if value is not None and not is_outside(MOS, value)]
    meta: dict[str, Any] = {MOS: ratings}
    values = np.array([value for _, value in ratings], dtype=float)
    if ratings:
        meta["mos_overall_std"] = round(float(np.std(values)), 6)
    if empty := sum(value is None for _, value in given):
        meta["empty_ratings"] = empty
    if strange := [value for _, value in given if is_outside(MOS, value)]:
        meta["ratings_outside"] = [plain_text(value) for value in strange]
    return (float(np.mean(values)) if ratings else None), meta


def plain_text(value: float | None) -> str:
    """A number as a message spells it."""
    return "" if value is None else f"{value:g}"
