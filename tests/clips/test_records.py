"""Values and their text: nothing changes on the way there and back, and NaN is never written."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.clips.records import (
    ABSENT,
    brief,
    columns_of,
    decode_cell,
    encode_cell,
    flatten,
    is_number_column,
    json_line,
    number,
    read_cell,
    unflatten,
    write_cell,
)
from urgentmos.common.json_values import plain
from urgentmos.errors import UsageError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def same(a: object, b: object) -> bool:
    """Equal in value and in type: 1, 1.0 and True are three things."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


@given(json_values)
def test_a_cell_reads_back_as_what_was_written(value):
    assert same(decode_cell(encode_cell(value)), value)


@given(st.text(alphabet='0123456789.eE+-"[]{}nulltrfasNaI '))
def test_text_that_looks_like_json_stays_text(text):
    assert decode_cell(encode_cell(text)) == text


@pytest.mark.parametrize("text", ["015", "utt 1", "a|b", "1e999", "NaN", "-Infinity", "ä", "true story", "[not json"])
def test_what_is_not_json_is_bare_text(text):
    assert decode_cell(text) == text == encode_cell(text)


@pytest.mark.parametrize(("text", "value"), [("12", 12), ("1.5", 1.5), ("null", None), ('"12"', "12"), ('["a", 1]', ["a", 1])])
def test_a_json_cell_is_its_value(text, value):
    assert same(decode_cell(text), value)


@pytest.mark.parametrize("value", [None, "", " ", "nan", "NA", "null", float("nan"), float("inf"), -math.inf, "inf", np.nan])
def test_missing_numbers_are_none(value):
    assert number(value) is None


@pytest.mark.parametrize(("value", "x"), [(3, 3.0), ("3.5", 3.5), (" 015", 15.0), (np.float32(0.5), 0.5), (0, 0.0), ("0", 0.0)])
def test_numbers_are_floats_and_zero_is_not_missing(value, x):
    assert number(value) == x
    assert type(number(value)) is float


@pytest.mark.parametrize("value", ["abc", "3,4", "1_000", True, [3.0], {}, 10**400, "x" * 10_000_000])
def test_what_is_no_number_is_named_briefly(value):
    with pytest.raises(ValueError, match="not a number") as e:
        number(value)
    assert len(str(e.value)) < 200


def test_brief_is_brief_whatever_is_nested():
    assert len(brief({str(i): [{"x": "y" * 1000}] * 100 for i in range(100)})) <= 120


def test_plain_knows_numpy_and_drops_what_json_cannot_say():
    value = {"a": np.arange(2), "b": (np.float32(0.5), np.nan), 3: {np.int64(1)}, "c": math.inf}
    assert plain(value) == {"a": [0, 1], "b": [0.5, None], "3": [1], "c": None}


@given(st.dictionaries(st.text(), json_values, max_size=4), st.floats())
def test_a_json_line_is_one_line_of_strict_json(meta, value):
    line = json_line({"uid": "u", "metrics": {"pesq": value}, "meta": {**meta, "x": value}})
    assert len(line.splitlines()) == 1
    back = json.loads(line, parse_constant=lambda name: pytest.fail(f"bare {name}"))
    assert same(back["metrics"]["pesq"], value if math.isfinite(value) else None)
    assert same({k: v for k, v in back["meta"].items() if k != "x"}, {k: v for k, v in meta.items() if k != "x"})


def test_a_file_name_that_is_not_utf8_survives_json():
    name = b"caf\xe9.wav".decode("utf-8", "surrogateescape")
    line = json_line({"uid": "u", "audio_path": name})
    line.encode()
    assert json.loads(line)["audio_path"] == name


def test_a_label_that_is_no_number_is_refused():
    with pytest.raises(UsageError, match=r"u1.*not a number"):
        json_line({"uid": "u1", "metrics": {"pesq": "good"}})


def test_endless_nesting_is_a_sentence():
    endless: dict[str, object] = {}
    endless["meta"] = {"self": endless}
    with pytest.raises(UsageError, match="itself"):
        json_line(endless)


def test_flattening_is_undone():
    record = {"uid": "u", "audio_path": "a.wav", "metrics": {"pesq": 1.0}, "meta": {"a.b": 1, "": 2}, "model": "m"}
    flat = flatten(record)
    assert list(flat) == ["uid", "audio_path", "metrics.pesq", "meta.a.b", "meta.", "model"]
    assert unflatten(list(flat), flat.values()) == record


def test_an_absent_key_stays_absent_and_none_does_not():
    assert unflatten(["uids", "meta.a", "meta.b"], [["x", "y"], ABSENT, None]) == {"uids": ["x", "y"], "meta": {"b": None}}


ends = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2)


@given(st.lists(st.dictionaries(st.text(min_size=1), ends, max_size=3), min_size=1, max_size=4))
def test_intervals_are_two_number_columns_a_metric(told):
    records = [{"audio_path": f"{i}.wav", "metrics": {}, "meta": {}, "intervals": row} for i, row in enumerate(told)]
    columns = columns_of(records)
    metrics = {name for row in told for name in row}
    assert sum(is_number_column(name) for name in columns) == 2 * len(metrics)
    for record in records:
        flat = flatten(record)
        cells = [read_cell(name, write_cell(name, flat.get(name, ABSENT))) for name in columns]
        back = unflatten(columns, cells)
        assert back.get("intervals", {}) == record["intervals"]


@pytest.mark.parametrize(
    "value", [[1.0, 2.0], {"a": 3.0}, {"a": [1.0]}, {"a": [1.0, "x"]}, {"a": [1, 2]}, {"a": None}, "text", None], ids=str
)
def test_other_things_called_intervals_are_cells_as_any(value):
    record = {"intervals": value}
    assert columns_of([record]) == ["intervals"]
    assert same(unflatten(["intervals"], [decode_cell(encode_cell(flatten(record)["intervals"]))]), record)
