"""Tables of text: cells come back as they were written, whoever wrote the file, and one reader serves every command."""

import csv
import io
import json
import tempfile
from itertools import pairwise
from math import isfinite
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from urgentmos.clips.clip import from_record, to_record
from urgentmos.clips.delimited import _without_guard, guarded, looks_like_data, read_table
from urgentmos.clips.records import ID_COLUMNS, ID_KEYS, SIDES
from urgentmos.clips.tables import read_records, write_records
from urgentmos.errors import UsageError

CELLS = [
    "12e4",
    "1.10",
    "1.1",
    "null",
    "true",
    "007",
    "",
    "NaN",
    '"1"',
    '"hi"',
    "[1, 2]",
    "{}",
    "1",
    "-",
    " NA",
    "a\nb",
    "a,b",
    "é",
]
cells = (
    st.sampled_from(CELLS) | st.text(max_size=8).filter(lambda s: "\0" not in s) | st.floats().map(str) | st.integers().map(str)
)
texts = cells.filter(lambda s: s.strip() != "")
names = st.sampled_from(["speaker", "session", "note", "lang", "snr db", "x;y", "A"])


def written(table: list[list[str]], delimiter: str = ",") -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator="\r\n").writerows(table)
    return out.getvalue().encode()


def scored(path: Path, out: Path) -> None:
    """What `score` does to the columns of users: read rows, make clips of them, write these."""
    write_records(
        (to_record(from_record(row, path.parent), out.parent, {"model": "m", "error": None}) for row in read_records(path)), out
    )


def column(path: Path, name: str) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return [_without_guard(row[name]) for row in csv.DictReader(file)]


@settings(max_examples=150)
@given(
    column_name=names.filter(lambda name: ";" not in name),
    values=st.lists(cells, min_size=1, max_size=5),
    delimiter=st.sampled_from(",;\t"),
)
@example("speaker", ["12e4", "1.10", "1.1", "null", "true", "007", "", "NaN"], ",")
@example("speaker", ["1.1", "null"], ",")
@example("speaker", ['"1"', "2"], ",")
def test_columns_of_users_come_back_as_they_were(column_name, values, delimiter):
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("m.csv", "1.csv", "2.csv", "3.tsv")]
        table = [["audio_path", column_name], *([f"{i}.wav", value] for i, value in enumerate(values))]
        paths[0].write_bytes(written(table, delimiter))
        for one, two in pairwise(paths):
            scored(one, two)
        for path in paths[1:3]:
            if any(values):  # a column without any cell is not there
                assert column(path, f"meta.{column_name}") == values
        first, last = ([row["meta"].get(column_name) for row in read_records(paths[k])] for k in (1, 3))
        assert first == last


def test_a_column_is_text_or_numbers_as_a_whole(tmp_path):
    (tmp_path / "m.csv").write_text("audio_path,session,snr,speaker\na.wav,1.10,1.5,12e4\nb.wav,1.1,-2,null\n")
    assert [(r["session"], r["snr"], r["speaker"]) for r in read_records(tmp_path / "m.csv")] == [
        ("1.10", 1.5, "12e4"),
        ("1.1", -2, "null"),
    ]
    scored(tmp_path / "m.csv", tmp_path / "o.csv")
    assert "meta.session" in (tmp_path / "o.csv").read_text().splitlines()[0]
    back = read_records(tmp_path / "o.csv")
    assert [r["meta"] for r in back] == [
        {"session": "1.10", "snr": 1.5, "speaker": "12e4"},
        {"session": "1.1", "snr": -2, "speaker": "null"},
    ]


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
@given(words=st.lists(st.sampled_from(["null", "true", "false", "x", "1"]), min_size=1, max_size=4))
def test_words_are_text(ending, words):
    if words == ["1"] * len(words):
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.csv"
        path.write_bytes(written([["audio_path", "flag"], *([f"{i}.wav", word] for i, word in enumerate(words))]))
        scored(path, path.with_name(f"o.{ending}"))
        assert [row["meta"]["flag"] for row in read_records(path.with_name(f"o.{ending}"))] == words


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
@given(value=st.text(min_size=1, max_size=6).filter(lambda s: "\0" not in s) | st.sampled_from(["1.1", "null", "[1]", '"1"']))
@settings(max_examples=40)
def test_text_of_users_in_json_is_text_in_a_table(ending, value):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"o.{ending}"
        rows = [{"uid": "u", "audio_path": "a.wav", "metrics": {}, "meta": {"speaker": value}}]
        write_records(rows, path)
        assert json.dumps(read_records(path)[0]["meta"]) == json.dumps({"speaker": value})
        if ending == "csv":
            assert column(path, "meta.speaker") == [value]


def test_a_number_and_a_text_in_one_column_stay_apart(tmp_path):
    rows = [
        {"uid": str(i), "audio_path": "a", "metrics": {}, "meta": {"k": k}} for i, k in enumerate([1.1, "1.10", "1.1", None])
    ]
    write_records(rows, tmp_path / "m.csv")
    assert [row["meta"]["k"] for row in read_records(tmp_path / "m.csv")] == [1.1, "1.10", "1.1", None]


