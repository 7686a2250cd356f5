"""A record and its text: what a value looks like in JSON and in the cell of a table, and how it is read back.

JSON keeps a record as it is. A table flattens it once: `metrics.NAME`, `sources.NAME` and `meta.KEY` are columns, so are
`intervals.NAME.low` and `.high` of the intervals that `score` writes, and every other key is a column under its own name.
Text columns (ids, paths, sources, error) hold bare text and an empty cell is None, so that the id "015" stays "015". Number
columns (metrics, duration, ends of intervals) hold numbers and an empty cell is None. Any other cell is text that reads back as
itself, or else JSON: `12` is a number, `"12"` a string, `null` None, and an empty cell means that the row has no such key.

What a table cannot say, as it is rectangular: that a text or number column is absent in some rows only; those read back
as None.
"""

import json
import re
import reprlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from math import isfinite
from typing import Any, NoReturn

from urgentmos.errors import UsageError

Record = dict[str, Any]

# What a row of a manifest holds, in its order.
CLIP_KEYS = (
    "uid",
    "audio_path",
    "system_id",
    "reference_id",
    "corpus",
    "duration",
    "reference_path",
    "metrics",
    "sources",
    "meta",
)
TEXT_COLUMNS = frozenset({*CLIP_KEYS} - {"duration", "metrics", "sources", "meta"} | {"model", "error"})
NESTED = ("metrics", "sources", "meta")
_END = re.compile(r"intervals\.(.+)\.(low|high)", re.DOTALL)  # a column with one end of the interval of a metric
ABSENT = object()  # the row has no such key; None is a value

_NO_NUMBER = frozenset({"", "nan", "na", "n/a", "none", "null"})


# ---- values


def brief(value: object) -> str:
    """repr of what a file held, short enough for a message."""
    shortener = reprlib.Repr()
    shortener.maxlevel, shortener.maxdict, shortener.maxlist = 2, 3, 3
    shortener.maxstring = shortener.maxother = 60
    text = shortener.repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def number(value: object) -> float | None:
    """A measured value: None for null, an empty cell, NaN and infinities; ValueError for what is not a number."""
    if value is None:
        return None
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _NO_NUMBER:
            return None
        if "_" in text:  # float() would take it
            raise ValueError(f"{brief(value)} is not a number")
        value = text
    elif isinstance(value, bool):
        raise ValueError(f"{value} is not a number")
    try:
        x = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{brief(value)} is not a number") from None
    return x if isfinite(x) else None


def plain(value: Any) -> Any:
    """`value` in the types of JSON: NaN and infinities are None, arrays and tuples are lists, anything else is its str."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return plain(value.tolist())
    return str(value)


def id_text(value: object) -> str:
    """A number that names something, as text: 15 and 15.0 (an integer column with gaps) are both "15"."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def is_text_column(name: str) -> bool:
    """True for the columns that hold bare text, and whose empty cell is None."""
    return name in TEXT_COLUMNS or name.startswith("sources.")


def is_number_column(name: str) -> bool:
    """True for the columns whose empty cell is a missing number."""
    return name == "duration" or name.startswith("metrics.") or _END.fullmatch(name) is not None


def normal(record: Mapping[str, Any]) -> Record:
    """The record with float metrics and duration."""
    normal = dict(record)
    try:
        if isinstance(normal.get("metrics"), Mapping):
            normal["metrics"] = {str(name): number(value) for name, value in normal["metrics"].items()}
        if "duration" in normal:
            normal["duration"] = number(normal["duration"])
    except ValueError as e:
        raise UsageError(f"{normal.get('uid')}: {e}. A metric and a duration are numbers, or None.") from None
    return normal


# ---- JSON


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


_LENIENT = json.JSONDecoder(parse_constant=lambda _: None)  # Python's own json writes bare NaN: read it as missing
_STRICT = json.JSONDecoder(parse_constant=_no_constant)


def parse_json(text: str) -> Any:
    try:
        return _LENIENT.decode(text)
    except json.JSONDecodeError as e:
        raise ValueError(f"not valid JSON ({e.msg}, column {e.colno})") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:  # the interpreter's limit on the digits of an integer
        raise ValueError("a number with too many digits") from None


