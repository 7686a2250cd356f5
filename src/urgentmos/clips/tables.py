"""Rows on disk: a record is a plain dict, and it is the same dict whether a .jsonl, .json, .csv or .parquet file held it.

`records.py` defines how a table writes a value. A .scp file holds `uid path`, or `uid value` of a single metric. Files are
written whole or not at all, and nothing that a file holds is ever executed.
"""

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, TextIO

from urgentmos.clips.delimited import check_columns, check_nesting, read_table, rows_of_table, text_of, unguarded, write_table
from urgentmos.clips.records import (
    ABSENT,
    ID_COLUMNS,
    Record,
    brief,
    columns_of,
    decode_cell,
    encode_cell,
    flatten,
    id_text,
    is_number_column,
    is_text_column,
    json_line,
    label,
    normal,
    number,
    safe_text,
    unflatten,
)
from urgentmos.common.json_values import parse_row, plain
from urgentmos.common.untrusted import reason
from urgentmos.errors import UsageError, need
from urgentmos.files import replacing
from urgentmos.metrics import METRICS, canonical

SUFFIXES = (".jsonl", ".csv", ".parquet", ".json", ".scp")
_LISTED = 10  # problems of a file that a message spells out


class Rows(NamedTuple):
    """The rows of a file. `numbers[i]` is the line (or row) of `records[i]`; a problem is a sentence that begins with it."""

    records: list[Record]
    numbers: list[int]
    unit: Literal["line", "row"]
    problems: list[str]
    columns: Sequence[str] = ()  # of a table, as its header names them


# ---- reading


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file. Check the path.") from None
    except (OSError, ValueError) as e:
        raise UsageError(f"{path}: cannot be read ({e}). Check the path and its permissions.") from None


def _read_jsonl(path: Path, data: bytes) -> Rows:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # what a shell of Windows pipes into a file
        data = text_of(path, data).encode()
    rows = Rows([], [], "line", [])
    for count, raw in enumerate(data.split(b"\n"), 1):
        if not raw.strip():
            continue
        try:
            record = parse_row(raw.decode("utf-8-sig" if count == 1 else "utf-8"))
            _append(rows, count, record)
        except UnicodeDecodeError as e:
            rows.problems.append(f"line {count}: not UTF-8 (byte 0x{raw[e.start]:02x})")
        except ValueError as e:
            rows.problems.append(f"line {count}: {e}")
    return rows


def _append(rows: Rows, count: int, record: Any) -> None:
    if not isinstance(record, dict):
        raise ValueError(f"{brief(record)} is not an object with keys")
    rows.records.append(record)
    rows.numbers.append(count)


def _read_json(path: Path, data: bytes) -> Rows:
    text = text_of(path, data)
    try:
        content = parse_row(text)
    except ValueError as e:
        lines = " If it holds one object a line, call it .jsonl." if "Extra data" in str(e) else " Correct it there."
        raise UsageError(f"{path}: {e}.{lines}") from None
    if not isinstance(content, list):
        raise UsageError(f"{path}: holds {brief(content)}, not a list of rows. Write [{{...}}, {{...}}], or use .jsonl.")
    rows = Rows([], [], "row", [])
    for count, record in enumerate(content, 1):
        try:
            _append(rows, count, record)
        except ValueError as e:
            rows.problems.append(f"row {count}: {e}")
    return rows


def _read_csv(path: Path, data: bytes, columns: Sequence[str] | None = None) -> Rows:
    table = unguarded(path, read_table(path, data, columns=columns))
    values, lines, problems = rows_of_table(table)
    records = [unflatten(table.columns, row) for row in values]
    return Rows(records, lines, "line", sorted([*table.problems, *problems], key=line_of), table.columns)


def line_of(problem: str) -> int:
    """The line or row with whose number a problem begins."""
    return int(problem.split(":", 1)[0].split()[1])


