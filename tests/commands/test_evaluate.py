"""pairs and evaluate as commands: what they write, where, and with which exit status."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from urgentmos.cli import main
from urgentmos.clips.tables import read_records


def urgentmos(*args: object) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args], prog_name="urgentmos")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


class Terminal(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")

    def isatty(self) -> bool:
        return True


def on_a_terminal(*args: object) -> tuple[str, str]:
    stdout, stderr = Terminal(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr), pytest.raises(SystemExit):
        main([str(arg) for arg in args], prog_name="urgentmos")
    stdout.flush()
    return stdout.buffer.getvalue().decode(), stderr.getvalue()  # type: ignore[attr-defined]


def rows_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def clip(system: str, content: str, mos: float | None) -> dict:
    path = f"{system}/{content}.wav"
    ids = {"uid": f"{system}:{content}", "audio_path": path, "system_id": system, "reference_id": content, "corpus": "somos"}
    return {**ids, "duration": 1.5, "metrics": {"mos_overall": mos}}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """refs.jsonl with 3 systems x 3 contents, and preds.csv that errs on one of them, as the current directory."""
    refs = [clip(f"s{i}", f"u{j}", 1.0 + i + 0.1 * j) for i in range(3) for j in range(3)]
    write(tmp_path / "refs.jsonl", refs)
    lines = [f"{r['uid']},{r['metrics']['mos_overall'] + (3 if r['uid'] == 's0:u0' else 0)}" for r in refs]
    (tmp_path / "preds.csv").write_text("\n".join(["uid,score", *lines]) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ---- pairs


def test_pairs_goes_to_a_pipe_as_json_lines(place: Path) -> None:
    done = urgentmos("pairs", "refs.jsonl")
    rows = rows_of(done.stdout)
    assert done.exit_code == 0 and len(rows) == 3 * 3 * 2 and "18 of 18 possible pairs" in done.stderr
    assert set(rows[0]) == {
        "uids",
        "audio_paths",
        "durations",
        "metrics",
        "sources",
        "verdict",
        "scope",
        "reference_id",
        "corpus",
    }
    assert all(row["verdict"] == ("a" if row["metrics"]["mos_overall"] > 0.5 else "b") for row in rows)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "json", "parquet"])
def test_pairs_writes_every_format_alike(place: Path, ending: str) -> None:
    (place / "out").mkdir()
    assert urgentmos("pairs", "refs.jsonl", "-o", f"out/p.{ending}").exit_code == 0
    rows = read_records(place / "out" / f"p.{ending}")
    assert len(rows) == 18 and rows[0]["uids"] == ["s0:u0", "s1:u0"] and rows[0]["metrics"]["mos_overall"] == -1.0
    assert rows[0]["audio_paths"][0] == str(place / "s0/u0.wav")  # not below out/


def test_paths_are_relative_to_the_file_of_pairs(place: Path) -> None:
    urgentmos("pairs", "refs.jsonl", "-o", "p.jsonl")
    assert read_records(place / "p.jsonl")[0]["audio_paths"] == ["s0/u0.wav", "s1/u0.wav"]


@pytest.mark.parametrize("how", [(), ("--take", "first"), ("--symmetric",)])
def test_limits_draw_the_same_each_time(place: Path, how: tuple[str, ...]) -> None:
    one, two = (urgentmos("pairs", "refs.jsonl", "--limit", 6, *how).stdout for _ in range(2))
    assert one == two and len(rows_of(one)) == 6
    everything = urgentmos("pairs", "refs.jsonl").stdout
    assert set(one.splitlines()) <= set(everything.splitlines())
    assert (one.splitlines() == everything.splitlines()[:6]) == (how == ("--take", "first"))


def test_seeds_draw_differently(place: Path) -> None:
    assert len({urgentmos("pairs", "refs.jsonl", "--limit", 6, "--seed", seed).stdout for seed in range(4)}) > 1


def test_native_verdicts_come_first_and_are_kept_under_a_limit(place: Path) -> None:
    write(place / "judged.jsonl", [{"uids": ["s2:u0", "s0:u1"], "verdict": "tie"}])
    done = urgentmos("pairs", "refs.jsonl", "--native", "judged.jsonl", "--limit", 4)
    rows = rows_of(done.stdout)
    assert len(rows) == 5 and rows[0]["scope"] == "native" and rows[0]["metrics"] == {} and rows[0]["verdict"] == "tie"
    assert "and 1 native ones" in done.stderr


def test_a_split_takes_whole_contents(place: Path) -> None:
    found = [
        urgentmos("pairs", "refs.jsonl", "--split", name, "--shares", "0.4,0.3,0.3") for name in ("train", "valid", "test")
    ]
    rows = [rows_of(done.stdout) for done in found]
    contents = [{uid.split(":")[1] for row in part for uid in row["uids"]} for part in rows]
    assert sum(map(len, rows)) == 18 and sum(map(len, contents)) == 3
    assert [done.exit_code for done in found] == [0 if part else 2 for part in rows]


def test_pairs_shows_a_table_on_a_terminal(place: Path) -> None:
    stdout, stderr = on_a_terminal("pairs", "refs.jsonl", "--scope", "any")
    assert "verdict" in stdout and stdout.count("s0:u0") and len(stdout.splitlines()) == 21
    assert "The first 20 are shown" in stderr and "72 of 72" in stderr


def test_clips_without_a_label_are_told(place: Path) -> None:
    write(place / "refs.jsonl", [clip("x", "u", 1), clip("y", "u", 2), clip("z", "u", None)])
    assert "1 of 3 clips have no mos_overall and are left out" in urgentmos("pairs", "refs.jsonl").stderr


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("pairs", "nothing.jsonl"), "no such file"),
        (("pairs", "refs.jsonl", "--metric", "estoi"), "9 of them have no estoi"),
        (("pairs", "refs.jsonl", "--shares", "1,2,3", "--split", "test"), "sum to 1"),
        (("pairs", "refs.jsonl", "--shares", "a,b,c", "--split", "test"), "sum to 1"),
        (("pairs", "refs.jsonl", "--symmetric", "--limit", "1"), "--limit 2 or more"),
        (("pairs", "refs.jsonl", "-o", "p.scp"), "does not fit into a .scp file"),
        (("pairs", "refs.jsonl", "--native", "refs.jsonl"), "names no two clips"),
        (("evaluate", "preds.csv", "nothing.jsonl"), "no such file"),
        (("evaluate", "preds.csv", "refs.jsonl", "--label", "estoi"), "Choose one with --label"),
        (("evaluate", "preds.csv", "refs.jsonl", "-o", "x.txt"), "Choose one of these endings"),
        (("evaluate", "preds.csv", "refs.jsonl", "-o", "x.scp"), "does not fit into a .scp file"),
    ],
)
def test_mistakes_end_with_status_2_and_what_to_do(place: Path, args: tuple[str, ...], sentence: str) -> None:
    done = urgentmos(*args)
    assert done.exit_code == 2 and done.stdout == "" and sentence in done.stderr and done.stderr.rstrip().endswith(".")


# ---- evaluate


def test_evaluate_goes_to_a_pipe_as_one_object(place: Path) -> None:
    done = urgentmos("evaluate", "preds.csv", "refs.jsonl")
    (report,) = rows_of(done.stdout)
    assert done.exit_code == 0
    assert report["utterance"]["mos_overall"]["mse"] == pytest.approx(1.0)
    assert report["system"]["mos_overall"]["n"] == 3 and len(report["utterance"]["mos_overall"]["interval"]) == 4
    assert report["preference"]["mos_overall"]["acc_0"] == pytest.approx(14 / 18)


def test_evaluate_writes_json_and_rows(place: Path) -> None:
    assert urgentmos("evaluate", "preds.csv", "refs.jsonl", "-o", "report.json").exit_code == 0
    report = json.loads((place / "report.json").read_text())
    for ending in ("jsonl", "csv", "parquet"):
        assert urgentmos("evaluate", "preds.csv", "refs.jsonl", "-o", f"r.{ending}").exit_code == 0
        rows = read_records(place / f"r.{ending}")
        (lcc,) = [r for r in rows if (r["corpus"], r["level"], r["statistic"]) == (None, "utterance", "lcc")]
        assert lcc["value"] == report["utterance"]["mos_overall"]["lcc"] and lcc["low"] < lcc["value"] < lcc["high"]
        assert len(rows) == 2 * (4 + 4 + 2)


def test_evaluate_shows_tables_on_a_terminal(place: Path) -> None:
    args = ("evaluate", "preds.csv", "refs.jsonl", "--published", "--random", "--versus", "preds.csv", "--samples", 40)
    stdout, stderr = on_a_terminal(*args)
    for piece in ("utterance", "system", "KTAU", "acc_0.5", "Table 4", "Table 5", "mos_overall (here)", "0.78", "Williams"):
        assert piece in stdout, piece
    assert stderr == ""


def test_the_same_command_gives_the_same_numbers(place: Path) -> None:
    one, two = (urgentmos("evaluate", "preds.csv", "refs.jsonl", "--random", "--samples", 30).stdout for _ in range(2))
    assert one == two


def test_the_command_agrees_with_track_2(place: Path, shared: Path) -> None:
    table = json.loads((shared / "parity/evaluate.json").read_text())["table"]
    for name in ("preds", "refs"):
        lines = [f"{row['sample_id']},{row['system_id']},{row['value']!r}" for row in table[name]]
        (place / f"{name}2.csv").write_text("\n".join(["sample_id,system_id,value", *lines]) + "\n")
    (report,) = rows_of(urgentmos("evaluate", "preds2.csv", "refs2.csv", "--samples", 0).stdout)
    for level, ours in (("utt", "utterance"), ("sys", "system")):
        for name, value in table["expected"][level].items():
            assert report[ours]["mos_overall"][name] == pytest.approx(value, abs=1e-12)


def test_predictions_that_cannot_be_counted_are_status_1(place: Path) -> None:
    text = (place / "preds.csv").read_text()
    (place / "preds.csv").write_text(text + "stranger,3\n")
    done = urgentmos("evaluate", "preds.csv", "refs.jsonl")
    assert done.exit_code == 1 and "the first: stranger" in done.stderr
    (place / "preds.csv").write_text(text.replace("s1:u1,2.1", "s1:u1,"))
    done = urgentmos("evaluate", "preds.csv", "refs.jsonl")
    assert done.exit_code == 1 and "hold no value, the first: s1:u1" in done.stderr


def test_labels_without_a_prediction_are_told_and_are_no_failure(place: Path) -> None:
    lines = (place / "preds.csv").read_text().splitlines()[:-1]
    (place / "preds.csv").write_text("\n".join(lines) + "\n")
    done = urgentmos("evaluate", "preds.csv", "refs.jsonl")
    assert done.exit_code == 0 and "1 labels have no prediction" in done.stderr


def test_repeated_ids_count_once_or_each_time(place: Path) -> None:
    (place / "preds.csv").write_text((place / "preds.csv").read_text() + "s0:u0,4.0\n")
    for how, mse in (("first", 1.0), ("all", 1.8)):
        done = urgentmos("evaluate", "preds.csv", "refs.jsonl", "--duplicates", how, "--samples", 0)
        assert rows_of(done.stdout)[0]["utterance"]["mos_overall"]["mse"] == pytest.approx(mse)
        assert "1 predictions repeat an id, the first: s0:u0" in done.stderr


def test_pairs_then_verdicts_then_accuracy(place: Path) -> None:
    urgentmos("pairs", "refs.jsonl", "-o", "pairs.jsonl")
    rows = read_records(place / "pairs.jsonl")
    verdicts = [f"{r['uids'][0]},{r['uids'][1]},{'A' if k % 3 else r['verdict']}" for k, r in enumerate(rows)]
    (place / "judge.csv").write_text("\n".join(["a,b,verdict", *verdicts]) + "\n")
    (report,) = rows_of(urgentmos("evaluate", "judge.csv", "pairs.jsonl").stdout)
    right = sum(v.lower().endswith(f",{r['verdict']}") for v, r in zip(verdicts, rows, strict=True))
    assert report["preference"]["verdict"]["acc_delta"] == pytest.approx(right / len(rows)) and 0 < right < len(rows)