def _dump(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise UsageError("a record is nested too deeply to be written. Flatten its meta.") from None
    except (TypeError, ValueError):
        try:
            text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False)
        except RecursionError:
            raise UsageError("a record contains itself and cannot be written. Flatten its meta.") from None
    if not _is_unicode(text):  # a file name that is not UTF-8 survives as \udcXX escapes
        return json.dumps(json.loads(text), ensure_ascii=True)
    # str.splitlines() breaks a line at these, and JSON does not escape them by itself.
    return text.replace("\x85", "\\u0085").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def json_line(record: Mapping[str, Any]) -> str:
    """One record as one line of JSON without its newline; floats round-trip exactly and NaN is null."""
    return _dump(normal(record))


# ---- cells of a table


def decode_cell(text: str) -> Any:
    """JSON if the cell is JSON, else the text itself."""
    if text.lstrip()[:1] in set('{["-0123456789tfn'):
        with suppress(ValueError, RecursionError):
            value = _STRICT.decode(text)
            return text if isinstance(value, float) and not isfinite(value) else value
    return text


def encode_cell(value: Any) -> str:
    """The text that `decode_cell` turns back into `value`."""
    if isinstance(value, str):
        bare = value and "\0" not in value and _is_unicode(value) and decode_cell(value) is value
        return value if bare else json.dumps(value)
    return _dump(value)


def read_cell(column: str, text: str) -> Any:
    if is_text_column(column):
        return text or None
    if is_number_column(column):
        return number(text)
    if text == "":
        return [] if column == "warnings" else ABSENT
    return decode_cell(text)


def write_cell(column: str, value: Any) -> str:
    if value is ABSENT:
        return ""
    if is_text_column(column):
        return "" if value is None else safe_text(value)
    if is_number_column(column):
        x = number(value)
        return "" if x is None else repr(x)
    if column == "warnings" and not value:
        return ""
    return encode_cell(value)


def safe_text(value: object) -> str:
    """`value` as text that every format can hold: NUL and bytes of a name that is not UTF-8 are spelled out."""
    return str(value).replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def flatten(record: Mapping[str, Any]) -> Record:
    flat: Record = {}
    for key, value in normal(record).items():
        if key in NESTED and isinstance(value, Mapping):
            flat.update({f"{key}.{name}": v for name, v in value.items()})
        elif _are_intervals(key, value):
            flat.update({column: end for name, ends in value.items() for column, end in zip(_ends(name), ends, strict=True)})
        else:
            flat[key] = value
    return flat


def _are_intervals(key: str, value: Any) -> bool:
    """Whether it is what `score` writes: {metric: [low, high]}."""
    if key != "intervals" or not isinstance(value, Mapping):
        return False
    pairs = [ends if isinstance(ends, list | tuple) else () for ends in value.values()]
    return all(len(ends) == 2 and all(isinstance(end, float) and isfinite(end) for end in ends) for ends in pairs)


def _ends(metric: object) -> tuple[str, str]:
    return f"intervals.{metric}.low", f"intervals.{metric}.high"


def unflatten(columns: list[str], values: Iterable[Any]) -> Record:
    record: Record = {}
    if "audio_path" in columns:  # a clip: its metrics and meta are there even when they are empty
        record = {key: {} if key in NESTED else None for key in CLIP_KEYS if key in columns or key in ("metrics", "meta")}
    for column, value in zip(columns, values, strict=True):
        if value is ABSENT:
            continue
        head, dot, name = column.partition(".")
        if dot and head in NESTED:
            nested = record.setdefault(head, {})
            if head != "sources" or value is not None:  # a value that is missing has no source
                nested[name] = value
        elif end := _END.fullmatch(column):
            ends = record.setdefault("intervals", {})
            if value is not None:  # a clip that could not be scored has no interval
                ends.setdefault(end[1], [None, None])[end[2] == "high"] = value
        else:
            record[column] = value
    return record


def columns_of(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of all columns: as the keys of the records come, each metric and meta key beside its kin."""
    heads: dict[str, dict[str, None]] = {}
    for record in records:
        for key, value in record.items():
            columns = [key]
            if key in NESTED and isinstance(value, Mapping):
                columns = [f"{key}.{name}" for name in value]
            elif _are_intervals(key, value):
                columns = [column for name in value for column in _ends(name)]
            heads.setdefault(key, {}).update(dict.fromkeys(columns))
    return [name for names in heads.values() for name in names] or [key for key in CLIP_KEYS if key not in NESTED]
