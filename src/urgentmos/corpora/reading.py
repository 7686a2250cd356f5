"""What corpus modules share: tables read as bare text, and listeners' ratings gathered into clips."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from urgentmos.cells import number
from urgentmos.clips import Clip
from urgentmos.errors import UsageError


class Rated(NamedTuple):
    """One listener's rating of one recording."""

    sample: str  # names the clip within its corpus
    path: Path
    system: str | None
    content: str | None
    listener: str | None
    value: object  # text, a number or None


def text_of(path: Path) -> str:
    """UTF-8 with or without BOM; UsageError names the file."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise UsageError(f"{path}: is not UTF-8 ({e.reason} at byte {e.start}). Fetch it again, or convert it.") from None
    except OSError as e:
        raise UsageError(f"{path}: cannot be read ({e.strerror}). Check the path and its permissions.") from None


def rows_of(path: Path, columns: Iterable[str], *, delimiter: str = ",") -> Iterator[dict[str, str]]:
    """Rows of a table with a header, every cell as text: the id "015" stays "015". A short row lacks its last cells ("").

    UsageError if a column is missing.
    """
    reader = csv.reader(io.StringIO(text_of(path), newline=""), delimiter=delimiter)
    head = [name.strip() for name in next(reader, [])]
    missing = [name for name in columns if name not in head]
    if missing:
        raise UsageError(f"{path}: has no column {missing[0]!r}, but {', '.join(head) or 'nothing'}. Is it the right file?")
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield {name: cell.strip() for name, cell in zip(head, cells + [""] * (len(head) - len(cells)), strict=False)}


def bare_rows_of(path: Path, width: int) -> Iterator[list[str]]:
    """Rows of a table without header; UsageError for one with fewer than `width` cells."""
    for count, cells in enumerate(csv.reader(io.StringIO(text_of(path), newline="")), 1):
        if len(cells) < width and any(cell.strip() for cell in cells):
            raise UsageError(f"{path}, line {count}: {len(cells)} cells, not {width} or more. Fetch it again.")
        if len(cells) >= width:
            yield [cell.strip() for cell in cells]


def score(value: object) -> float | None:
    """A score, or None for an empty or unreadable cell."""
    try:
        return number(value)
    except ValueError:
        return None


def clips_of(corpus: str, ratings: Iterable[Rated]) -> Iterator[Clip]:
    """One clip per recording with the mean of its ratings, in the order in which the recordings first appear.

    A row that is repeated word for word (same listener, same rating) counts once. How many rows were empty or repeated is in
    meta: "empty_ratings", "repeated_ratings".
    """
    gathered: dict[str, list[Rated]] = {}
    for rating in ratings:
        gathered.setdefault(rating.sample, []).append(rating)
    for sample, rows in gathered.items():
        first = rows[0]
        unique = list(dict.fromkeys(rows)) if first.listener is not None else rows
        given = [(row.listener, score(row.value)) for row in unique]
        meta = rating_meta(given)
        if len(unique) < len(rows):
            meta["repeated_ratings"] = len(rows) - len(unique)
        values = [value for _, value in given if value is not None]
        mos = float(np.mean(values)) if values else None
        yield Clip(
            f"{corpus}:{sample}", str(first.path), first.system, first.content, corpus, metrics={"mos_overall": mos}, meta=meta
        )


def rating_meta(given: Iterable[tuple[str | None, float | None]]) -> dict[str, Any]:
    """(listener, rating) -> meta: the ratings, their standard deviation, and how many cells were empty."""
    given = list(given)
    ratings = [[listener, value] for listener, value in given if value is not None]
    meta: dict[str, Any] = {"mos_overall": ratings}
    if ratings:
        meta["mos_overall_std"] = round(float(np.std([value for _, value in ratings])), 6)  # type: ignore[arg-type]
    if len(ratings) < len(given):
        meta["empty_ratings"] = len(given) - len(ratings)
    return meta
