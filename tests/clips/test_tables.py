"""Files of rows: what is written is read back the same in every format, and no file makes a traceback."""

import io
import json
import os
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.clips.tables import check_output, read_records, read_rows, write_jsonl_lines, write_records
from urgentmos.errors import UsageError

FORMATS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")

names = st.text(min_size=1, max_size=12).filter(lambda s: "\0" not in s)
optional_names = st.none() | names
finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(max_size=12) | st.sampled_from(["015", "1", "null", ""]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
keys = st.text(max_size=6).filter(lambda s: "\0" not in s) | st.sampled_from(["lang", "a.b", "x;y", 'q"', "l\nm"])
records = st.fixed_dictionaries(
    {
        "uid": names | st.just("015"),
        "audio_path": names,
        "system_id": optional_names,
        "reference_id": optional_names,
        "corpus": optional_names,
        "duration": st.none() | finite,
        "reference_path": optional_names,
        "metrics": st.fixed_dictionaries({"mos_overall": st.none() | finite, "pesq": st.none() | finite}),
        "meta": st.dictionaries(keys, values, max_size=4),
        "model": optional_names,
        "error": optional_names,
        "warnings": st.lists(names, max_size=2),
    }
)


def exact(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def through(rows: list[dict], suffix: str) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        write_records(rows, path)
        assert os.listdir(folder) == [path.name]
        return read_records(path)


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=60)
@given(rows=st.lists(records, min_size=1, max_size=4))
def test_records_round_trip(suffix, rows):
    assert exact(through(rows, suffix)) == exact(rows)


@pytest.mark.parametrize("suffix", FORMATS)
def test_pair_rows_round_trip(suffix):
    rows = [
        {
            "uids": ["a", "b"],
            "durations": [1.5, None],
            "metrics": {"mos_overall": -0.5},
            "verdict": "tie",
            "scope": "reference",
        },
        {"uids": ["a", "c"], "durations": [1.5, 2.0], "metrics": {"mos_overall": 1.0}, "verdict": "a", "scope": "reference"},
    ]
    assert exact(through(rows, suffix)) == exact(rows)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_metric_that_only_some_rows_have_is_none_in_the_others(suffix):
    rows = [{"uid": "a", "metrics": {"pesq": 1.0}}, {"uid": "b", "metrics": {"sdr": 2.0}}]
    assert through(rows, suffix) == [
        {"uid": "a", "metrics": {"pesq": 1.0, "sdr": None}},
        {"uid": "b", "metrics": {"pesq": None, "sdr": 2.0}},
    ]


@pytest.mark.parametrize("suffix", FORMATS)
def test_nan_is_missing_and_never_written(suffix, tmp_path):
    path = tmp_path / f"rows{suffix}"
    write_records(
        [{"uid": "a", "audio_path": "a.wav", "metrics": {"pesq": float("nan"), "sdr": float("inf")}, "meta": {}}], path
    )
    assert read_records(path)[0]["metrics"] == {"pesq": None, "sdr": None}
    if suffix != ".parquet":
        assert "nan" not in path.read_text().lower()
        assert "inf" not in path.read_text().lower()


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_records_make_a_file_without_rows(suffix, tmp_path):
    assert through([], suffix) == []


def test_csv_columns_are_what_the_contract_says(tmp_path):
    path = tmp_path / "rows.csv"
    row = {"uid": "015", "metrics": {"pesq": 3}, "meta": {"lang": "de", "ratings": [1, 2]}, "error": None, "warnings": ["a, b"]}
    write_records([row], path)
    assert path.read_text() == 'uid,metrics.pesq,meta.lang,meta.ratings,error,warnings\n015,3.0,de,"[1, 2]",,"[""a, b""]"\n'


def test_parquet_types_are_what_the_contract_says(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    write_records(
        [{"uid": "015", "metrics": {"pesq": 3}, "meta": {"votes": 8, "r": [1]}, "error": None, "warnings": ["w"]}], path
    )
    types = {field.name: str(field.type) for field in parquet.read_schema(path)}
    assert types.pop("warnings").startswith("list<")
    assert types == {"uid": "string", "metrics.pesq": "double", "meta.votes": "int64", "meta.r": "string", "error": "string"}
    assert parquet.read_table(path).to_pylist()[0]["warnings"] == ["w"]


def test_numbers_of_a_foreign_parquet_become_text_ids(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"audio_path": ["a", "b"], "system_id": [15.0, None], "mos": [3, None], "__index_level_0__": [0, 1]})
    parquet.write_table(table, tmp_path / "a=1.parquet")
    first, second = read_records(tmp_path / "a=1.parquet")
    assert first == {"audio_path": "a", "system_id": "15", "metrics": {}, "meta": {}, "mos": 3}
    assert second == {"audio_path": "b", "system_id": None, "metrics": {}, "meta": {}}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "metas",
    [
        [{"k": None}, {"k": 1}],
        [{}, {"k": 1}],
        [{"k": None}, {"k": 1}, {}],
        [{"k": True}, {"k": 1}, {"k": 1.0}],
        [{"k": 2**70}],
        [{"k": "a\0b"}],
    ],
)
def test_none_absent_and_types_of_meta_are_told_apart(suffix, metas):
    rows = [{"uid": "u", "audio_path": "a", "metrics": {}, "meta": meta} for meta in metas]
    assert [exact(row["meta"]) for row in through(rows, suffix)] == [exact(meta) for meta in metas]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_row_whose_only_cell_is_empty_is_still_a_row(suffix):
    assert through([{"error": None}, {"error": "x"}], suffix) == [{"error": None}, {"error": "x"}]


