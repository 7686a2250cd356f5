"""Values of files from strangers, handled in bounded time: as text for messages, as JSON, as YAML.

A few hundred bytes of pickle or YAML can hold a value that is harmless in memory and endless as text, because its parts are
shared: a list of ten references to a list of ten references, thirty deep. Code that puts a value of a file into a message uses
`shown`, an exception of a library `reason`. `load_json` and `parse_yaml` return plain trees of bounded size, in which nothing
is shared, so that the code behind them may copy, compare and print.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from urgentmos.errors import UsageError, need

WIDTH = 80  # characters of a value in a message
DEPTH, ITEMS = 2, 4  # of a container, as far as it is shown
_CONTAINERS = (Mapping, list, tuple, set, frozenset)
_LARGE = (int, *_CONTAINERS)  # arguments of an exception that may be endless as text
DIGITS = 40  # of a whole number, as text
MAX_YAML_BYTES = 1 << 18  # pure Python parses this in about three seconds; real ones have a few KB
MAX_YAML_VALUES = 1 << 16  # with everything that is shared counted as often as it stands there
MAX_YAML_DEPTH = 32


# --- messages


def shown(value: object, width: int = WIDTH) -> str:
    """The repr of any value, cut to `width` characters and computed in bounded time: "(('x', 'x', ...), ...)".

    Scalars, tuples, lists, sets and dicts are shown two levels deep, a huge integer by its size, anything else by its type.

    >>> shown([1, "a" * 200], width=20)
    "[1, 'aaaaaaaaaaa..."
    """
    text = _shown(value, width, DEPTH)
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _shown(value: object, width: int, depth: int) -> str:
    if value is None or isinstance(value, bool | float | complex):
        return repr(value)
    if isinstance(value, int):
        return str(int(value)) if value.bit_length() < 3 * DIGITS else f"an integer of {value.bit_length()} bits"
    if isinstance(value, str):
        return str.__repr__(value[:width])
    if isinstance(value, bytes | bytearray):
        return repr(bytes(value[:width]))
    if isinstance(value, Path):
        return _shown(str(value), width, depth)
    if isinstance(value, Mapping):
        pairs = (f"{_item(k, width, depth)}: {_item(v, width, depth)}" for k, v in value.items())
        return "{" + _listed(pairs, len(value)) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        opening, closing = {list: ("[", "]"), tuple: ("(", ")")}.get(type(value), ("{", "}"))
        comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
        return f"{opening}{_listed((_item(item, width, depth) for item in value), len(value))}{comma}{closing}"
    return f"<{type(value).__name__}>"


def _item(value: object, width: int, depth: int) -> str:
    if depth == 0 and isinstance(value, _CONTAINERS):
        return "..."
    return _shown(value, width, depth - 1)


def _listed(items: Iterable[str], count: int) -> str:
    first = [item for item, _ in zip(items, range(ITEMS), strict=False)]
    return ", ".join([*first, "..."] if count > ITEMS else first)


def reason(error: BaseException, width: int = 200) -> str:
    """The first line of an exception's message, without names of classes; its class if there is no message."""
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    elif isinstance(error, KeyError) and error.args:
        text = f"{shown(error.args[0], width)} is not there"
    elif any(isinstance(arg, _LARGE) for arg in error.args):
        text = ", ".join(arg if type(arg) is str and len(error.args) > 1 else shown(arg, width) for arg in error.args[:ITEMS])
    else:
        text = str(error)
    text = _first_line(_CLASSES.sub("", text))
    return (text if len(text) <= width else f"{text[: width - 3]}...") or type(error).__name__


# Names of classes and numbers of errors, as in "TProtocolException: Invalid data" and "[ONNXRuntimeError] : 7 : INVALID : ...".
_CLASSES = re.compile(r"\[\w*Error\] : \d+ : \w+ : |\[Errno -?\d+\] |\b[\w.]*(?:Error|Exception)\b: ?")


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "").strip()


# --- JSON


def load_json(path: Path, max_bytes: int, cure: str) -> Any:
    """The JSON value in a file. UsageError that ends in `cure` if there is none.

    Refused are files of more than `max_bytes`, keys that stand twice in one object, NaN, infinities and numbers beyond a
    float's range, integers of thousands of digits and deep nesting.
    """
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise ValueError(f"it has more than {max_bytes} bytes")
        return parse_json(content.decode("utf-8"))
    except (OSError, ValueError) as e:
        raise UsageError(f"{path} cannot be read as JSON ({reason(e)}). {cure}") from e