def test_files_of_older_versions_are_read(tmp_path):
    (tmp_path / "m.csv").write_text('uid,audio_path,meta.k,meta.r\nu,a.wav,"""12""","[[""L1"", 3.0]]"\nv,b.wav,abc,null\n')
    assert [row["meta"] for row in read_records(tmp_path / "m.csv")] == [
        {"k": "12", "r": [["L1", 3.0]]},
        {"k": "abc", "r": None},
    ]


# ---- names

KEYS = sorted({*ID_KEYS, *(key for pair in SIDES for key in pair), *ID_COLUMNS, "system_id", "reference_id", "corpus"})


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("ending", ["csv", "tsv"])
@given(ids=st.lists(texts, min_size=1, max_size=4))
@example(["1.10", "12e4", "0012", "null", "true", "1e5", " NA", "1.1"])
@settings(max_examples=15)
def test_a_name_is_text_under_every_key(key, ending, ids):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"m.{ending}"
        path.write_bytes(written([[key, "score"], *([name, "1.5"] for name in ids)], "\t" if ending == "tsv" else ","))
        # An apostrophe before a formula marks text, as in spreadsheets; a file that urgentmos writes has one more.
        assert [row[key] for row in read_records(path)] == [_without_guard(name) for name in ids]
        rows = [{key: name, "score": 1.5} for name in ids]
        write_records(rows, path)
        assert [row[key] for row in read_records(path)] == ids


@pytest.mark.parametrize("key", ["uid", "sample_id", "a", "system_id"])
def test_numbers_of_parquet_are_names(key, tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({key: [15.0, None, 7.5]}), tmp_path / "m.parquet")
    assert [row.get(key) for row in read_records(tmp_path / "m.parquet")] == ["15", None, "7.5"]
    parquet.write_table(pa.table({key: [True]}), tmp_path / "m.parquet")
    with pytest.raises(UsageError, match=f"column {key}: True, not text"):
        read_records(tmp_path / "m.parquet")


def test_names_in_the_list_of_a_cell_are_text(tmp_path):
    (tmp_path / "m.csv").write_text('uids,verdict\n"[1.10, 1.1]",a\n"[""x"",""y""]",b\n')
    assert [row["uids"] for row in read_records(tmp_path / "m.csv")] == [["1.10", "1.1"], ["x", "y"]]


# ---- files of others


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_spreadsheet_is_read_however_it_was_saved(coding, delimiter, end, tmp_path):
    lines = ["audio_path,system_id,mos_overall,", ",,,", "a.wav,007,3.5,", "é.wav,1.10,,", " ,,,", ",,,"]
    (tmp_path / "m.csv").write_bytes(end.join(line.replace(",", delimiter) for line in lines).encode(coding))
    rows = read_records(tmp_path / "m.csv")
    assert [(r["audio_path"], r["system_id"], r.get("mos_overall")) for r in rows] == [
        ("a.wav", "007", 3.5),
        ("é.wav", "1.10", None),
    ]


def test_jsonl_of_another_shell_is_read(tmp_path):
    (tmp_path / "m.jsonl").write_bytes('{"uid": "é"}\r\n'.encode("utf-16"))
    assert read_records(tmp_path / "m.jsonl") == [{"uid": "é"}]