# ---- scp


def test_scp_holds_one_metric_or_paths(tmp_path):
    write_records(
        [{"uid": "a", "metrics": {"mos_overall": 3.25}}, {"uid": "b", "metrics": {"mos_overall": None}}], tmp_path / "mos.scp"
    )
    assert (tmp_path / "mos.scp").read_text() == "a 3.25\nb\n"
    assert [r["metrics"] for r in read_records(tmp_path / "mos.scp")] == [{"mos_overall": 3.25}, {"mos_overall": None}]
    write_records([{"uid": "a", "audio_path": "x y/z.wav", "metrics": {}}], tmp_path / "wav.scp")
    assert read_records(tmp_path / "wav.scp") == [{"uid": "a", "audio_path": "x y/z.wav"}]


@pytest.mark.parametrize(
    "row",
    [{"uid": "a", "metrics": {"pesq": 1, "sdr": 1}}, {"uid": "a b", "audio_path": "x"}, {"uid": "a", "audio_path": "x\ny"}],
)
def test_scp_refuses_what_it_cannot_hold(row, tmp_path):
    with pytest.raises(UsageError, match="Choose"):
        write_records([row], tmp_path / "out.scp")
    assert not os.listdir(tmp_path)


def test_paths_of_wav_scp_may_look_like_numbers(tmp_path):
    (tmp_path / "wav.scp").write_text("a 001\nb 002\n")
    assert [r.get("audio_path") for r in read_records(tmp_path / "wav.scp")] == ["001", "002"]


# ---- foreign CSV


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_csv_dialects(delimiter, end, start, tmp_path):
    lines = ["uid,audio_path,mos,note", "015,a b.wav,3.5,x", '"1","q""q.wav",,', ""]
    text = start + end.join(line.replace(",", delimiter) for line in lines)
    (tmp_path / "m.csv").write_bytes(text.encode())
    assert read_records(tmp_path / "m.csv") == [
        {"uid": "015", "audio_path": "a b.wav", "metrics": {}, "meta": {}, "mos": 3.5, "note": "x"},
        {"uid": "1", "audio_path": 'q"q.wav', "metrics": {}, "meta": {}},
    ]


