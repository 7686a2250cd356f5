"""The commands as a user and as a script meet them. The judge is mostly LSD: it needs no network and no model."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from urgentmos.cli import main
from urgentmos.clips.inputs import read_records
from urgentmos.errors import MeasureError
from urgentmos.labellers import Measure, Settings, Signals

ROOT = Path(__file__).resolve().parents[2]
RATE = 16_000
LSD = ("-m", "lsd", "--reference-dir", "clean")
HEAVY = ("torch", "pandas", "librosa", "transformers", "lightning", "scipy", "numpy", "rich")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_voice, add_noise) -> Path:
    """clean/ and systems/{good,middling,bad}/ with two contents, as the current directory; one process."""
    for content in ("a", "b"):
        voice = make_voice(ord(content), 0.6)
        write(tmp_path / "clean" / f"{content}.wav", voice)
        for system, snr in (("good", 40), ("middling", 20), ("bad", 0)):
            write(tmp_path / "systems" / system / f"{content}.wav", add_noise(voice, snr))
    monkeypatch.chdir(tmp_path)
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    return tmp_path


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path


def urgentmos(*args: object) -> Result:
    """The command, with a pipe for a stdout; a bug is raised, not swallowed."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], prog_name="urgentmos")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def rows_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def in_a_process(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-c", "from urgentmos.cli import main; main(prog_name='urgentmos')", *args]
    return subprocess.run(call, capture_output=True, text=True, env={**os.environ, **env}, timeout=120)


# ---- help


@pytest.mark.parametrize("command", [(), *((name,) for name in main.commands)], ids=str)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_each_command_explains_itself(command: tuple[str, ...], flag: str) -> None:
    result = urgentmos(*command, flag)
    assert result.exit_code == 0 and result.stdout.startswith("Usage: urgentmos") and result.stderr == ""


def test_the_list_of_commands_is_not_cut_short() -> None:
    listed = urgentmos("--help").stdout.split("Commands:")[1]
    assert listed.split()[::1].count("...") == 0 and "..." not in listed


@pytest.mark.parametrize("name", main.commands)
def test_every_option_has_a_sentence(name: str) -> None:
    options = [p for p in main.commands[name].params if isinstance(p, click.Option)]
    assert options and all(option.help and option.help.rstrip("]").rstrip()[-1:] for option in options)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from urgentmos.cli import main; main(['rank', '--help'], standalone_mode=False)"
    tail = f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", f"{code}; {tail}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr.strip() == "[]"


def test_importing_the_package_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import urgentmos"], capture_output=True, text=True, timeout=60
    )
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "urgentmos" in imported and not imported & set(HEAVY)


# ---- mistakes: exit status 2, one sentence on stderr, nothing on stdout


MISTAKES = {
    ("score", "nothing.wav"): "nothing.wav: no such file or folder. Give audio files, folders, a wav.scp, or a manifest "
    "(.jsonl .csv .parquet .json), or archives (.zip .tar .tar.gz .parquet).",
    (
        "score",
        "systems",
        "-o",
        "x.txt",
    ): "x.txt: rows are written to .jsonl .csv .parquet .json .scp files. Choose one of these endings.",
    ("score", "systems", "-o", "no/x.csv"): "no/x.csv: the folder no does not exist. Create it first.",
    (
        "score",
        "systems",
        "--weights",
        "foo",
    ): "--weights foo is not understood. Write NAME=PATH, where NAME is one of: sbert, lps, "
    "spksim, utmos, nisqa, scoreq, sigmos.",
    (
        "score",
        "systems",
        "--weights",
        "foo=x.pt",
    ): "--weights foo=x.pt is not understood. Write NAME=PATH, where NAME is one of: "
    "sbert, lps, spksim, utmos, nisqa, scoreq, sigmos.",
    (
        "score",
        "systems",
        "-m",
        "lsd",
        "--reference-dir",
        "nowhere",
    ): "nowhere: no such folder. --reference-dir names the folder of the clean signals.",
    ("score", "systems", "-m", "utmos"): "utmos needs weights that no package carries. Pass --weights utmos=FILE "
    "(utmos22_strong_step7459_v1.pt from the releases of tarepan/SpeechMOS, v1.2.0).",
    ("compare", "clean/a.wav", "nothing.wav"): "nothing.wav: no such file or folder. Give two audio files, or two folders of "
    "them.",
    ("compare", "clean/a.wav", "clean"): "clean/a.wav and clean are a file and a folder. Give two audio files, or two folders "
    "of them.",
    (
        "compare",
        "systems/good",
        "systems/bad",
        "-o",
        "x.scp",
    ): "x.scp: a comparison does not fit into a .scp file. Choose one of: .jsonl .csv .parquet .json.",
    ("rank", "systems", "--mos-strategy", "replication"): "--mos-strategy replication is about MOS. Add --scoring mos.",
    (
        "rank",
        "systems",
        "--scoring",
        "mos",
        "--mos-strategy",
        "noisy",
    ): "--mos-strategy noisy and --noisy-system NAME go together. Give both, or neither.",
    (
        "rank",
        "systems",
        "--noisy-system",
        "bad",
    ): "--mos-strategy noisy and --noisy-system NAME go together. Give both, or neither.",
    ("rank", "clean"): "clean: has no folders. Ranking needs one folder per system, each with the same file names in it.",
    ("rank", "clean/a.wav"): "clean/a.wav: a single file. Ranking needs one folder per system, an URGENT-PK data set, or a "
    "manifest with system_id and reference_id.",
    (
        "rank",
        "systems",
        "-m",
        "lsd",
    ): "lsd needs reference signals and no clip has one. Give --reference-dir, or a reference_path in the manifest.",
    (
        "rank",
        "systems",
        "-m",
        "mos_overall",
    ): "none of the 6 clips could be judged by mos_overall. The first: systems/bad/a.wav: the manifest holds no "
    "mos_overall for bad:a. Add it, or rank by a model.",
    (
        "rank",
        "systems",
        "-o",
        "x.scp",
    ): "x.scp: a ranking does not fit into a .scp file. Choose one of: .jsonl .csv .parquet .json.",
}


