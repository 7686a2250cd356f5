"""stdout is data, stderr is talk."""

import io
import sys

import pytest

from urgentmos import console


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