def test_a_decimal_comma_is_read_where_the_whole_column_has_it(tmp_path):
    (tmp_path / "m.csv").write_text("uid;mos_overall;note\na;3,5;1,5\nb;4;x\nc;n/a;y\n")
    assert [row.get("mos_overall") for row in read_records(tmp_path / "m.csv")] == [3.5, 4.0, None]
    assert read_records(tmp_path / "m.csv")[0]["note"] == "1,5"
    (tmp_path / "m.csv").write_text("uid;mos_overall\na;3,5\nb;4.5\n")
    with pytest.raises(
        UsageError, match=r"line 2: mos_overall: '3,5' is not a number: write a decimal point, not a comma \(3.5\)"
    ):
        read_records(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text("uid,mos_overall\na,3,5\n")
    with pytest.raises(UsageError, match=r"line 2: 3 cells, but the header names 2 columns \(.*decimal comma"):
        read_records(tmp_path / "m.csv")


@pytest.mark.parametrize("text", ["", "NaN", "NA", "null", "None", "n/a", "-", "#N/A", " nan "])
def test_what_is_missing_is_missing(text, tmp_path):
    (tmp_path / "m.csv").write_text(f"uid,mos_overall,metrics.pesq\na,{text},{text}\nb,3,2\n")
    first, second = read_records(tmp_path / "m.csv")
    assert first.get("mos_overall") is None and first["metrics"]["pesq"] is None and second["mos_overall"] == 3


@pytest.mark.parametrize("text", ["good", "3.5*", "--", "1 000", "0x10", "1_0", "3·5", "5/5"])
def test_any_other_cell_of_a_metric_is_an_error(text, tmp_path):
    for column_name in ("pesq", "metrics.pesq", "mos"):
        (tmp_path / "m.csv").write_text(f"uid,{column_name}\na,3\nb,{text}\n")
        with pytest.raises(UsageError, match=f"line 3: {column_name}: .*not a number"):
            read_records(tmp_path / "m.csv")


def test_rows_that_end_early_are_a_problem_unless_they_may(tmp_path):
    data = b"a,b,c\n1,2\n1,2,3,,\n1,2,3,4\n"
    table = read_table("x.csv", data)
    assert table.rows == [["1", "2", "3"]] and [p.split(":")[0] for p in table.problems] == ["line 2", "line 4"]
    assert read_table("x.csv", data, pad=True).rows == [["1", "2", ""], ["1", "2", "3"]]


@pytest.mark.parametrize(
    ("columns", "data"),
    [
        (["utt1", "3.5"], True),
        (["utt1.wav", "nan"], False),
        (["uid", "2020"], False),
        (["name", "value"], False),
        (["a b", "c"], False),
    ],
)
def test_a_header_that_is_a_row_is_recognised(columns, data):
    assert looks_like_data(columns) is data


# ---- one reader


@settings(max_examples=25)
@given(
    rows=st.lists(
        st.tuples(
            texts.filter(lambda s: "\n" not in s and "\r" not in s and s == s.strip()),
            st.sampled_from(["", "NA", "1", "3.5", "4.25"]),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda r: r[0],
    ),
    delimiter=st.sampled_from(",;\t"),
    coding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    blank=st.booleans(),
)
def test_every_command_reads_a_table_alike(rows, delimiter, coding, blank):
    from urgentmos.clips.inputs import read_clips
    from urgentmos.corpora.custom import clips as prepared
    from urgentmos.evaluation.predictions import read_source

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.csv"
        table = [["audio_path", "uid", "mos_overall"], *([f"{i}.wav", uid, mos] for i, (uid, mos) in enumerate(rows))]
        path.write_bytes(written(table + [["", "", ""]] * blank, delimiter).decode().encode(coding))
        manifest = {clip.uid: clip.metrics.get("mos_overall") for clip in read_clips(path)}
        evaluated = {row.uid: row.values.get("mos_overall") for row in read_source(path).clips}
        options = {"audio_path": "audio_path", "uid": "uid", "mos_overall": "mos_overall", "file": "m.csv"}
        corpus = {clip.uid: clip.metrics.get("mos_overall") for clip in prepared(Path(folder), "train", **options)}
        assert manifest == corpus and list(manifest.values()) == list(evaluated.values())


# ---- text that a spreadsheet would compute

FORMULAS = st.text(st.sampled_from("'=+-@\t\r\n\uff1d\uff0da1,;\""), max_size=6)


def is_a_number(cell: str) -> bool:
    return isfinite(float(cell.replace(",", ".")))


@given(st.one_of(FORMULAS, st.text(st.characters(exclude_categories=["Cs"]))))
def test_a_guarded_text_starts_no_formula_and_comes_back(text: str) -> None:
    cell = guarded(text)
    assert cell[:1] not in tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20") or is_a_number(cell)
    assert _without_guard(cell) == text
    assert cell == text or cell == f"'{text}"


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@given(
    rows=st.lists(st.tuples(FORMULAS, FORMULAS, FORMULAS, st.floats(-1e6, 1e6), st.integers(-9, 9)), min_size=1, max_size=4),
    key=FORMULAS.filter(bool),
)
@example(rows=[("", "", "1", 0.0, 0)], key=";")
def test_formulas_survive_a_file_and_compute_nothing(
    suffix: str, rows: list[tuple[str, str, str, float, int]], key: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    records = [
        {
            "uid": f"u{uid}",
            "audio_path": path or "a.wav",
            "system_id": uid or None,
            "metrics": {"sdr": score},
            "meta": {key: text, "count": count},
            f"x{key}": text or "t",
        }
        for uid, path, text, score, count in rows
    ]
    path = tmp_path_factory.mktemp("formulas") / f"x{suffix}"
    write_records(records, path)
    assert read_records(path) == records
    cells = csv.reader(io.StringIO(path.read_text(), newline=""), delimiter="\t" if suffix == ".tsv" else ",")
    for cell in (cell for row in cells for cell in row):
        assert cell[:1] not in tuple("=+-@\t\r\n") or is_a_number(cell)


@pytest.mark.parametrize("head", ["meta", "metrics", "sources", "intervals"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_column_beside_its_own_keys_is_one_sentence(head: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    columns = ["audio_path", head, f"{head}.a.low"]
    if suffix == ".csv":
        path.write_text(",".join(columns) + "\na.wav,1,2\n")
    else:
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({name: ["1"] for name in columns}), path)
    with pytest.raises(UsageError, match=rf"the column {head} stands beside '{head}\.a\.low'\. Keep one"):
        read_records(path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("head", ["meta", "sources"])
def test_a_file_that_could_not_be_read_back_is_not_written(head: str, suffix: str, tmp_path: Path) -> None:
    rows = [{"uid": "a", head: {"x": "1"}}, {"uid": "b", head: "text"}]
    with pytest.raises(UsageError, match=f"the column {head} stands beside"):
        write_records(rows, tmp_path / f"y{suffix}")
    assert not list(tmp_path.iterdir())