@pytest.mark.parametrize(("args", "sentence"), MISTAKES.items(), ids=[" ".join(args) for args in MISTAKES])
def test_a_mistake_ends_with_a_sentence_that_says_what_to_do(args: tuple[str, ...], sentence: str, place: Path) -> None:
    before = sorted(place.rglob("*"))
    result = urgentmos(*args)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"Error: {sentence}\n")
    assert sorted(place.rglob("*")) == before, "a refused command left something behind"


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (("frobnicate",), "No such command 'frobnicate'"),
        (("score",), "Missing argument 'INPUT...'"),
        (("rank",), "Missing argument 'INPUT'"),
        (("score", "clean", "--jobs", "0"), "Invalid value for '--jobs'"),
        (("rank", "systems", "--confidence", "1"), "Invalid value for '--confidence'"),
        (("rank", "systems", "--scoring", "best"), "'best' is not one of"),
    ],
)
def test_what_click_refuses_has_the_same_status(args: tuple[str, ...], part: str, place: Path) -> None:
    result = urgentmos(*args)
    assert result.exit_code == 2 and result.stdout == "" and part in result.stderr


@pytest.mark.parametrize("command", ["score", "rank"])
def test_an_unknown_model_is_answered_with_the_names_that_exist(command: str, place: Path) -> None:
    result = urgentmos(command, "systems", "-m", "nonsense")
    assert result.exit_code == 2 and result.stderr.startswith("Error: unknown model 'nonsense'.")
    assert all(name in result.stderr for name in ("dnsmos_ovrl", "pesq", "mos_overall"))


@pytest.mark.parametrize("metrics", ["pesq,foo", "", "mos_overall"])
def test_an_unknown_metric_is_answered_with_the_names_that_exist(metrics: str, place: Path) -> None:
    result = urgentmos("label", "clean", "--metrics", metrics)
    assert result.exit_code == 2 and result.stdout == "" and "dnsmos_ovrl" in result.stderr


def test_a_place_that_cannot_be_written_is_refused_before_the_work(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Path.open

    def read_only(self: Path, mode: str = "r", *args: object, **more: object):
        if "a" in mode:
            raise OSError(errno.EROFS, "Read-only file system")
        return original(self, mode, *args, **more)

    monkeypatch.setattr(Path, "open", read_only)
    result = urgentmos("score", "clean", *LSD, "-o", "x.csv")
    assert result.exit_code == 2
    assert result.stderr == "Error: x.csv: the folder . cannot be written to (Read-only file system). Choose another place.\n"


def test_a_bug_is_not_hidden(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("urgentmos.clips.inputs.read_inputs", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        urgentmos("score", "clean")


# ---- score and label: rows


def test_a_pipe_gets_a_json_line_for_each_clip_and_no_talk(place: Path) -> None:
    result = urgentmos("score", "systems/bad", "systems/good", *LSD)
    rows = rows_of(result.stdout)
    assert result.exit_code == 0 and result.stderr == ""
    assert [row["uid"] for row in rows] == ["bad/a", "bad/b", "good/a", "good/b"]
    assert all(row["model"] == "lsd" and row["error"] is None and row["warnings"] == [] for row in rows)
    assert all(row["metrics"]["lsd"] > 0 and row["duration"] == 0.6 for row in rows)
    assert rows[0]["meta"]["labellers"].keys() == {"lsd"}


def test_the_default_model_is_pocket(place: Path) -> None:
    (row,) = rows_of(urgentmos("score", "clean/a.wav").stdout)
    low, high = row["intervals"]["mos_overall"]
    assert row["model"] == "pocket" and 1 <= low <= row["metrics"]["mos_overall"] <= high <= 5


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "json"])
@pytest.mark.parametrize(
    "command", [("score", *LSD), ("label", "--metrics", "lsd", "--reference-dir", "clean")], ids=lambda c: c[0]
)
def test_every_ending_holds_the_same_rows(command: tuple[str, ...], ending: str, place: Path) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    piped = rows_of(urgentmos(command[0], "systems/bad", *command[1:]).stdout)
    result = urgentmos(command[0], "systems/bad", *command[1:], "-o", f"rows.{ending}")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert read_records(f"rows.{ending}") == piped
    assert [path.name for path in place.iterdir() if path.is_file()] == [f"rows.{ending}"], "something was left behind"


def test_scp_holds_the_value_of_one_metric(place: Path) -> None:
    urgentmos("score", "systems/bad", *LSD, "-o", "lsd.scp")
    values = [row["metrics"]["lsd"] for row in rows_of(urgentmos("score", "systems/bad", *LSD).stdout)]
    assert Path("lsd.scp").read_text() == f"a {values[0]!r}\nb {values[1]!r}\n"


def test_paths_in_a_file_are_relative_to_it(place: Path) -> None:
    Path("out").mkdir()
    urgentmos("score", "systems/bad/a.wav", *LSD, "-o", "out/rows.jsonl")
    shutil.move("out/rows.jsonl", "rows.jsonl")
    (row,) = rows_of(Path("rows.jsonl").read_text())
    assert row["audio_path"] == str(place / "systems/bad/a.wav")  # outside the file's folder: absolute
    urgentmos("score", "systems/bad/a.wav", *LSD, "-o", "again.jsonl")
    (row,) = rows_of(Path("again.jsonl").read_text())
    assert (row["audio_path"], row["reference_path"]) == ("systems/bad/a.wav", "clean/a.wav")


def test_label_adds_to_what_a_manifest_holds(place: Path) -> None:
    Path("in.csv").write_text("audio_path,system_id,reference_id,mos_overall,note\nsystems/bad/a.wav,bad,a,1.5,loud\n")
    (row,) = rows_of(urgentmos("label", "in.csv", "--metrics", "lsd", "--reference-dir", "clean").stdout)
    assert row["metrics"].keys() == {"mos_overall", "lsd"} and row["metrics"]["mos_overall"] == 1.5
    assert (row["system_id"], row["reference_id"], row["meta"]["note"]) == ("bad", "a", "loud")


def test_label_says_what_it_leaves_out_and_why(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from urgentmos import labellers

    few = tuple(row for row in labellers.LABELLERS if row.name in ("lsd", "mcd", "utmos"))
    monkeypatch.setattr(labellers, "LABELLERS", few)
    result = urgentmos("label", "systems/bad", "--reference-dir", "clean")
    assert result.exit_code == 0 and result.stderr == "Not measured (weights not given, see --weights): utmos\n"
    assert rows_of(result.stdout)[0]["metrics"].keys() == {"lsd", "mcd"}
    result = urgentmos("label", "systems/bad")
    assert result.exit_code == 2
    assert "Not measured (no reference signals, see --reference-dir): lsd, mcd" in result.stderr


def test_weights_may_be_named_by_labeller_or_metric(place: Path) -> None:
    by_labeller = urgentmos("score", "clean", "-m", "nisqa_mos", "--weights", "nisqa=absent.tar")
    by_metric = urgentmos("score", "clean", "-m", "nisqa_mos", "--weights", "nisqa_mos=absent.tar")
    assert by_labeller.stderr == by_metric.stderr and by_labeller.exit_code == 2
    assert by_labeller.stderr.startswith("Error: nisqa: there is no file or folder 'absent.tar'.")


def test_a_terminal_gets_a_table_and_the_reasons_below_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(Path("systems/bad/short.wav"), np.full(100, 0.1, np.float32))
    write(Path("clean/short.wav"), np.full(100, 0.1, np.float32))
    write(Path("systems/bad/silent.wav"), np.zeros(RATE, np.float32))
    write(Path("clean/silent.wav"), np.random.default_rng(0).standard_normal(RATE).astype(np.float32) / 10)
    monkeypatch.setenv("TERM", "dumb")
    status, out, err = on_a_terminal(monkeypatch, "score", "systems/bad", *LSD)
    lines = [line.split() for line in out.splitlines()]
    assert status == 1 and lines[0] == ["clip", "lsd"] and [line[0] for line in lines[1:]] == ["a", "b", "short", "silent"]
    assert lines[3][1] == "-" and float(lines[4][1]) > 0
    assert "Warning: 2 of 4 clips are silent\n" in err  # 6 ms of a constant level are no speech either
    assert "  systems/bad/silent.wav: silence: the level is digital zero\n" in err
    assert "1 of 4 clips lack a metric (their rows say why):\n  systems/bad/short.wav: lsd: 0.00625 s is shorter than" in err


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, *args: str) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) where stdout is a terminal and stderr is not."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out, err = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with pytest.raises(SystemExit) as ended:
        main(list(args))
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


