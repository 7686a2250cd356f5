"""A record and its text: what a value looks like in JSON and in the cell of a table, and how it is read back.

JSON keeps a record as it is. A table flattens it once: `metrics.NAME`, `sources.NAME` and `meta.KEY` are columns, so are
`intervals.NAME.low` and `.high` of the intervals that `score` writes, and every other key is a column under its own name.
Text columns (ids, paths, sources, error) hold bare text and an empty cell is None, so that the id "015" stays "015". Number
columns (metrics, duration, ends of intervals) hold numbers and an empty cell is None. In any other column an empty cell means
that the row has no such key, and a cell is JSON only where writing its value gives the very same text again: `12` is a number,
`"12"` a string, `null` None, but `1.10`, `12e4` and `007` are text. `delimited.py` decides which columns are text as a whole.

A table, being rectangular, cannot express that a text or number column is absent in some rows only; those read back
as None.
"""

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from math import isfinite
from typing import Any, NoReturn

from urgentmos.common.json_values import plain
from urgentmos.common.untrusted import shown
from urgentmos.errors import UsageError
from urgentmos.metrics import ALIASES, METRICS

Record = dict[str, Any]

# What a row of a manifest holds, in its order.
CLIP_KEYS = (
    *("uid", "audio_path", "system_id", "reference_id", "corpus", "duration", "reference_path"),
    *("metrics", "sources", "meta"),
)
NESTED = ("metrics", "sources", "meta")
TEXT_COLUMNS = frozenset({*CLIP_KEYS} - {"duration", *NESTED} | {"model", "error"})

# Keys that name a clip, the first that a row has; and keys that name the two clips of a pair. All of them hold text.
ID_KEYS = ("uid", "sample_id", "id", "utterance_id", "utt_id", "key")
SIDES = (
    ("a", "b"),
    ("uid_a", "uid_b"),
    ("a_uid", "b_uid"),
    ("sample_a", "sample_b"),
    ("id_a", "id_b"),
    ("path", "path_b"),
    ("audio_a", "audio_b"),
)
SYSTEM_KEYS = ("system_a", "system_b", "system", "speaker", "speaker_id", "listener", "listener_id")
ID_COLUMNS = frozenset({*ID_KEYS, *(name for pair in SIDES for name in pair), *SYSTEM_KEYS}) - TEXT_COLUMNS
ID_LISTS = frozenset({"uids", "audio_paths"})  # lists of such names

VALUES = frozenset({"sources", "durations", "p_a", "p_tie", "p_b", "cmos"})  # other keys of ours, whose cells are JSON

# What others call the column with the files.
FILE_KEYS = (
    *("audio_path", "path", "file", "filename", "file_name", "file_path", "filepath", "wav", "wav_path", "wav_file", "wavfile"),
    *("audio", "audio_file", "deg", "deg_wav", "filename_deg", "filepath_deg", "name", "stem", "clip", "recording"),
)

# Keys of a score whose metric the row does not name.
SCORE_KEYS = ("pred_score", "score", "value", "prediction", "pred", "cmos")
_END = re.compile(r"intervals\.(.+)\.(low|high)", re.DOTALL)  # a column with one end of the interval of a metric
ABSENT = object()  # the row has no such key; None is a value

MISSING = frozenset({"", "nan", "na", "n/a", "none", "null", "-", "#n/a", "#na"})  # what tables write for "no value"
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


# ---- values


def brief(value: object) -> str:
    """repr of what a file held, short enough for a message."""
    return shown(value)


def number(value: object) -> float | None:
    """A finite value: None for null, `MISSING` text, NaN and infinities; ValueError for what is not a number."""
    x = label(value)
    return x if x is not None and isfinite(x) else None


def label(value: object) -> float | None:
    """Like `number`, but an infinity stays one: it is an error code, of which `label_range` warns."""
    if value is None:
        return None
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in MISSING:
            return None
        if "_" in text or not text.isascii():  # float() would take them
            raise ValueError(f"{brief(value)} is not a number")
        if _DECIMAL_COMMA.fullmatch(text):
            raise ValueError(f"{brief(value)} is not a number: write a decimal point, not a comma ({text.replace(',', '.')})")
        value = text
    elif isinstance(value, bool):
        raise ValueError(f"{value} is not a number")
    try:
        x = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{brief(value)} is not a number") from None
    return None if x != x else x


def id_text(value: object) -> str:
    """A name as text. A number is written as people write it: 15 and 15.0 (an integer column with gaps) are both "15".

    ValueError for what names nothing: a truth value, a list, NaN.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError(f"{brief(value)}, not text")
    if isinstance(value, int):
        return _digits(value)
    if not isfinite(value):
        raise ValueError(f"{value}, not text")
    return _digits(int(value)) if value == int(value) else str(value)


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # the interpreter's limit
        raise ValueError("a number with too many digits, not text") from None


def first_id(record: Mapping[str, Any]) -> str | None:
    """The name of a row's clip under the first of `ID_KEYS` that it has; None if it has none."""
    return next((named(record, key) for key in ID_KEYS if record.get(key) not in (None, "")), None)


def named(record: Mapping[str, Any], key: str) -> str | None:
    """The name under `key` as text; None if it is missing or empty. ValueError names the key."""
    value = record.get(key)
    if value is None or value == "":
        return None
    try:
        return id_text(value)
    except ValueError as e:
        raise ValueError(f"{key} is {e}") from None


def names_a_file(key: str) -> bool:
    """Whether a key is one of `FILE_KEYS`, regardless of capitals, blanks and hyphens."""
    return re.sub(r"[\s-]+", "_", key.strip().lower()) in FILE_KEYS


def is_text_column(name: str) -> bool:
    """True for the columns that hold bare text, and whose empty cell is None."""
    return name in TEXT_COLUMNS or name.startswith("sources.")


def is_number_column(name: str) -> bool:
    """True for the columns whose empty cell is a missing number."""
    return name == "duration" or name.startswith("metrics.") or _END.fullmatch(name) is not None


def is_metric_name(name: str) -> bool:
    """True for a column that is read as a metric because of its bare name."""
    return name in METRICS or name in ALIASES


def with_decimal_points(cells: list[str]) -> list[str]:
    """The cells of a number column with "3,5" as "3.5", if the column writes decimal commas throughout; else as they are."""
    filled = [cell.strip() for cell in cells if cell.strip().lower() not in MISSING]
    if any("." in cell for cell in filled):
        return cells
    return [cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell.strip()) else cell for cell in cells]


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


_STRICT = json.JSONDecoder(parse_constant=_no_constant)
_NAMES = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)  # [1.10, 2] are names, not numbers


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

_JSON_START = frozenset('{["-0123456789tfn')


def decode_cell(text: str) -> Any:
    """The JSON value that `encode_cell` writes as exactly this text; else the text itself."""
    if text[:1] in _JSON_START and text:
        with suppress(ValueError, RecursionError, UsageError):
            value = _STRICT.decode(text)
            if encode_cell(value) == text:
                return value
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
        return label(text)
    if text == "":
        return [] if column == "warnings" else ABSENT
    if column in ID_COLUMNS:
        return text
    if is_metric_name(column):
        return label(text)
    if column in ID_LISTS:
        return _names(text)
    return decode_cell(text)


def _names(text: str) -> Any:
    with suppress(ValueError, RecursionError):
        names = _NAMES.decode(text)
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return names
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
    if column in ID_COLUMNS and (value is None or isinstance(value, str)):
        return "" if value is None else safe_text(value)
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