def _read_parquet(path: Path, data: bytes) -> Rows:
    parquet, arrow_error = need("pyarrow.parquet", "parquet"), need("pyarrow", "parquet").ArrowException
    try:
        table = parquet.ParquetFile(io.BytesIO(data)).read()
        fields = list(table.schema)
        columns = [str(field.name) for field in fields]
        check_columns(path, columns)
        values = [
            _from_arrow(c, f.metadata or {}, table.column(i)) for i, (c, f) in enumerate(zip(columns, fields, strict=True))
        ]
    except (arrow_error, OSError, ValueError, TypeError, LookupError, NotImplementedError, ArithmeticError) as e:
        raise UsageError(f"{path}: cannot be read as Parquet ({reason(e)}). Correct it or write it anew.") from None
    except (MemoryError, RecursionError):
        raise UsageError(f"{path}: unpacks to more than there is memory for. Correct it or write it anew.") from None
    keep = [i for i, name in enumerate(columns) if not re.fullmatch(r"__index_level_\d+__", name)]  # pandas
    names = [columns[i] for i in keep]
    rows = zip(*(values[i] for i in keep), strict=True) if keep else iter(())
    records = [unflatten(names, row) for row in rows]
    return Rows(records, list(range(1, len(records) + 1)), "row", [])


def _from_arrow(column: str, marks: Mapping[bytes, bytes], chunk: Any) -> list[Any]:
    values = chunk.to_pylist()
    if is_text_column(column) or column in ID_COLUMNS:
        empty = None if is_text_column(column) else ABSENT
        return [empty if v is None or v != v else _id(column, v) for v in values]
    if is_number_column(column):
        return _numbers(column, values)
    if column == "warnings":
        return [[] if v is None else v for v in values]
    if marks.get(b"urgentmos.cell") == b"json":
        return [ABSENT if v is None else decode_cell(v) for v in values]
    empty = None if marks.get(b"urgentmos.null") == b"none" else ABSENT
    return [empty if v is None else plain(v) for v in values]


def _id(column: str, value: Any) -> str:
    try:
        return id_text(value)
    except ValueError as e:
        raise ValueError(f"column {column}: {e}") from None


def _numbers(column: str, values: list[Any]) -> list[float | None]:
    try:
        return [label(v) for v in values]
    except ValueError as e:
        raise ValueError(f"column {column}: {e}") from None


def _read_scp(path: Path, data: bytes) -> Rows:
    parts = [re.split(r"[ \t]+", line.strip(), maxsplit=1) for line in text_of(path, data).split("\n")]
    held = [(count, part[0], part[1] if len(part) > 1 else "") for count, part in enumerate(parts, 1) if part[0]]
    rows = Rows([], [], "line", [])
    metric = _metric_of(path, [rest for _, _, rest in held])
    for count, uid, rest in held:
        try:
            _append(
                rows,
                count,
                {"uid": uid, **({"metrics": {metric: label(rest)}} if metric else {"audio_path": _scp_path(rest)})},
            )
        except ValueError as e:
            rows.problems.append(f"line {count}: {e}")
    return rows


def _scp_path(rest: str) -> str:
    if not rest:
        raise ValueError("has no path behind the uid")
    if rest.endswith("|") or rest.startswith("|"):
        raise ValueError(f"{brief(rest)} is a command, and nothing that a file holds is executed. Give the path of a file")
    return rest


def _metric_of(path: Path, values: list[str]) -> str | None:
    """The metric of a `uid value` file, known only from the file's name (mos.scp); None if it holds paths."""
    name = canonical(path.stem)
    if name in METRICS:
        return name
    try:
        numbers = [label(value) for value in values]
    except ValueError:
        return None
    return name if path.stem != "wav" and any(x is not None for x in numbers) else None


_READERS: dict[str, Callable[[Path, bytes], Rows]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    ".pq": _read_parquet,
    ".scp": _read_scp,
}


def is_table(path: Path) -> bool:
    """True if `read_rows` knows the file by its ending."""
    return path.suffix.lower() in _READERS