# ---- bad input: as many rows as clips, a reason in each that could not be measured


@pytest.fixture
def forty_clips(tmp_path: Path, make_voice) -> Path:
    """A manifest of 40 clips, 12 of them bad or odd."""
    sound = tmp_path / "sound"
    good = [write(sound / f"good {i} é.wav", make_voice(i, 0.4)) for i in range(28)]
    (sound / "empty.wav").write_bytes(b"")
    write(sound / "no samples.wav", np.zeros(0, np.float32))
    (sound / "text.wav").write_text("not audio\n")
    flac = write(sound / "whole.flac", make_voice(1, 1.0))
    (sound / "cut off.flac").write_bytes(flac.read_bytes()[: flac.stat().st_size // 2])
    write(sound / "10 ms.wav", make_voice(1, 0.01))
    write(sound / "nan.wav", np.where(np.arange(RATE) == 500, np.nan, 0.1).astype(np.float32))
    (sound / "folder.wav").mkdir()
    closed = write(sound / "unreadable.wav", make_voice(1, 0.4))
    closed.chmod(0)
    if os.access(closed, os.R_OK):  # root reads everything, except a link to itself
        closed.unlink()
        closed.symlink_to(closed)
    odd = [
        write(sound / "silence.wav", np.zeros(RATE // 2, np.float32)),
        write(sound / "8 channels.wav", np.stack([make_voice(i, 0.4) for i in range(8)], axis=1)),
        write(sound / "192 kHz.wav", np.repeat(make_voice(1, 0.4), 12), 192_000),
    ]
    names = ["empty.wav", "no samples.wav", "text.wav", "cut off.flac", "10 ms.wav", "nan.wav", "folder.wav", "unreadable.wav"]
    bad = [sound / name for name in (*names, "missing.wav")]
    mixed = [path for three in zip(good[:9], bad, good[9:18], strict=True) for path in three] + odd + good[18:]
    assert len(mixed) == 40
    manifest = tmp_path / "forty.jsonl"
    manifest.write_text("".join(json.dumps({"audio_path": str(path), "uid": path.name}) + "\n" for path in mixed))
    return manifest


def test_forty_clips_give_forty_rows_whatever_they_hold(forty_clips: Path, place: Path) -> None:
    pytest.importorskip("speechmos")
    result = urgentmos("label", forty_clips, "--metrics", "plcmos", "--jobs", "1", "-o", "out.jsonl")
    text = Path("out.jsonl").read_text()
    rows = {row["uid"]: row for row in rows_of(text)}
    assert [row["uid"] for row in rows_of(text)] == [row["uid"] for row in rows_of(forty_clips.read_text())]
    assert "NaN" not in text and result.exit_code == 1 and result.stdout == ""
    failed = {uid for uid, row in rows.items() if row["error"]}
    assert failed == {uid for uid, row in rows.items() if row["metrics"]["plcmos"] is None}
    reasons = {
        "empty.wav": "is empty (0 bytes)",
        "no samples.wav": "holds no samples",
        "text.wav": "cannot be decoded",
        "cut off.flac": "cut off|decoded",
        "10 ms.wav": "plcmos: 0.01 s is shorter than the 0.1 s that PLCMOS needs",
        "nan.wav": "holds 1 samples that are not finite numbers",
        "folder.wav": "is a folder, not a recording",
        "unreadable.wav": "may not be read|does not exist",
        "missing.wav": "does not exist",
    }
    assert failed == set(reasons)
    for uid, part in reasons.items():
        assert any(p in rows[uid]["error"] for p in part.split("|")), (uid, rows[uid]["error"])
    assert (
        "Warning: 1 of 40 clips is digital silence\n" in result.stderr
        and result.stderr.count("9 of 40 clips lack a metric (their rows say why):\n") == 1
    )
    assert rows["silence.wav"]["warnings"] == ["silence: the level is digital zero"]
    assert rows["8 channels.wav"]["error"] is None and rows["192 kHz.wav"]["meta"]["sample_rate"] == 192_000


def test_only_the_first_reasons_are_spelled_out(place: Path) -> None:
    for i in range(13):
        (place / "systems" / "bad" / f"x{i:02}.wav").write_bytes(b"")
    lines = urgentmos("score", "systems/bad", *LSD).stderr.splitlines()
    assert lines.pop(0).startswith("Note: 13 of 15 clips have no reference signal; the first, systems/bad/x00.wav: ")
    assert lines[0] == "13 of 15 clips lack a metric (their rows say why):" and len(lines) == 12
    assert lines[1] == "  systems/bad/x00.wav is empty (0 bytes). Record or copy it again" and lines[-1] == "  and 3 more"


# ---- Ctrl-C, resume, pipes


@pytest.fixture
def lsd_stops(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], list[float]]:
    """lsd_stops(n): from now on LSD takes notes of what it measures, and Ctrl-C comes after n clips (None: never)."""
    from urgentmos.labellers import lsd

    load = lsd.load

    def arrange(after: int | None) -> list[float]:
        heard: list[float] = []

        def loaded(settings: Settings) -> Measure:
            inner = load(settings)

            def measure(signals: Signals) -> dict[str, float]:
                if len(heard) == after:
                    raise KeyboardInterrupt
                heard.append(float(signals.wave[100]))
                return inner(signals)

            return measure

        monkeypatch.setattr(lsd, "load", loaded)
        return heard

    return arrange


def test_after_ctrl_c_the_same_command_goes_on_and_leaves_nothing_behind(place: Path, lsd_stops) -> None:
    command = ("label", "systems", "--metrics", "lsd", "--reference-dir", "clean", "-o", "out.jsonl")
    undisturbed = rows_of(urgentmos(*command[:-2]).stdout)
    first = lsd_stops(4)
    result = urgentmos(*command)
    assert result.exit_code == 130 and not Path("out.jsonl").exists()
    assert result.stderr == "Interrupted. Finished work is kept: run the same command again to go on.\n"
    assert Path(".out.jsonl.partial").exists()
    second = lsd_stops(None)
    assert urgentmos(*command).exit_code == 0
    assert len(first) == 4 and len(second) == 2 and not set(first) & set(second)
    assert rows_of(Path("out.jsonl").read_text()) == undisturbed
    assert not list(place.glob(".*"))


@pytest.mark.parametrize("command", [("score", "systems", *LSD), ("rank", "systems", *LSD)], ids=lambda c: c[0])
def test_ctrl_c_without_a_file_says_that_nothing_is_kept(command: tuple[str, ...], place: Path, lsd_stops) -> None:
    lsd_stops(1)
    result = urgentmos(*command)
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "Interrupted. Nothing is kept without -o FILE.\n" and not list(place.glob(".*"))


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end differently")
def test_a_reader_that_has_seen_enough_is_no_error(place: Path) -> None:
    Path("rows.csv").write_text(
        "audio_path,system_id,reference_id,lsd\n"
        + "".join(f"x{s}{u}.wav,{s},{u},{s}.{u}\n" for s in range(2) for u in range(9))
    )
    code = "from urgentmos.cli import main; main(['rank', 'rows.csv', '-m', 'lsd'])"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


# ---- rank


def judged(values: dict[str, list[float]], metric: str = "lsd", more: Callable[[str, int], str] | None = None) -> Path:
    """rows.jsonl of clips that do not exist: system -> the metric's value on each content."""
    rows = [
        {"audio_path": f"{system}/{u}.wav", "system_id": system, "reference_id": f"u{u}", "metrics": {metric: value}}
        for system, series in values.items()
        for u, value in enumerate(series)
    ]
    for row in rows:
        if more is not None:
            row["metrics"]["mos_overall"] = more(row["system_id"], 0)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Path("rows.jsonl")


VALUES = {
    "x": [1.0, 2.0, 1.5, 1.0, 2.5, 1.2, 1.1],
    "y": [2.0, 1.9, 2.5, 2.0, 3.5, 2.2, 2.1],
    "z": [3.0, 4.0, 3.5, 3.0, 4.5, 3.2, 3.1],
}


def test_lower_is_better_the_right_way_round(place: Path) -> None:
    votes = json.loads(urgentmos("rank", "systems", *LSD).stdout)
    assert [row["system_id"] for row in votes["systems"]] == ["good", "middling", "bad"]
    assert [row["score"] for row in votes["systems"]] == [4, 2, 0] and votes["win_rate"]["good"]["bad"] == 1
    means = json.loads(urgentmos("rank", "systems", *LSD, "--scoring", "mos").stdout)
    assert [row["system_id"] for row in means["systems"]] == ["good", "middling", "bad"]
    scores = [row["score"] for row in means["systems"]]
    assert scores == sorted(scores) and scores[0] > 0, "distances, in the metric's own unit and sign"


@pytest.mark.parametrize("scoring", ["binary", "soft", "bradley-terry", "mos"])
def test_the_rank_output_keeps_its_contract(scoring: str, place: Path) -> None:
    rows = judged(VALUES, more=lambda system, _: {"x": 4.0, "y": 3.0, "z": 2.0}[system])
    args = ("rank", rows, "-m", "lsd", "--scoring", scoring, "--confidence", "0.9", "--samples", "200", "--seed", "7")
    result = json.loads(urgentmos(*args, "-o", "r.json").stdout or Path("r.json").read_text())
    asked = {"model": "lsd", "scoring": scoring, "confidence": 0.9, "samples": 200, "seed": 7, "n_contents": 7, "n_systems": 3}
    assert {key: result[key] for key in asked} == asked and isinstance(result["version"], str)
    for row in result["systems"]:
        keys = ["system_id", "rank", "rank_low", "rank_high", "score", "low", "high", "mos", "not_distinguishable_from"]
        assert list(row) == keys
        assert row["rank_low"] <= row["rank"] <= row["rank_high"] and row["low"] <= row["score"] <= row["high"]
    assert [row["system_id"] for row in result["systems"]] == ["x", "y", "z"]
    assert [row["mos"] for row in result["systems"]] == [4.0, 3.0, 2.0]
    assert result["correlation"]["krcc"] == pytest.approx(1) and result["correlation"]["srcc"] == pytest.approx(1)
    assert result["win_rate"]["x"] == {"y": pytest.approx(6 / 7), "z": 1.0}
    assert all(set(group) <= {"x", "y", "z"} and len(group) > 1 for group in result["ties"])
    total = sum(row["score"] for row in result["systems"])
    if scoring in ("binary", "soft"):
        assert total == pytest.approx(7 * 3 * 2 / 2)
    if scoring == "bradley-terry":
        assert total == pytest.approx(0, abs=1e-9)


def test_a_pipe_gets_one_json_object(place: Path) -> None:
    result = urgentmos("rank", judged(VALUES), "-m", "lsd")
    assert json.loads(result.stdout)["n_systems"] == 3 and result.stdout.count("\n") == 1


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_tables_hold_a_row_per_system(ending: str, place: Path) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    rows = judged(VALUES)
    assert urgentmos("rank", rows, "-m", "lsd", "-o", f"r.{ending}").exit_code == 0
    assert read_records(f"r.{ending}") == json.loads(urgentmos("rank", rows, "-m", "lsd").stdout)["systems"]


def test_a_terminal_gets_the_table_of_the_ranking(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, _ = on_a_terminal(monkeypatch, "rank", str(judged(VALUES)), "-m", "lsd")
    assert status == 0 and out.splitlines()[0].split() == [
        *("rank", "system", "score", "95", "%", "interval", "ranks", "not", "distinguishable", "from", "rank")
    ]
    assert [line.split()[1] for line in out.splitlines()[1:]] == ["x", "y", "z"]


def test_values_in_the_rows_are_not_measured_again(place: Path, lsd_stops) -> None:
    urgentmos("label", "systems", "--metrics", "lsd", "--reference-dir", "clean", "-o", "labelled.jsonl")
    rows = rows_of(Path("labelled.jsonl").read_text())
    for row in rows:
        row["system_id"], row["reference_id"] = row["uid"].split("/")
    rows[0]["metrics"]["lsd"] = None
    Path("labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    heard = lsd_stops(None)
    ranked = json.loads(urgentmos("rank", "labelled.jsonl", "-m", "lsd").stdout)
    assert len(heard) == 1, "only the missing one"
    fresh = json.loads(urgentmos("rank", "systems", *LSD).stdout)
    assert ranked["systems"] == fresh["systems"]


def test_human_labels_judge_and_are_not_correlated_with_themselves(place: Path) -> None:
    rows = judged({system: [5 - v / 2 for v in values] for system, values in VALUES.items()}, "mos_overall")
    result = urgentmos("rank", rows, "-m", "mos_overall")
    ranked = json.loads(result.stdout)
    assert result.exit_code == 0 and [row["system_id"] for row in ranked["systems"]] == ["x", "y", "z"]
    assert "correlation" not in ranked and ranked["version"] == "human labels of the manifest"
    assert json.loads(urgentmos("rank", rows, "-m", "mos").stdout)["systems"] == ranked["systems"]


def test_a_clip_without_a_score_leaves_a_hole_that_is_said_and_the_status_is_1(place: Path) -> None:
    for content in "cdefgh":
        for system in ("good", "middling", "bad"):
            shutil.copy(f"systems/{system}/a.wav", f"systems/{system}/{content}.wav")
        shutil.copy("clean/a.wav", f"clean/{content}.wav")
    Path("systems/good/b.wav").write_bytes(b"")
    result = urgentmos("rank", "systems", *LSD)
    assert result.exit_code == 1 and json.loads(result.stdout)["n_contents"] == 8
    assert (
        "Warning: 2 of 24 comparisons are missing: a pair of systems counts by the contents that it has, 7 of 8"
        in result.stderr
    )
    assert "1 of 24 clips have no score:\n  systems/good/b.wav is empty (0 bytes)." in result.stderr
    assert "empty file (1)" in result.stderr, "the check before the work"


def test_unequal_contents_are_said_before_the_work(place: Path) -> None:
    Path("systems/bad/b.wav").unlink()
    result = urgentmos("rank", "systems", *LSD)
    assert result.exit_code == 0 and "unequal contents (1)\n  bad: misses 1 of 2 contents: b\n" in result.stderr


def test_a_content_twice_is_refused_before_the_work(place: Path, lsd_stops) -> None:
    shutil.copy("systems/bad/a.wav", "systems/bad/a.flac")
    heard = lsd_stops(None)
    result = urgentmos("rank", "systems", *LSD)
    assert result.exit_code == 2 and heard == []
    files = "systems/bad/a.flac or systems/bad/a.wav"
    assert result.stderr.splitlines()[-1] == f"Error: system bad has two clips of a. Keep one of them: {files}."
    result = urgentmos("compare", "systems/good", "systems/bad", *LSD)
    assert result.exit_code == 2 and heard == []
    assert result.stderr == f"Error: systems/bad has two clips of a. Keep one of them: {files}.\n"


def test_the_hash_seed_changes_nothing(place: Path) -> None:
    rows = judged({f"system {i}": [float((7 * i + 3 * u) % 11) for u in range(9)] for i in range(8)})
    said = {in_a_process("rank", str(rows), "-m", "lsd", PYTHONHASHSEED=seed).stdout for seed in ("0", "1", "2")}
    assert len(said) == 1 and json.loads(said.pop())["n_systems"] == 8


def test_a_system_whose_name_is_not_utf_8_is_still_json(place: Path) -> None:
    name = os.fsdecode(b"b\xffd")
    rows = judged({name: VALUES["x"], "y": VALUES["y"]})
    assert urgentmos("rank", rows, "-m", "lsd", "-o", "r.json").exit_code == 0
    written = json.loads(Path("r.json").read_bytes())
    assert {row["system_id"] for row in written["systems"]} == {name, "y"}
    assert json.loads(urgentmos("rank", rows, "-m", "lsd").stdout_bytes) == written


def test_a_ranking_that_fails_for_want_of_scores_says_why_there_are_none(place: Path) -> None:
    Path("systems/good/a.wav").write_bytes(b"")
    Path("systems/bad/b.wav").write_bytes(b"")
    result = urgentmos("rank", "systems", *LSD)
    assert result.exit_code == 2 and "Use --scoring bradley-terry" in result.stderr
    assert "2 of 6 clips could not be judged. The first: systems/bad/b.wav is empty (0 bytes)." in result.stderr


# ---- compare


MIRROR = {"a": "b", "b": "a", "tie": "tie", None: None}
PAIR_KEYS = ["model", "version", "a", "b", "p_a", "p_tie", "p_b", "cmos", "verdict", "error", "warnings"]


def mirrored(row: dict) -> dict:
    cmos = None if row["cmos"] is None else -row["cmos"]
    sides = {"a": row["b"], "b": row["a"], "p_a": row["p_b"], "p_b": row["p_a"]}
    return {**row, **sides, "cmos": cmos, "verdict": MIRROR[row["verdict"]]}


def compared(*args: object) -> list[dict]:
    return rows_of(urgentmos("compare", *args).stdout)


def test_two_files_give_one_row(place: Path, tiny_model: Path) -> None:
    result = urgentmos("compare", "systems/good/a.wav", "systems/bad/a.wav", "-m", tiny_model)
    (row,) = rows_of(result.stdout)
    assert result.exit_code == 0 and result.stderr == "" and list(row) == PAIR_KEYS
    assert (row["model"], row["a"], row["b"]) == ("tiny", "systems/good/a.wav", "systems/bad/a.wav")
    assert row["p_a"] + row["p_tie"] + row["p_b"] == pytest.approx(1) and row["error"] is None


def test_a_comparison_mirrors_to_the_last_bit(place: Path, tiny_model: Path) -> None:
    good, bad = Path("systems/good"), Path("systems/bad")
    write(good / "long.wav", np.tile(np.sin(np.arange(RATE) / 9), 40) / 9)  # more than one window on this side only
    write(bad / "long.wav", np.random.default_rng(0).standard_normal(RATE) / 9)
    there, back = compared(good, bad, "-m", tiny_model), compared(bad, good, "-m", tiny_model)
    assert len(there) == 3 and back == [mirrored(row) for row in there]
    assert len({row["cmos"] for row in there}) == 3 and all(row["cmos"] for row in there), "the clips do differ"
    one_by_one = [compared(good / name, bad / name, "-m", tiny_model)[0] for name in ("a.wav", "b.wav", "long.wav")]
    assert one_by_one == there


def test_a_file_against_itself_is_a_tie(place: Path, tiny_model: Path) -> None:
    shutil.copy("clean/a.wav", "same.wav")
    (row,) = compared("clean/a.wav", "same.wav", "-m", tiny_model)
    assert row["verdict"] == "tie" and row["cmos"] == 0 and row["p_a"] == row["p_b"]


def test_folders_are_matched_by_name_and_summed_up(place: Path, tiny_model: Path) -> None:
    shutil.move("systems/bad/a.wav", "systems/bad/A extra.wav")
    write(Path("systems/bad/a.flac"), np.random.default_rng(0).standard_normal(RATE) / 20)  # another ending: the same name
    write(Path("systems/good/more/c.wav"), np.full(RATE, 0.1, np.float32))
    result = urgentmos("compare", "systems/good", "systems/bad", "-m", tiny_model)
    rows = rows_of(result.stdout)
    assert result.exit_code == 0
    assert [(row["a"], row["b"]) for row in rows] == [
        ("systems/good/a.wav", "systems/bad/a.flac"),
        ("systems/good/b.wav", "systems/bad/b.wav"),
    ]
    left_out, summary = result.stderr.splitlines()
    assert left_out == "Note: 2 files have no counterpart of the same name. Left out, the first: systems/good/more/c.wav."
    mean = np.mean([row["cmos"] for row in rows])
    assert summary.startswith(f"CMOS A - B {mean:+.3f}, p = ") and summary.endswith("of 2 contents")


def test_json_holds_the_summary_of_folders(place: Path, tiny_model: Path) -> None:
    command = ("systems/good", "systems/bad", "-m", tiny_model)
    result = urgentmos("compare", *command, "--confidence", "0.8", "-o", "c.json")
    written = json.loads(Path("c.json").read_text())
    assert (result.exit_code, result.stdout, list(written)) == (0, "", ["model", "version", "summary", "warnings", "rows"])
    assert written["rows"] == compared(*command) and written["model"] == "tiny"
    summary = written["summary"]
    assert (summary["a"], summary["b"], summary["confidence"]) == ("systems/good", "systems/bad", 0.8)
    assert summary["wins"] + summary["ties"] + summary["losses"] == summary["n_contents"] == 2
    assert summary["cmos_low"] is summary["cmos_high"] is None, "two contents can reject nothing"
    urgentmos("compare", "clean/a.wav", "clean/b.wav", "-m", tiny_model, "-o", "one.json")
    assert [json.loads(Path("one.json").read_text())] == compared("clean/a.wav", "clean/b.wav", "-m", tiny_model)
    assert sorted(path.name for path in place.iterdir() if path.is_file()) == ["c.json", "one.json"], "something was left"


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_rows_of_a_comparison_are_the_same_in_every_ending(ending: str, place: Path, tiny_model: Path) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    command = ("systems/good", "systems/bad", "-m", tiny_model)
    assert urgentmos("compare", *command, "-o", f"c.{ending}").exit_code == 0
    assert read_records(f"c.{ending}") == compared(*command)


def test_a_pair_with_a_bad_file_has_the_reason_in_its_row(place: Path, tiny_model: Path) -> None:
    Path("systems/bad/a.wav").write_bytes(b"")
    result = urgentmos("compare", "systems/good", "systems/bad", "-m", tiny_model)
    bad, fine = rows_of(result.stdout)
    assert result.exit_code == 1 and fine["error"] is None and fine["verdict"]
    assert bad["error"] == "systems/bad/a.wav is empty (0 bytes). Record or copy it again"
    assert all(bad[key] is None for key in ("p_a", "p_tie", "p_b", "cmos", "verdict"))
    assert (
        "of 1 content (1 more could not be judged)" in result.stderr
        and "1 of 2 pairs could not be judged:\n  systems/bad/a.wav" in result.stderr
    )
    Path("systems/bad/b.wav").write_text("no sound")
    result = urgentmos("compare", "systems/good", "systems/bad", "-m", tiny_model, "-o", "c.json")
    assert result.exit_code == 1 and result.stderr.startswith("No content could be judged.\n2 of 2 pairs")
    assert json.loads(Path("c.json").read_text())["summary"]["cmos"] is None


def test_folders_without_a_common_name_are_refused(place: Path) -> None:
    for path in Path("systems/bad").iterdir():
        path.rename(path.with_stem(f"x{path.stem}"))
    result = urgentmos("compare", "systems/good", "systems/bad")
    assert (result.exit_code, result.stdout) == (2, "") and "share no file name" in result.stderr


def test_a_measured_metric_compares_too(place: Path) -> None:
    pytest.importorskip("speechmos")
    folders = ("systems/good", "systems/bad")
    scores = [row["metrics"]["dnsmos_ovrl"] for row in rows_of(urgentmos("score", *folders, "-m", "dnsmos_ovrl").stdout)]
    rows = compared(*folders, "-m", "dnsmos_ovrl")
    for row, good, bad in zip(rows, scores[:2], scores[2:], strict=True):
        assert row["cmos"] == pytest.approx(good - bad) and row["verdict"] == ("a" if good > bad else "b")


def test_a_distance_compares_the_right_way_round(place: Path) -> None:
    rows = compared("systems/good", "systems/bad", *LSD)
    assert all(row["verdict"] == "a" and row["cmos"] > 0 and row["p_a"] == 1 for row in rows)
    assert compared("systems/bad", "systems/good", *LSD) == [mirrored(row) for row in rows]


def test_a_terminal_gets_a_table_of_pairs(place: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("systems/bad/b.wav").write_bytes(b"")
    monkeypatch.setenv("TERM", "dumb")
    status, out, err = on_a_terminal(monkeypatch, "compare", "systems/good", "systems/bad", "-m", str(tiny_model))
    lines = [line.split() for line in out.splitlines()]
    assert status == 1 and lines[0] == ["content", "verdict", "p_a", "p_tie", "p_b", "cmos"] and len(lines) == 3
    assert lines[1][0] == "a" and lines[1][1] in MIRROR and lines[2] == ["b", *"-----"] and "CMOS A - B" in err
    status, out, err = on_a_terminal(monkeypatch, "compare", "systems/good/a.wav", "systems/bad/a.wav", "-m", str(tiny_model))
    assert (status, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [lines[0][1:], lines[1][1:]]


# ---- networks in score and rank


def test_a_network_tells_the_metrics_that_are_asked_for(place: Path, tiny_model: Path) -> None:
    every = rows_of(urgentmos("score", "systems/bad", "-m", tiny_model).stdout)
    assert all(row["model"] == "tiny" and row["metrics"].keys() == {"mos_overall", "utmos"} for row in every)
    some = rows_of(urgentmos("score", "systems/bad", "-m", tiny_model, "--metrics", "utmos").stdout)
    assert [row["metrics"] for row in some] == [{"utmos": row["metrics"]["utmos"]} for row in every]
    assert rows_of(urgentmos("score", "systems/bad", "-m", tiny_model, "--metrics", "mos").stdout)[0]["metrics"].keys() == {
        "mos_overall"
    }
    result = urgentmos("score", "systems/bad", "-m", tiny_model, "--metrics", "pesq")
    assert result.exit_code == 2
    assert result.stderr == "Error: pesq is not offered here. Choose from: all, mos_overall, utmos.\n"


def test_a_device_that_is_not_there_is_refused(place: Path, tiny_model: Path) -> None:
    for command in (("score", "clean"), ("rank", "systems"), ("compare", "clean/a.wav", "clean/b.wav")):
        result = urgentmos(*command, "-m", tiny_model, "--device", "cuda:99")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == "Error: device 'cuda:99' is not available here. Use --device auto or cpu\n"


def test_a_network_ranks_by_its_pairs_and_by_its_scores(place: Path, tiny_model: Path) -> None:
    pairs = json.loads(urgentmos("rank", "systems", "-m", tiny_model, "--scoring", "soft").stdout)
    assert pairs["model"] == "tiny" and sum(row["score"] for row in pairs["systems"]) == pytest.approx(2 * 3 * 2 / 2)
    rows = rows_of(urgentmos("score", "systems", "-m", tiny_model, "--metrics", "mos_overall").stdout)
    mean = {name: np.mean([r["metrics"]["mos_overall"] for r in rows if f"/{name}/" in r["audio_path"]]) for name in SYSTEMS}
    ranked = json.loads(urgentmos("rank", "systems", "-m", tiny_model, "--scoring", "mos").stdout)["systems"]
    assert {row["system_id"]: row["score"] for row in ranked} == pytest.approx(mean, abs=1e-4)


SYSTEMS = ("good", "middling", "bad")


@pytest.fixture(scope="session")
def tiny_pk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an URGENT-PK model with two filters and random weights."""
    torch = pytest.importorskip("torch")
    from urgentmos.models.folder import save
    from urgentmos.nets.urgentpk import UrgentPk, UrgentPkConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = UrgentPk(UrgentPkConfig(backbone="resnet18", filters=2)).eval()
    return save(tmp_path_factory.mktemp("models") / "pk", net, {"name": "pk"})


def test_both_mos_strategies_of_urgent_pk_rank(place: Path, tiny_pk: Path) -> None:
    mos = ("rank", "systems", "-m", tiny_pk, "--scoring", "mos")
    plain, replication = (json.loads(urgentmos(*mos, *more).stdout) for more in ((), ("--mos-strategy", "replication")))
    assert plain == replication, "replication is what an URGENT-PK model does with a clip alone"
    noisy = json.loads(urgentmos(*mos, "--mos-strategy", "noisy", "--noisy-system", "bad").stdout)
    assert {row["system_id"] for row in noisy["systems"]} == set(SYSTEMS)
    assert [row["score"] for row in noisy["systems"]] != [row["score"] for row in plain["systems"]]


def test_a_noisy_system_that_is_not_there_is_answered_with_those_that_are(place: Path, tiny_pk: Path) -> None:
    mos = ("rank", "systems", "-m", tiny_pk, "--scoring", "mos", "--mos-strategy", "noisy")
    result = urgentmos(*mos, "--noisy-system", "worst")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no system 'worst'" in result.stderr and "bad, good, middling" in result.stderr


def test_a_mos_strategy_is_refused_where_the_model_has_none(place: Path, tiny_model: Path) -> None:
    mos = ("rank", "systems", "-m", tiny_model, "--scoring", "mos", "--mos-strategy")
    for more in (("replication",), ("noisy", "--noisy-system", "bad")):
        result = urgentmos(*mos, *more)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.endswith("--mos-strategy is for URGENT-PK models.\n")


# ---- URGENT-PK data sets


@pytest.fixture
def urgentpk(shared: Path) -> Iterator[Path]:
    folder = shared / "parity" / "rank" / "dataset"
    if not folder.is_dir():
        pytest.skip("no URGENT-PK data set beside the checkout")
    yield folder


def test_an_urgentpk_data_set_is_ranked_on_its_test_contents(urgentpk: Path, place: Path) -> None:
    split = json.loads((urgentpk / "split.json").read_text())
    result = urgentmos("rank", urgentpk, "-m", "mos_overall", "--scoring", "mos")
    ranked = json.loads(result.stdout)
    assert result.exit_code == 0 and ranked["n_contents"] == len(split["tt"])
    values = [
        line.split()[1] for line in (urgentpk / "sysA_clean/mos.scp").read_text().splitlines() if line.split()[0] in split["tt"]
    ]
    best = ranked["systems"][0]
    assert best["system_id"] == "sysA_clean" and best["score"] == pytest.approx(np.mean([float(v) for v in values]))


def test_a_subset_that_is_not_there_is_answered_with_those_that_are(urgentpk: Path) -> None:
    result = urgentmos("rank", urgentpk, "-m", "mos_overall", "--subset", "dev")
    assert result.exit_code == 2 and "has no subset 'dev'" in result.stderr and "--subset" in result.stderr


def test_every_clip_of_an_urgentpk_data_set_is_labelled_with_its_system(
    urgentpk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from urgentmos.labellers import lsd

    def refuse(settings: Settings) -> Measure:
        def measure(signals: Signals) -> dict[str, float]:
            raise MeasureError("not today")

        return measure

    monkeypatch.setattr(lsd, "load", refuse)
    result = urgentmos("label", urgentpk, "--metrics", "lsd", "--jobs", "1")
    rows = rows_of(result.stdout)
    assert result.exit_code == 1 and len(rows) == sum(1 for _ in urgentpk.rglob("*.wav"))
    assert all(row["system_id"] and row["reference_id"] and row["metrics"]["mos_overall"] for row in rows)
