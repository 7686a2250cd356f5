"""CSV and TSV: the one reader and the one writer of tables of text, from any program.

`read_table` splits a file into cells and knows nothing of what they mean: any of `,` tab `;` between cells, UTF-8 or UTF-16
with its mark, lines that end as on any system, rows without content (a spreadsheet's last ones) skipped. What a cell means
is a matter of its column: `records.py` knows its own columns by their names. A column of a manifest that it does not know
holds numbers (or lists, or objects) if every one of its cells is one as we would write it, else text: `1.10`, `12e4`, `null`
and `007` come back as they were. Any other cell is JSON or text on its own.

A column of text that would read back as JSON has its name in quotes where it needs none: `uid,"meta.speaker"`.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from urgentmos.clips.records import (
    ABSENT,
    CLIP_KEYS,
    ID_COLUMNS,
    ID_LISTS,
    NESTED,
    SCORE_KEYS,
    TEXT_COLUMNS,
    VALUES,
    brief,
    columns_of,
    decode_cell,
    encode_cell,
    flatten,
    is_metric_name,
    is_number_column,
    is_text_column,
    label,
    read_cell,
    safe_text,
    with_decimal_points,
    write_cell,
)
from urgentmos.errors import UsageError

_KNOWN = frozenset({*CLIP_KEYS, *TEXT_COLUMNS, *ID_COLUMNS, *ID_LISTS, *SCORE_KEYS})
_SPECIAL = re.compile(r'[",;\t\r\n]')
# Text that a spreadsheet would compute, behind apostrophes or none; a number is no formula.
_FORMULA = re.compile(
    r"'*(?![+-]?\d+([.,]\d+)?([eE][+-]?\d+)?\Z)[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]",
    re.ASCII,
)
_MARKS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


class Table(NamedTuple):
    """The cells of a file. `lines[i]` is the line on which `rows[i]` starts; a problem is a sentence that begins with one."""

    columns: list[str]
    rows: list[list[str]]
    lines: list[int]
    problems: list[str]
    delimiter: str
    as_text: frozenset[str] = frozenset()  # columns whose name stands in needless quotes


# ---- reading


def text_of(path: str | Path, data: bytes) -> str:
    """The text of a file in UTF-8 or, with a byte order mark, UTF-16 or UTF-32. UsageError names the line that is neither."""
    coding = next((coding for mark, coding in _MARKS if data.startswith(mark)), "utf-8-sig")
    try:
        text = data.decode(coding)
    except UnicodeDecodeError as e:
        if coding != "utf-8-sig":
            raise UsageError(f"{path}: is {coding.upper()} by its first bytes, but not to its end. Save it as UTF-8.") from None
        line = data.count(b"\n", 0, e.start) + 1
        cure = "Save it as UTF-8, e.g. iconv -f ISO-8859-1 -t UTF-8 OLD > NEW"
        raise UsageError(f"{path}: line {line} is not UTF-8 (byte 0x{data[e.start]:02x}). {cure}.") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        if data[1::2].count(b"\0") > len(data) / 4 or data[::2].count(b"\0") > len(data) / 4:
            order = "LE" if data[1::2].count(b"\0") > len(data) / 4 else "BE"
            raise UsageError(f"{path}: is UTF-16, not UTF-8. Convert it: iconv -f UTF-16{order} -t UTF-8 OLD > NEW.")
        raise UsageError(f"{path}: line {line} holds a NUL byte, so this is not plain text. Save it as UTF-8 text.")
    return text


def read_table(
    path: str | Path, data: bytes, *, columns: Sequence[str] | None = None, pad: bool = False, bare: bool = False
) -> Table:
    """The cells of a CSV or TSV file.

    columns: their names, for a file without a header. pad: a short row lacks its last cells (else it is a problem: with
    values left out in the middle, all that follow would land in a wrong column). UsageError if the file as a whole makes
    no sense. bare: rows are as long as they are.
    """
    text = text_of(path, data)
    if not text.strip():
        raise UsageError(f"{path}: is empty. Its first line must name the columns, e.g. uid,audio_path,system_id.")
    delimiter = _delimiter(text)
    table = Table([], [], [], [], delimiter) if columns is None else Table(list(columns), [], [], [], delimiter)
    source = _Lines(text)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    start = 0
    try:
        for cells in reader:
            start, before = reader.line_num, start
            raw = source.taken()
            if not any(cell.strip() for cell in cells) and not (cells == [""] and len(table.columns) == 1):
                continue
            if not table.columns:
                table.columns.extend(_column(name) for name in cells)
                check_columns(path, table.columns)
                table = table._replace(as_text=_as_text(raw, delimiter, table.columns))
                continue
            row = cells if bare else _fitted(cells, table.columns, pad)
            if row is None:
                table.problems.append(f"line {before + 1}: {_misfit(cells, table)}")
                continue
            table.rows.append(row)
            table.lines.append(before + 1)
    except csv.Error as e:
        table.problems.append(f"line {start + 1}: {e}")
    return table


class _Lines:
    """The lines of a text, and those taken since the last call of `taken`."""

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, newline="")
        self._taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self._taken.append(line)
            yield line

    def taken(self) -> str:
        taken, self._taken = "".join(self._taken), []
        return taken


def _fitted(cells: list[str], columns: list[str], pad: bool) -> list[str] | None:
    """A row of as many cells as there are columns; None if it has too many or too few. Empty ones may end it."""
    surplus, named = cells[len(columns) :], len(columns)
    while named and not columns[named - 1].strip():
        named -= 1
    if any(cell.strip() for cell in surplus) or (len(cells) < named and not pad):
        return None
    return (cells + [""] * (len(columns) - len(cells)))[: len(columns)]


def _misfit(cells: list[str], table: Table) -> str:
    text = f"{len(cells)} cells, but the header names {len(table.columns)} columns"
    commas = table.delimiter == "," and len(cells) > len(table.columns)
    return text + (" (text that holds a comma stands in quotes; a decimal comma must be a point)" if commas else "")


def check_columns(path: str | Path, columns: list[str]) -> None:
    """UsageError if two columns have one name."""
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise UsageError(f"{path}: two columns are called {brief(twice[0])}. Rename or remove one of them.")
    check_nesting(path, columns)


def check_nesting(path: str | Path, columns: list[str]) -> None:
    """UsageError if a column holds as a whole what others hold key by key, such as meta beside meta.speaker."""
    for whole in (*NESTED, "intervals"):
        part = next((name for name in columns if name.startswith(f"{whole}.")), None)
        if whole in columns and part is not None:
            raise UsageError(f"{path}: the column {whole} stands beside {brief(part)}. Keep one of them, or rename it.")


def _column(name: str) -> str:
    """A header cell; blanks around a name that we know are typing, around any other they may be the name."""
    bare = name.strip()
    return bare if bare in _KNOWN or is_metric_name(bare) or bare.startswith("metrics.") else name


def _delimiter(text: str) -> str:
    """The one of , tab ; that splits the header into most known names, then into most cells."""

    def score(delimiter: str) -> tuple[int, int]:
        try:
            rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
            cells = next((row for row in rows if any(cell.strip(" ,;\t") for cell in row)), [])
        except csv.Error:
            return 0, 0
        return sum(cell.strip() in _KNOWN or is_metric_name(cell.strip()) for cell in cells), len(cells)

    return max(",\t;", key=score)


def _as_text(head: str, delimiter: str, columns: list[str]) -> frozenset[str]:
    """Names in the line of the header that stand in quotes, but need none."""
    ends = rf"(?:^|[{delimiter}])", rf"(?:[{delimiter}\r\n]|$)"
    plain = [name for name in columns if name and not _SPECIAL.search(name)]
    return frozenset(name for name in plain if re.search(f'{ends[0]}"{re.escape(name)}"{ends[1]}', head))


def looks_like_data(columns: Sequence[str]) -> bool:
    """Whether a header holds a number and no name that we know: the file has none, and its first row was taken for one."""
    if any(name.strip() in _KNOWN or is_metric_name(name.strip()) for name in columns):
        return False
    return any(_is_number(name) for name in columns)


def _is_number(text: str) -> bool:
    try:
        return label(text) is not None
    except ValueError:
        return False


def rows_of_table(table: Table) -> tuple[list[list[Any]], list[int], list[str]]:
    """(values of the rows that can be read, their lines, a sentence for each other row); ABSENT: the row has no such key."""
    problems: dict[int, str] = {}
    values = [_values(table, place, problems) for place in range(len(table.columns))]
    kept = [i for i in range(len(table.rows)) if i not in problems]
    lines = [f"line {table.lines[i]}: {why}" for i, why in sorted(problems.items())]
    return [[column[i] for column in values] for i in kept], [table.lines[i] for i in kept], lines


def _values(table: Table, place: int, problems: dict[int, str]) -> list[Any]:
    """The values of a column; the first problem of each row is noted."""
    name, cells = table.columns[place], [row[place] for row in table.rows]
    if not name.strip():
        return [ABSENT] * len(cells)
    if not _has_meaning(name):
        return _as_strings(cells) if name in table.as_text else _decoded(name, cells, "audio_path" in table.columns)
    if table.delimiter != "," and (is_number_column(name) or is_metric_name(name)):
        cells = with_decimal_points(cells)
    values: list[Any] = []
    for i, cell in enumerate(cells):
        try:
            values.append(read_cell(name, cell))
        except ValueError as e:
            problems.setdefault(i, f"{name}: {e}")
            values.append(ABSENT)
    return values


def _has_meaning(column: str) -> bool:
    """Whether `read_cell` knows the column by its name."""
    return (
        is_text_column(column)
        or column in ID_COLUMNS
        or column in ID_LISTS
        or column == "warnings"
        or is_number_column(column)
        or is_metric_name(column)
    )


def _decoded(column: str, cells: Sequence[str], manifest: bool) -> list[Any]:
    """The values of a column that has no meaning of its own; ABSENT for an empty cell."""
    values = [decode_cell(cell) if cell else ABSENT for cell in cells]
    of_users = manifest and column not in VALUES and column.partition(".")[0] not in NESTED and not _SPECIAL.search(column)
    return (
        _as_strings(cells) if of_users and any(value is None or isinstance(value, str | bool) for value in values) else values
    )


def _as_strings(cells: Sequence[str]) -> list[Any]:
    return [cell or ABSENT for cell in cells]


def unguarded(path: str | Path, table: Table) -> Table:
    """The table without the apostrophes that `guarded` puts before text."""
    columns = [_without_guard(name) for name in table.columns]
    check_columns(path, columns)
    rows = [[_without_guard(cell) for cell in row] for row in table.rows]
    return table._replace(columns=columns, rows=rows, as_text=frozenset(map(_without_guard, table.as_text)))


def _without_guard(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


# ---- writing


def guarded(cell: str) -> str:
    """The text of a cell that no spreadsheet takes for a formula: with an apostrophe before =, +, -, @, a tab or a line break.

    Text that opens with apostrophes and one of these gets one more, so that every text comes back as it was.

    >>> guarded("=1+1"), guarded("-1.5"), guarded("'tis"), guarded("'=x")
    ("'=1+1", '-1.5', "'tis", "''=x")
    """
    return f"'{cell}" if _FORMULA.match(cell) else cell


def write_table(records: Iterable[Mapping[str, Any]], out: BinaryIO, delimiter: str) -> None:
    """Records as a table with a header, in UTF-8."""
    records = list(records)
    columns = columns_of(records)
    check_nesting("a table", columns)
    flats = [flatten(record) for record in records]
    head, cells = [], []
    for name in columns:
        values = [flat.get(name, ABSENT) for flat in flats]
        marked, column = _written(name, values, "audio_path" in columns)
        title = guarded(safe_text(name))
        head.append(f'"{title}"' if marked else _field(title))
        cells.append([_field(guarded(cell)) for cell in column])
    for row in [head, *zip(*cells, strict=True)]:
        line = delimiter.join(row) or '""'  # a blank line is no row
        out.write(line.encode() + b"\n")


def _written(name: str, values: list[Any], manifest: bool) -> tuple[bool, list[str]]:
    """(whether the name must be marked as that of a column of text, the cells)."""
    if _has_meaning(name):
        return False, [write_cell(name, value) for value in values]
    if all(value is ABSENT or _is_plain_text(value) for value in values):
        cells = ["" if value is ABSENT else value for value in values]
        marked = _decoded(name, cells, manifest) != _as_strings(cells)
        if not marked or not _SPECIAL.search(safe_text(name)):
            return marked, cells
    return False, ["" if value is ABSENT else encode_cell(value) for value in values]


def _is_plain_text(value: Any) -> bool:
    return isinstance(value, str) and value != "" and safe_text(value) == value


def _field(text: str) -> str:
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if _SPECIAL.search(text) else text