def read_rows(
    path: str | Path, data: bytes | None = None, *, ending: str | None = None, columns: Sequence[str] | None = None
) -> Rows:
    """All rows of a file, and a sentence for each that has no meaning. UsageError if the file as a whole has none.

    data: what the file holds, where it is not one of this machine. ending: how to read it, if not by its own. columns: the
    names of those of a CSV without a header.
    """
    path = Path(path)
    reader = _READERS.get((ending or path.suffix).lower())
    if reader is None:
        raise UsageError(f"{path}: rows are read from {' '.join(SUFFIXES)} files. Rename or convert it.")
    data = read_bytes(path) if data is None else data
    return reader(path, data) if columns is None else _read_csv(path, data, columns)


def read_records(path: str | Path, *, cut_ok: bool = False) -> list[Record]:
    """All rows of a .jsonl, .json, .csv, .tsv, .parquet or .scp file, with nothing resolved and nothing renamed.

    `cut_ok` forgives the last line of a .jsonl file if it was cut off, as a job that was killed leaves it behind.
    UsageError lists the first rows that have no meaning.
    """
    path = Path(path)
    rows = read_rows(path)
    problems = rows.problems
    if cut_ok and problems and _has_cut_tail(path, rows):
        problems = problems[:-1]
    complain(path, problems)
    return rows.records


def _has_cut_tail(path: Path, rows: Rows) -> bool:
    if path.suffix.lower() not in (".jsonl", ".ndjson"):
        return False
    data = path.read_bytes()
    last = data.count(b"\n") + 1
    return not data.endswith(b"\n") and rows.problems[-1].startswith(f"line {last}:")


def complain(path: str | Path, problems: list[str]) -> None:
    """One UsageError about all rows of a file that have no meaning; nothing if there are none."""
    if not problems:
        return
    listed = [f"  {path}, {problem}" for problem in problems[:_LISTED]]
    more = [f"  and {len(problems) - _LISTED} more"] if len(problems) > _LISTED else []
    rows = "1 row" if len(problems) == 1 else f"{len(problems)} rows"
    raise UsageError(f"{path}: {rows} cannot be understood:", *listed, *more, "Correct or remove them and run again.")


# ---- writing


