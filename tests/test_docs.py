"""The documents say what the program does: each command and option is there, each block runs, each table is the code's.

Blocks run in a temporary folder with a small part of examples/ in it. In a ```console block, lines after a command are
what it shows on a terminal: `...` stands for anything, rows of a ranking (other numbers on the small part) are not
compared, and `$ echo $?` is followed by the exit status, which is 0 if nothing is said.
"""

import io
import json
import os
import re
import shlex
import shutil
from contextlib import redirect_stderr, redirect_stdout
from math import isinf
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from urgentmos import __version__
from urgentmos.cli import main
from urgentmos.errors import NO_DEPS
from urgentmos.labellers import LABELLERS, MEASURABLE
from urgentmos.metrics import HUMAN, METRICS, Metric

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROSE = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
SYSTEMS, CONTENTS = ("noisy", "rnnoise", "clean_opus_6k"), ("utt01", "utt02")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RANKED_ROW = re.compile(r"^\s*\d+  \S")


class Shown(NamedTuple):
    """A command of a ```console block, what it should show, and its exit status."""

    command: str
    lines: list[str]
    status: int


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks, in their order."""
    return FENCE.findall(page.read_text(encoding="utf-8"))


def commands(console: str) -> list[Shown]:
    found: list[Shown] = []
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        command, *lines = part.rstrip("\n").split("\n")
        if command == "echo $?":
            found[-1] = found[-1]._replace(status=int(lines[0]))
        else:
            found.append(Shown(command, lines, 0))
    return found


class Terminal(io.TextIOWrapper):
    """A stdout that says it is a terminal."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined]


def run(command: str) -> tuple[int, list[str]]:
    """(exit status, lines of stderr and stdout) of `urgentmos ...` on a terminal."""
    stdout, stderr = Terminal(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            main(shlex.split(command, comments=True)[1:], prog_name="urgentmos")
            status = 0
        except SystemExit as e:
            status = int(e.code or 0)
    return status, (stderr.getvalue() + stdout.text()).splitlines()


def fits(shown: str, lines: list[str]) -> bool:
    """Whether a documented line is among the real ones, blanks aside; `...` at its end stands for the rest."""
    if RANKED_ROW.match(shown):
        return True
    want = " ".join(shown.split())
    real = [" ".join(line.split()) for line in lines]
    return any(line.startswith(want[:-3].rstrip()) for line in real) if want.endswith("...") else want in real


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a page's blocks run, with a small part of examples/."""
    examples = tmp_path / "examples"
    for folder in ("clean", *(f"systems/{system}" for system in SYSTEMS)):
        (examples / folder).mkdir(parents=True)
        for content in CONTENTS:
            shutil.copy(ROOT / "examples" / folder / f"{content}.flac", examples / folder)
    rows = [json.loads(line) for line in (ROOT / "examples/manifest.jsonl").read_text().splitlines()]
    kept = [row for row in rows if row["system_id"] in SYSTEMS and row["reference_id"] in CONTENTS]
    (examples / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    shutil.copy(ROOT / "examples/README.md", examples)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    if hasattr(os, "sched_getaffinity"):  # a handful of clips does not pay for the start of processes
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page: Path, place: Path) -> None:
    names: dict[str, object] = {}
    for language, text in blocks(page):
        if language == "python":
            with redirect_stdout(io.StringIO()):
                exec(compile(text, f"{page.name} (python block)", "exec"), names)
        for shown in commands(text) if language == "console" else ():
            if shown.command.startswith("urgentmos "):
                status, lines = run(shown.command)
                told = f"$ {shown.command}\n" + "\n".join(lines)
                assert status == shown.status, f"exit status {status}\n{told}"
                missing = [line for line in shown.lines if not fits(line, lines)]
                assert not missing, f"{page.name} shows {missing}, but:\n{told}"


def test_a_wrong_line_or_status_would_be_noticed(place: Path) -> None:
    status, lines = run("urgentmos rank examples/clean")
    assert status == 2 and not fits("Error: something else.", lines) and not fits("Error: some...", lines)
    assert commands("$ urgentmos rank x\nError: y\n$ echo $?\n2\n") == [Shown("urgentmos rank x", ["Error: y"], 2)]


# ---- nothing is left out, nothing is made up


def page_of(command: str) -> str:
    return (ROOT / "docs" / f"{command}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", main.commands)
def test_each_command_and_option_is_documented(name: str) -> None:
    assert f"$ urgentmos {name} " in page_of(name)
    assert f"({name}.md)" in (ROOT / "docs/index.md").read_text()
    for option in (p for p in main.commands[name].params if isinstance(p, click.Option)):
        for spelling in option.opts:
            assert f"`{spelling}`" in page_of(name), f"docs/{name}.md does not explain {spelling}"


@pytest.mark.parametrize("name", main.commands)
def test_the_documented_default_of_an_option_is_the_real_one(name: str) -> None:
    table = {row.split("|")[1].strip().split("`")[-2]: row.split("|")[2].strip(" `") for row in option_rows(page_of(name))}
    for option in (p for p in main.commands[name].params if isinstance(p, click.Option)):
        if option.default not in (None, ()) and not str(option.default).startswith("Sentinel"):
            assert table[option.opts[-1]] == str(option.default)


def option_rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(r"\| `-", line)]


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_no_command_is_made_up(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"(?:`|\$ |^)urgentmos (\w+)", text, re.MULTILINE):
        assert name in main.commands, f"{page.name} shows urgentmos {name}"


