"""Values of strangers as text, JSON and YAML: short, in bounded time, and never shared."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.common.untrusted import (
    DIGITS,
    MAX_YAML_BYTES,
    MAX_YAML_DEPTH,
    MAX_YAML_VALUES,
    load_json,
    load_yaml,
    parse_json,
    parse_yaml,
    reason,
    shown,
)
from urgentmos.errors import UsageError

yaml = pytest.importorskip("yaml")

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
NAMES = st.text(max_size=5)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4))
FLAT = st.lists(st.integers(-9, 9), max_size=4) | st.dictionaries(NAMES, st.integers(-9, 9), max_size=2)


def shared(levels: int, leaf: Any = "x", make: Any = lambda v: (v,) * 10) -> Any:
    """10^levels leaves in memory for a handful."""
    value = leaf
    for _ in range(levels):
        value = make(value)
    return value


@pytest.mark.parametrize("make", [lambda v: (v,) * 10, lambda v: [v] * 10, lambda v: dict.fromkeys(range(10), v)])
def test_what_is_shared_many_times_over_is_shown_at_once(make: Any) -> None:
    assert len(shown(shared(40, make=make))) <= 80


@given(TREES, st.integers(10, 200))
def test_every_value_is_shown_within_its_width(value: Any, width: int) -> None:
    assert 0 < len(shown(value, width)) <= width


@given(
    SCALARS | st.lists(st.integers(-9, 9), max_size=4) | st.dictionaries(st.text(max_size=2), st.integers(-9, 9), max_size=2)
)
def test_what_is_short_is_shown_as_it_is(value: Any) -> None:
    if len(repr(value)) <= 80 and not (isinstance(value, int) and len(str(value)) > 30):
        assert shown(value) == repr(value)


def test_a_huge_integer_is_shown_by_its_size() -> None:
    assert shown(10**9000) == "an integer of 29898 bits"
    assert "29898 bits" in shown([10**9000])


@given(st.sampled_from([ValueError, KeyError, TypeError, OSError, ArithmeticError]), st.sampled_from([0, 30]))
def test_a_reason_is_one_short_line(kind: type[Exception], levels: int) -> None:
    for argument in (shared(levels), "a\nb", "y" * 1000, "", 10**9000):
        text = reason(kind(argument))
        assert 0 < len(text) <= 200 and "\n" not in text
    assert reason(OSError(2, "No such file")) == "No such file" and reason(KeyError("rate")) == "'rate' is not there"


# ---- JSON


@given(TREES)
def test_json_comes_back(value: Any) -> None:
    big = json.dumps(value)
    try:
        assert parse_json(big) == value
    except ValueError:
        assert any(len(part) > DIGITS for part in big.replace(",", " ").split())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' stands in it twice"),
        ("[1e400]", "not a number that can be used"),
        ("NaN", "not a number"),
        ("-Infinity", "not a number"),
        ("9" * 100_000, "not a number"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("{", "line 1"),
        ("", "expecting value"),
    ],
    ids=range(9),
)
def test_other_json_is_refused_with_a_phrase(text: str, why: str, tmp_path: Any) -> None:
    with pytest.raises(ValueError, match=why):
        parse_json(text)
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UsageError, match=r"x\.json cannot be read as JSON \(.*\)\. Mend it\."):
        load_json(tmp_path / "x.json", 1 << 20, "Mend it.")


def test_json_of_any_size_is_not_read(tmp_path: Any) -> None:
    (tmp_path / "x.json").write_text(" " * 100 + "1")
    assert load_json(tmp_path / "x.json", 101, "") == 1
    with pytest.raises(UsageError, match="more than 100 bytes"):
        load_json(tmp_path / "x.json", 100, "")
    with pytest.raises(UsageError, match="No such file"):
        load_json(tmp_path / "none", 100, "Mend it.")


# ---- YAML


@given(st.dictionaries(st.text("abc_", min_size=1, max_size=5), TREES, max_size=5))
def test_yaml_that_a_library_wrote_comes_back_unshared(value: Any) -> None:
    text = yaml.safe_dump({"one": value, "two": value}, allow_unicode=True)
    try:
        read = parse_yaml(text)
    except ValueError as e:
        assert "digits" in str(e) or "special characters" in str(e)
        return
    assert read == yaml.safe_load(text)
    assert read["one"] is not read["two"]


@given(st.text("ab:-[]{}&*!<,'\"#|>?% \n\t0123456789.", max_size=60) | st.text(max_size=40))
def test_any_text_is_yaml_or_refused_with_a_phrase(text: str) -> None:
    try:
        parse_yaml(text)
    except ValueError as e:
        assert 0 < len(str(e)) < 200


def doubling(levels: int) -> str:
    """2^levels leaves."""
    return "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, levels + 1))


def test_references_are_read_as_long_as_they_do_not_multiply() -> None:
    assert parse_yaml(doubling(8))["a8"] == yaml.safe_load(doubling(8))["a8"]
    for levels in (16, 24):
        with pytest.raises(ValueError, match=f"more than {MAX_YAML_VALUES} values"):
            parse_yaml(doubling(levels))


@pytest.mark.parametrize("depth", [MAX_YAML_DEPTH + 1, MAX_YAML_DEPTH + 2, 10_000])
def test_depth_is_limited(depth: int) -> None:
    text = "[" * depth + "]" * depth
    if depth <= MAX_YAML_DEPTH + 1:  # the outermost has depth 0
        assert parse_yaml(text) == yaml.safe_load(text)
    else:
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_yaml(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: 1\na: 2", "'a' stands in it twice, line 2"),
        ("1: 2", "the key 1 is not text"),
        ("[1]: 2", "the key .* is not text"),
        ("&a [*a]", "nested too deeply"),
        ("x: &a {y: 1}\nz: {<<: *a}", "merge keys"),
        ("9" * 41, "too many digits"),
        ("0x" + "f" * 50, "too many digits"),
        ("!!python/object/apply:os.system [ls]", "tag 'python/object/apply:os.system' is not read"),
        ("!mine {a: 1}", "tag '!mine' is not read"),
        ("!!set {a, b}", "tag 'set' is not read"),
        ("!!binary aGVsbG8=", "tag 'binary' is not read"),
        ("!!int x", "no int"),
        ("a: \0", "special characters"),
        ("- 1\n---\n- 2", "another document"),
        ("{", "line 1"),
        ("'\\U99999999'", None),
        ('"\\U99999999"', "too large|chr"),
    ],
    ids=range(17),
)
def test_other_yaml_is_refused_with_a_phrase(text: str, why: str | None) -> None:
    if why is None:
        parse_yaml(text)
        return
    with pytest.raises(ValueError, match=why):
        parse_yaml(text)


def test_a_tag_can_be_dropped_but_never_obeyed() -> None:
    assert parse_yaml("x: !new:os.system\n  cmd: [!ref <a>, 1]\n", drop_tags=True) == {"x": {"cmd": ["<a>", 1]}}
    with pytest.raises(ValueError, match="is not read"):
        parse_yaml("x: !!python/name:os.system", drop_tags=True)


def test_a_date_is_text_and_empty_is_nothing() -> None:
    assert parse_yaml("name: 2020-01-01") == {"name": "2020-01-01"} and parse_yaml("") is None and parse_yaml("=") == "="


def test_yaml_of_any_size_is_not_read(tmp_path: Any) -> None:
    (tmp_path / "x.yaml").write_text("#" * (MAX_YAML_BYTES + 1))
    with pytest.raises(UsageError, match=r"x\.yaml cannot be read as YAML \(it has more than .* bytes\)\. Mend it\."):
        load_yaml(tmp_path / "x.yaml", "Mend it.")