def write_jsonl_lines(records: Iterable[Mapping[str, Any]], stream: TextIO) -> None:
    """Records as JSON lines into an open stream, each of them flushed, so that a pipe sees it at once."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    for record in records:
        line = json_line(record)
        try:
            line.encode(encoding)
        except UnicodeEncodeError:  # a terminal or pipe that is not UTF-8
            line = json.dumps(json.loads(line), ensure_ascii=True)
        stream.write(line + "\n")
        stream.flush()


def _write_jsonl(records: Iterable[Mapping[str, Any]], out: BinaryIO) -> None:
    for record in records:
        out.write(json_line(record).encode() + b"\n")


def _write_json(records: Iterable[Mapping[str, Any]], out: BinaryIO) -> None:
    lines = ",\n".join(json_line(record) for record in records)
    out.write(f"[\n{lines}\n]\n".encode() if lines else b"[]\n")


def _write_csv(records: Iterable[Mapping[str, Any]], out: BinaryIO) -> None:
    write_table(records, out, ",")


def _write_tsv(records: Iterable[Mapping[str, Any]], out: BinaryIO) -> None:
    write_table(records, out, "\t")


def _write_parquet(records: Iterable[Mapping[str, Any]], out: BinaryIO) -> None:
    pa, parquet = need("pyarrow", "parquet"), need("pyarrow.parquet", "parquet")
    records = list(records)
    columns = columns_of(records)
    check_nesting("a table", columns)
    flats = [flatten(record) for record in records]
    arrays = [_to_arrow(pa, name, [flat.get(name, ABSENT) for flat in flats]) for name in columns]
    schema = pa.schema([field for field, _ in arrays])
    parquet.write_table(pa.table([array for _, array in arrays], schema=schema), out)


def _to_arrow(pa: Any, name: str, values: list[Any]) -> tuple[Any, Any]:
    """(field, array) of one column; the field remembers what a null means where that is not plain from the column."""
    column = safe_text(name)
    cells: list[Any]
    if is_text_column(name):
        kind, cells = pa.string(), [None if v is None or v is ABSENT else safe_text(v) for v in values]
    elif is_number_column(name):
        kind, cells = pa.float64(), [None if v is ABSENT else number(v) for v in values]
    elif name == "warnings":
        kind, cells = pa.list_(pa.string()), [[safe_text(w) for w in v] if v and v is not ABSENT else [] for v in values]
    else:
        return _to_typed_arrow(pa, column, [v if v is ABSENT else plain(v) for v in values])
    return pa.field(column, kind), pa.array(cells, kind)


def _to_typed_arrow(pa: Any, column: str, values: list[Any]) -> tuple[Any, Any]:
    """A column of bool, int, float or str if all of its values are one of these and a null can mean one thing only."""
    types = {type(v) for v in values if v is not None and v is not ABSENT}
    has_none, has_absent = any(v is None for v in values), any(v is ABSENT for v in values)
    kind = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}.get(next(iter(types), type(None)))
    if len(types) == 1 and kind is not None and not (has_none and has_absent):
        cells = [None if v is ABSENT else v for v in values]
        with suppress(OverflowError, UnicodeEncodeError, pa.ArrowInvalid):
            null = {b"urgentmos.null": b"none" if has_none else b"absent"}
            return pa.field(column, kind, metadata=null), pa.array(cells, kind)
    cells = [None if v is ABSENT else encode_cell(v) for v in values]
    return pa.field(column, pa.string(), metadata={b"urgentmos.cell": b"json"}), pa.array(cells, pa.string())


def _write_scp(records: Iterable[Mapping[str, Any]], out: BinaryIO) -> None:
    records = [normal(record) for record in records]
    names = sorted({name for record in records for name in record.get("metrics") or {}})
    if len(names) > 1:
        raise UsageError(
            f"a .scp file holds one metric, not {len(names)} ({', '.join(names)}). Choose .jsonl or .csv, or one metric."
        )
    for record in records:
        uid = safe_text(record.get("uid") or "")
        value = (record.get("metrics") or {}).get(names[0]) if names else record.get("audio_path")
        text = "" if value is None else repr(value) if isinstance(value, float) else safe_text(value)
        if not uid or re.search(r"\s", uid) or re.search(r"[\r\n]|^\s|\s$", text):
            raise UsageError(
                f"a .scp file cannot hold the uid or path {brief(f'{uid} {text}')} (blanks). Choose .jsonl or .csv."
            )
        out.write(f"{uid} {text}".rstrip().encode() + b"\n")


_WRITERS: dict[str, Callable[[Iterable[Mapping[str, Any]], BinaryIO], None]] = {
    ".jsonl": _write_jsonl,
    ".ndjson": _write_jsonl,
    ".json": _write_json,
    ".csv": _write_csv,
    ".tsv": _write_tsv,
    ".parquet": _write_parquet,
    ".pq": _write_parquet,
    ".scp": _write_scp,
}


def check_output(path: str | Path) -> None:
    """UsageError if `write_records` could not write `path`: to call before long work, not after it."""
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise UsageError(f"{path}: rows are written to {' '.join(SUFFIXES)} files. Choose one of these endings.")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder. Name a file.")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist. Create it first.")
    if path.suffix.lower() in (".parquet", ".pq"):
        need("pyarrow.parquet", "parquet")


def write_records(records: Iterable[Mapping[str, Any]], path: str | Path) -> None:
    """All records into `path` in the format of its ending; the file appears whole or not at all.

    Metrics are `metrics.NAME`, their sources `sources.NAME` and meta is `meta.KEY` in .csv and .parquet. A .scp file holds
    `uid path`, or `uid value` if the records name exactly one metric. UsageError if the ending or the place cannot be written.
    """
    path = Path(path)
    check_output(path)
    with replacing(path) as out:
        _WRITERS[path.suffix.lower()](records, out)