@pytest.mark.parametrize("page", [*PROSE, ROOT / "examples/README.md"], ids=lambda page: f"{page.parent.name}/{page.name}")
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_starts_with_the_two_commands_of_the_makefile() -> None:
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"$ make {target}\n" in readme and re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_changelog_speaks_of_this_version() -> None:
    assert f"\n## {__version__} " in (ROOT / "CHANGELOG.md").read_text()


def test_contributing_shows_every_module_of_the_house() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name in re.findall(r"^  ([a-z_]+(?:\.py|/))", text, re.MULTILINE):
        assert (ROOT / "src/urgentmos" / name).exists(), f"CONTRIBUTING.md shows {name}, which is not there"


# ---- models


def test_the_page_on_models_names_every_metric_that_can_judge() -> None:
    first_cells = " ".join(line.split("|")[1] for line in page_of("models").splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", first_cells)) == set(MEASURABLE)


@pytest.mark.parametrize("row", [row for row in LABELLERS if row.weights], ids=lambda row: row.name)
def test_the_page_on_models_tells_how_to_get_weights_and_their_licence(row) -> None:
    lines = [line for line in page_of("models").splitlines() if line.startswith("| `") and f"| `{row.name}` |" in line]
    assert len(lines) == 1 and all(f"`{metric}`" in lines[0] for metric in row.metrics)
    assert row.hub is None or row.hub in lines[0]
    for file in re.findall(r"[\w*]+\.(?:pt|tar|onnx)", row.weights or ""):
        assert file in lines[0]
    assert lines[0].rstrip("| ").rsplit("|", 1)[1].strip(), "no licence"


def test_packages_without_dependencies_are_the_ones_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for package in NO_DEPS:
        pin = re.search(rf"{package.replace('_', '-')}==[\d.]+", makefile)
        assert pin and pin[0] in page_of("models")


# ---- the table of metrics


def bounds(low: float, high: float) -> str:
    """ "1 .. 5"; an open side stays empty."""
    return f"{'' if isinf(low) else f'{low:g} '}..{'' if isinf(high) else f' {high:g}'}"


def metric_row(row: Metric) -> str:
    paper = bounds(row.paper_low, row.paper_high) if row.table1 else ""
    human = row.name in HUMAN
    need = "listeners" if human else "reference signal" if row.needs_reference else ""
    rate = "" if human else "own" if row.rate is None else f"{row.rate / 1000:g}"
    unit = f" ({row.unit})" if row.unit else ""
    cells = (
        f"`{row.name}`",
        row.title,
        row.category.replace("noise_distortion", "noise, distortion"),
        f"{bounds(row.low, row.high)}{unit}",
        paper,
        row.better,
        need,
        rate,
        "" if human else f"{row.min_seconds:g}",
        row.source,
    )
    return f"| {' | '.join(cells)} |"


def metric_table() -> list[str]:
    head = ("name", "title", "category", "range", "range in the paper", "better", "needs", "rate", "shortest", "source")
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(metric_row(row) for row in METRICS.values())]


def test_the_table_of_metrics_is_the_one_of_the_code() -> None:
    shown = [line for line in page_of("metrics").splitlines() if line.startswith("|")]
    assert shown == metric_table(), "docs/metrics.md should hold:\n" + "\n".join(metric_table())
