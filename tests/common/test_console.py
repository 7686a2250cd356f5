"""stdout is data, stderr is talk."""

import io
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.cli import main
from urgentmos.common import console
from urgentmos.errors import visible


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_talk_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("a word")
    assert capsys.readouterr() == ("", "a word\n")


def test_there_is_no_bar_unless_stderr_is_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress() as show:
        show("pesq", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_a_bar_names_what_is_measured_and_how_much_is_done_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    with console.progress() as show:
        show("pesq", 3, 7)
        show("dnsmos", 0, 7)
        show("dnsmos", 5, 7)
    assert out.getvalue() == ""
    last = err.getvalue()
    assert all(part in last for part in ("pesq", "dnsmos", "3/7", "5/7"))


def test_a_table_has_its_head_first_and_lines_up_numbers_on_the_right(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    console.table(["clip", "pesq"], [["a", "1.5"], ["a longer name", "-12.25"]], numbers=[1])
    out, err = capsys.readouterr()
    lines = [line.rstrip() for line in out.splitlines()]
    assert [line.split()[0] for line in lines] == ["clip", "a", "a"] and err == ""
    assert len({len(line) for line in lines}) == 1, "right edges differ"


def test_a_table_shows_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(["clip"], [["[bold]x[/bold] :smile:"]])
    assert "[bold]x[/bold] :smile:" in capsys.readouterr().out


def test_a_long_name_is_folded_never_cut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    name = "/".join(f"part{i}" for i in range(20))
    console.table(["clip", "pesq"], [[name, "1.000"]], numbers=[1])
    out = capsys.readouterr().out
    column = "".join(line[: line.rfind("1.000")] if "1.000" in line else line for line in out.splitlines()[1:])
    assert "".join(column.split()) == name


@pytest.mark.parametrize(("value", "shown"), [(None, "-"), (1.23456, "1.235"), (0.0, "0.000"), (-2.0, "-2.000")])
def test_a_missing_value_is_a_dash_not_a_zero(value: float | None, shown: str) -> None:
    assert console.number(value) == shown


def test_a_score_with_its_interval_has_the_decimals_that_it_deserves() -> None:
    assert console.with_interval(3.44, [2.91, 3.849]) == "3.4 [2.9, 3.8]"
    assert console.with_interval(None, [1.0, 5.0]) == "-"


def test_as_many_columns_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    head, rows = ["clip", "mos", "pesq"], [["a" * 30, "3.4 [2.9, 3.8]", "1.234"]]
    monkeypatch.delenv("TERM", raising=False)
    for width, wanted in ((200, 3), (53, 3), (52, 2), (46, 2), (45, 1)):
        monkeypatch.setenv("COLUMNS", str(width))
        assert console.columns_that_fit(head, rows) == wanted, width


# ---- names that steer a terminal

HOSTILE = st.text(
    st.sampled_from("a\u00e9\u4e2d\U0001f3a7 \x1b[2J\x07\x08\r\n\t\x7f\x85\x9b\u200e\u202e\u2066\u2028\u2029\ufeff\u061c\udcff")
)


def steers(text: str) -> bool:
    return any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in text)


@given(st.one_of(HOSTILE, st.text()))
def test_what_is_shown_is_one_line_that_steers_nothing(text: str) -> None:
    shown = visible(text)
    assert not steers("".join(char for char in shown if char not in "\u200c\u200d\xad")) and len(shown.splitlines()) <= 1
    assert visible(shown) == shown
    if not steers(text):
        assert shown == text, "names in any script stay as they are"


@given(HOSTILE)
def test_nothing_that_is_printed_steers_a_terminal(text: str) -> None:
    out, err = Terminal(), Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setenv("COLUMNS", "400")
        patch.setenv("TERM", "dumb")
        console.say(text)
        console.show(text)
        console.table([text], [[text]])
        lines = out.getvalue().count("\n"), err.getvalue().count("\n")
    printed = (out.getvalue() + err.getvalue()).replace("\n", "")
    assert not steers(printed), repr(printed)
    assert lines[1] == 1


def test_an_error_of_several_lines_keeps_them_and_no_other(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name = "x\n\x1b[31mError: all is well.jsonl"
    (tmp_path / name).write_text("no row\n")
    result = CliRunner().invoke(main, ["score", str(tmp_path / name)])
    assert result.exit_code == 2 and "\x1b" not in result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 3 and lines[0].startswith("Error: ") and lines[2].startswith("Correct or remove")
    assert "x\\n\\x1b[31mError: all is well.jsonl" in lines[0]


@pytest.mark.parametrize("command", ["score", "rank"])
def test_files_with_hostile_names(command: str, tmp_path: Path) -> None:
    wave = 0.1 * np.random.default_rng(0).standard_normal(8_000)
    for system in ("a\x1b]0;title\x07", "b\u202egpj"):
        (tmp_path / system).mkdir()
        soundfile.write(tmp_path / system / "u\r1.wav", wave, 8_000)
        (tmp_path / system / "bad\x9b2J\n.wav").write_bytes(b"no audio")
    more = ["--table"] if command == "rank" else []
    result = CliRunner().invoke(main, [command, str(tmp_path), *more])
    shown = result.stderr + (result.stdout if command == "rank" else "")
    assert result.exit_code == 1 and not steers(shown.replace("\n", "")), repr(shown)


def test_nowhere_to_talk_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    for stream in (None, Full()):
        monkeypatch.setattr(sys, "stderr", stream)
        console.say("a word")