def test_the_unnamed_index_column_of_pandas_is_left_out(tmp_path):
    (tmp_path / "m.csv").write_text(",audio_path,\n0,a.wav,\n")
    assert read_records(tmp_path / "m.csv") == [{"audio_path": "a.wav", "metrics": {}, "meta": {}}]


# ---- files that are wrong

WRONG = {
    "empty.csv": (b"", "empty"),
    "twice.csv": (b"uid,audio_path,uid\n1,2,3\n", "two columns"),
    "short.csv": (b"uid,audio_path\na,b\nc\n", "line 3: 1 cells"),
    "long.csv": (b"uid,audio_path\na,b,c\n", "line 2: 3 cells"),
    "open.csv": (b'uid,audio_path\na,"b\n', "line 2"),
    "word.csv": (b"uid,audio_path,metrics.pesq\na,b,good\n", "line 2: metrics.pesq: 'good' is not a number"),
    "latin.csv": (b"uid,audio_path\na,b\n\nc,caf\xe9\n", "line 4 is not UTF-8 .*iconv"),
    "nul.csv": (b"uid,audio_path\na,\0\n", "NUL"),
    "utf16.csv": ("uid,audio_path\n".encode("utf-16-le"), "UTF-16.*iconv -f UTF-16LE -t UTF-8"),
    "half.csv": ("uid,audio_path\n".encode("utf-16")[:-1], "UTF-16"),
    "wide.csv": (b"uid,audio_path\na," + b"x" * 10_000_000 + b"\n", "line 2: field larger"),
    "bad.jsonl": (b'{"a": 1}\n{"a": \n\n{"b": 2}\n', "line 2: not valid JSON"),
    "list.jsonl": (b"[1]\n3\n", "2 rows"),
    "latin.jsonl": (b'{"a": "caf\xe9"}\n', "line 1: not UTF-8 .byte 0xe9"),
    "nul.jsonl": (b'{"a": "\0"}\n', "line 1: not valid JSON"),
    "deep.jsonl": (b"[" * 1_000_000 + b"\n", "line 1: nested too deeply"),
    "digits.jsonl": (b'{"a": ' + b"1" * 5000 + b"}\n", "line 1: .*digits"),
    "object.json": (b'{"a": 1}', "not a list"),
    "lines.json": (b'{"a": 1}\n{"a": 2}\n', "call it .jsonl"),
    "deep.json": (b'{"a":' * 1_000_000, "nested too deeply"),
    "item.json": (b'[{"a": 1}, 3]', "row 2: 3 is not an object"),
    "text.parquet": (b"hello", "Parquet"),
    "empty.parquet": (b"", "Parquet"),
    "pipe.scp": (b"a x.wav\nb sox x.wav - |\n", "line 2: .*command"),
    "bare.scp": (b"a x.wav\nb\n", "line 2: has no path"),
    "mos.scp": (b"a 3.5\nb good\n", "line 2: 'good' is not a number"),
    "rows.txt": (b"a", "rows are read from"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_makes_a_sentence(name, tmp_path):
    data, sentence = WRONG[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=sentence) as e:
        read_records(tmp_path / name)
    assert name in str(e.value)
    assert len(str(e.value)) < 1000


def test_the_first_ten_problems_are_listed_and_the_rest_counted(tmp_path):
    (tmp_path / "m.jsonl").write_text("x\n" * 13)
    with pytest.raises(UsageError, match="13 rows") as e:
        read_records(tmp_path / "m.jsonl")
    assert str(e.value).count("m.jsonl, line") == 10
    assert "and 3 more" in str(e.value)


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_records(tmp_path / "no.jsonl")


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".scp", ".parquet"])
@settings(max_examples=80)
@given(data=st.binary(max_size=60) | st.text(alphabet='uid,audio_path;\t"\n\r{}[]:1. ', max_size=60).map(str.encode))
def test_no_bytes_make_a_traceback(suffix, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"m{suffix}"
        path.write_bytes(data)
        try:
            assert all(isinstance(record, dict) for record in read_rows(path).records)
        except UsageError as e:
            assert str(path) in str(e)


def test_only_a_cut_last_line_is_forgiven(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"uid": "a"}\n{"uid": "b')
    assert read_records(path, cut_ok=True) == [{"uid": "a"}]
    with pytest.raises(UsageError):
        read_records(path)
    path.write_text('{"uid": "a"\n{"uid": "b"}')
    with pytest.raises(UsageError, match="line 1"):
        read_records(path, cut_ok=True)


# ---- writing


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("old")

    def rows():
        yield {"uid": "a"}
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write_records(rows(), path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["rows.jsonl"]


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "real.jsonl").write_text("old")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
    write_records([{"uid": "a"}], tmp_path / "link.jsonl")
    assert (tmp_path / "link.jsonl").is_symlink()
    assert read_records(tmp_path / "real.jsonl") == [{"uid": "a"}]


@pytest.mark.parametrize(
    ("name", "sentence"), [("a.txt", "endings"), ("no/a.csv", "does not exist"), ("folder.csv", "is a folder")]
)
def test_a_place_that_cannot_be_written_is_known_before_the_work(name, sentence, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UsageError, match=sentence):
        check_output(tmp_path / name)


def test_lines_into_a_pipe_that_knows_ascii_only():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    write_jsonl_lines([{"uid": "é"}, {"uid": "b"}], stream)
    assert [json.loads(line)["uid"] for line in raw.getvalue().splitlines()] == ["é", "b"]


def test_names_that_are_not_unicode_do_not_stop_a_table(tmp_path):
    name = b"caf\xe9.wav".decode("utf-8", "surrogateescape")
    for suffix in FORMATS:
        write_records([{"uid": "a", "audio_path": name, "metrics": {}, "meta": {"n": name}}], tmp_path / f"m{suffix}")
        assert read_records(tmp_path / f"m{suffix}")[0]["meta"] == {"n": name}


def _timestamps(pa: Any, unit: str, value: int) -> Any:
    return pa.array([value], pa.timestamp(unit))


@pytest.mark.parametrize(
    "column",
    [
        lambda pa: _timestamps(pa, "ms", 2**62),
        lambda pa: _timestamps(pa, "us", -(2**62)),
        lambda pa: _timestamps(pa, "ns", 2**62 + 1),
        lambda pa: pa.array([2**30], pa.date32()),
        lambda pa: pa.array([2**62], pa.duration("s")),
        lambda pa: pa.array([2**64 - 1], pa.uint64()),
        lambda pa: pa.array([Decimal(10) ** 30], pa.decimal256(60, 2)),
        lambda pa: pa.array([0], pa.timestamp("us", tz="Nowhere/Land")),
        lambda pa: pa.array([b"\xff"], pa.binary()),
        lambda pa: pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    ],
)
@pytest.mark.parametrize("name", ["x", "uid", "metrics.pesq", "duration", "warnings", "sources.pesq"])
def test_values_that_overflow_are_values_or_one_sentence(name: str, column: Callable[[Any], Any], tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"audio_path": ["a.wav"], name: column(pa)}), path)
    try:
        assert len(read_records(path)) == 1
    except UsageError as e:
        assert str(e).startswith(f"{path}: cannot be read as Parquet (") and len(str(e).splitlines()) == 1


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
@given(value=st.one_of(st.integers(-(10**400), 10**400), st.sampled_from([2**63, -(2**63) - 1, 2**64])))
def test_integers_of_any_size_survive(suffix: str, value: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path_factory.mktemp("integers") / f"x{suffix}"
    write_records([{"uid": "a", "meta": {"n": value}}], path)
    assert read_records(path)[0]["meta"]["n"] == value