def parse_json(text: str) -> Any:
    """The value of a JSON text, as strict as `load_json`. ValueError with the reason if it is refused."""
    try:
        return _JSON.decode(text)
    except json.JSONDecodeError as e:
        raise ValueError(f"{e.msg.lower()}, line {e.lineno}, column {e.colno}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"{shown(twice)} stands in it twice")
    return values


def _number(text: str) -> float:
    x = float(text)
    return x if abs(x) < float("inf") else _no_number(text)


def _whole(text: str) -> int:
    return int(text) if len(text) <= DIGITS else _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{shown(text, 40)} is not a number that can be used")


_JSON = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number, parse_float=_number, parse_int=_whole)


# --- YAML


def load_yaml(path: Path, cure: str, *, drop_tags: bool = False, extra: str = "train") -> Any:
    """The value of a YAML file, as `parse_yaml` reads it. UsageError that ends in `cure` if there is none."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_YAML_BYTES + 1)
        if len(content) > MAX_YAML_BYTES:
            raise ValueError(f"it has more than {MAX_YAML_BYTES} bytes")
        return parse_yaml(content.decode("utf-8-sig"), drop_tags=drop_tags, extra=extra)
    except (OSError, ValueError) as e:
        raise UsageError(f"{path} cannot be read as YAML ({reason(e)}). {cure}") from e


def parse_yaml(text: str, *, drop_tags: bool = False, extra: str = "train") -> Any:
    """The value of a YAML text as a plain tree: dicts with text as keys, lists, text, numbers, truth values, None.

    ValueError with the reason if it is refused: no YAML, a key that stands twice or is no text, merge keys, more than
    MAX_YAML_VALUES values once references are followed, deep nesting, integers of more than 40 digits, tags. A date is text.

    drop_tags: what stands behind a tag of one's own (`!name:` in HyperPyYAML) is read as if the tag were not there.
    """
    yaml = need("yaml", extra)
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        return None if node is None else _Tree(loader, drop_tags).value(node, 0)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ValueError(f"{_first_line(getattr(e, 'problem', None) or str(e))[:100]}{where}") from None
    except (ArithmeticError, LookupError) as e:  # escapes beyond Unicode
        raise ValueError(reason(e)) from None


_TAG = "tag:yaml.org,2002:"
_TEXT = ("str", "timestamp", "value")  # a date, and a lone "=", are text


class _Tree:
    """Nodes of PyYAML, which are a graph, as values, which are a tree; its size is counted on the way."""

    def __init__(self, loader: Any, drop_tags: bool) -> None:
        self._loader, self._drop_tags = loader, drop_tags
        self._count = 0

    def value(self, node: Any, depth: int) -> Any:
        self._count += 1
        if self._count > MAX_YAML_VALUES or depth > MAX_YAML_DEPTH:
            many = f"it holds more than {MAX_YAML_VALUES} values, each counted as often as it is referred to"
            raise ValueError(("it is nested too deeply" if depth > MAX_YAML_DEPTH else many) + _line(node))
        tag = node.tag.removeprefix(_TAG)
        kind = node.id
        dropped = self._drop_tags and tag.startswith("!")
        if kind == "mapping" and (dropped or tag == "map"):
            return self._mapping(node, depth)
        if kind == "sequence" and (dropped or tag == "seq"):
            return [self.value(item, depth + 1) for item in node.value]
        if kind == "scalar":
            return self._scalar(node, "str" if dropped else tag)
        raise ValueError(f"the tag {shown(tag)} is not read{_line(node)}")

    def _mapping(self, node: Any, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, item in node.value:
            if key_node.tag == f"{_TAG}merge":
                raise ValueError(f"merge keys (<<) are not read{_line(key_node)}")
            key = self.value(key_node, depth + 1)
            if not isinstance(key, str):
                raise ValueError(f"the key {shown(key)} is not text{_line(key_node)}")
            if key in values:
                raise ValueError(f"{shown(key)} stands in it twice{_line(key_node)}")
            values[key] = self.value(item, depth + 1)
        return values

    def _scalar(self, node: Any, tag: str) -> Any:
        text = node.value
        if tag in _TEXT:
            return text
        if tag == "null":
            return None
        if tag not in ("int", "float", "bool"):
            raise ValueError(f"the tag {shown(tag)} is not read{_line(node)}")
        if tag == "int" and len(text) > DIGITS:
            raise ValueError(f"{shown(text, 40)} has too many digits{_line(node)}")
        try:
            return getattr(self._loader, f"construct_yaml_{tag}")(node)
        except (ArithmeticError, LookupError, ValueError):
            raise ValueError(f"{shown(text, 40)} is no {tag}{_line(node)}") from None


def _line(node: Any) -> str:
    return f", line {node.start_mark.line + 1}"
