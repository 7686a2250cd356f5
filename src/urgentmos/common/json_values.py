"""JSON of rows: values that JSON can hold, and a lenient reader."""

import json
from collections.abc import Mapping
from math import inf, isfinite
from typing import Any

_CONSTANTS = {"NaN": None, "Infinity": inf, "-Infinity": -inf}  # Python's own json writes them
_LENIENT = json.JSONDecoder(parse_constant=_CONSTANTS.__getitem__)


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


def parse_row(text: str) -> Any:
    """The value of a JSON text, with NaN as None. ValueError with the reason if it is not JSON."""
    try:
        return _LENIENT.decode(text)
    except json.JSONDecodeError as e:
        raise ValueError(f"not valid JSON ({e.msg}, column {e.colno})") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:  # the interpreter's limit on the digits of an integer
        raise ValueError("a number with too many digits") from None
