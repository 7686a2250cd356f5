"""The documents say what the program does: each command and option is there, each block runs, each table is the code's.

Blocks run in a temporary folder with a small part of examples/ in it. In a ```console block, lines after a command are
what it shows on a terminal: `...` stands for anything, rows of a ranking (other numbers on the small part) are not
compared, and `$ echo $?` is followed by the exit status, which is 0 if nothing is said. A ```sh block is run by sh. What
cannot be run here, blocks without a language and the steps in ```yaml, must at least be understood.
"""

import importlib.util
import io
import json
import os
import pydoc
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from math import isinf
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

import urgentmos
from urgentmos import __version__
from urgentmos.cli import main
from urgentmos.errors import NO_DEPS
from urgentmos.labellers import LABELLERS, MEASURABLE
from urgentmos.metrics import HUMAN, METRICS, Metric

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROSE = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
SYSTEMS, CONTENTS = ("noisy", "rnnoise", "clean_opus_6k"), ("utt01", "utt02")
MORE_CONTENTS = tuple(f"utt{i:02}" for i in range(1, 7))  # walk-throughs come to conclusions, which two cannot bear
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RANKED_ROW = re.compile(r"^\s*\d+  \S")
COMPUTED = {"", "off", "all", "one per core", "CORPUS", "runs/MODEL"}  # defaults that depend on the machine or on other options


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
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The folder in which a page's blocks run, with a small part of examples/."""
    examples = tmp_path / "examples"
    page = getattr(request.node, "callspec", None) and request.node.callspec.params.get("page")
    contents = MORE_CONTENTS if page and page.parent.name == "walkthroughs" else CONTENTS
    for folder in ("clean", *(f"systems/{system}" for system in SYSTEMS)):
        (examples / folder).mkdir(parents=True)
        for content in contents:
            shutil.copy(ROOT / "examples" / folder / f"{content}.flac", examples / folder)
    rows = [json.loads(line) for line in (ROOT / "examples/manifest.jsonl").read_text().splitlines()]
    kept = [row for row in rows if row["system_id"] in SYSTEMS and row["reference_id"] in contents]
    (examples / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    shutil.copy(ROOT / "examples/README.md", examples)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    if hasattr(os, "sched_getaffinity"):  # a handful of clips does not pay for the start of processes
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    return tmp_path


def title(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def run_script(text: str, folder: Path) -> None:
    """What a ```sh block says, by sh, with the commands of this environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-eu", "-c", text], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{text}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_the_blocks_of_a_page_run(page: Path, place: Path) -> None:
    names: dict[str, object] = {}
    for language, text in blocks(page):
        if language == "python":
            with redirect_stdout(io.StringIO()):
                exec(compile(text, f"{page.name} (python block)", "exec"), names)
        if language == "sh":
            run_script(text, place)
        for shown in commands(text) if language == "console" else ():
            if shown.command.startswith("urgentmos "):
                status, lines = run(shown.command)
                told = f"$ {shown.command}\n" + "\n".join(lines)
                assert status == shown.status, f"exit status {status}\n{told}"
                missing = [line for line in shown.lines if not fits(line, lines)]
                assert not missing, f"{page.name} shows {missing}, but:\n{told}"


def steps(part: object) -> Iterator[str]:
    """Every line of every `run:` in a workflow."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        if key == "run":
            yield from value.splitlines()
        else:
            yield from steps(value)


@pytest.mark.parametrize("page", PROSE, ids=title)
def test_commands_that_cannot_be_run_here_are_understood(page: Path) -> None:
    lines: list[str] = []
    for language, text in blocks(page):
        if language == "yaml":
            lines += steps(pytest.importorskip("yaml").safe_load(text))
        elif language in ("", "text"):
            lines += text.replace("\\\n", " ").splitlines()
    for line in lines:
        words = shlex.split(line, comments=True) if line.lstrip().startswith("urgentmos ") else []
        if words:
            main.commands[words[1]].make_context(words[1], words[2:])  # click.UsageError names what it does not know


def test_a_failing_script_and_an_unknown_option_would_be_noticed(place: Path) -> None:
    run_script("urgentmos --version", place)
    with pytest.raises(AssertionError, match="exit status 2"):
        run_script("urgentmos rank nothing", place)
    assert list(steps({"jobs": {"x": {"steps": [{"uses": "y"}, {"run": "a\nb"}]}}})) == ["a", "b"]
    with pytest.raises(click.UsageError):
        main.commands["rank"].make_context("rank", ["x", "--nonsense"])


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
    table = {row.split("|")[1].strip().split("`")[-2]: row.split("|")[2].strip() for row in option_rows(page_of(name))}
    for option in (p for p in main.commands[name].params if isinstance(p, click.Option) and option_rows(page_of(name))):
        documented = table.get(option.opts[-1], "")
        if option.default in (None, ()) or str(option.default).startswith("Sentinel"):
            assert documented in COMPUTED, f"docs/{name}.md gives {option.opts[-1]} the default {documented}; it has none"
        else:
            value = documented.strip("`")
            assert float(value) == option.default if isinstance(option.default, float) else value == str(option.default)


def option_rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(r"\| `-", line)]


@pytest.mark.parametrize("page", PROSE, ids=title)
def test_no_command_is_made_up(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"(?:`|\$ |^)urgentmos (\w+)", text, re.MULTILINE):
        assert name in main.commands, f"{page.name} shows urgentmos {name}"


@pytest.mark.parametrize("page", [*PROSE, ROOT / "examples/README.md"], ids=title)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    for target, _, anchor in re.findall(r"\]\(([^)#]*)(#([^)]+))?\)", FENCE.sub("", page.read_text(encoding="utf-8"))):
        if target.startswith("http"):
            continue
        there = page.parent / target if target else page
        assert there.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{page.name} links to #{anchor}, which {there.name} lacks"


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get: lower case, hyphens for blanks, no other signs."""
    heads = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_a_page_begins_with_a_sentence(page: Path) -> None:
    first = page.read_text(encoding="utf-8").split("\n\n")[1]
    assert re.match(r"[A-Z]", first), f"{page.name} begins with {first[:60]!r}"


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_the_python_names_that_a_page_shows_exist(page: Path) -> None:
    for name in re.findall(r"(?:`|::: )(urgentmos(?:\.\w+)+)", page.read_text(encoding="utf-8")):
        assert pydoc.locate(name) is not None, f"{page.name} shows {name}"


# ---- the site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation site, built as `make docs` does; a warning is an error."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_every_page_and_fetches_nothing(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs")).with_suffix(".html").exists(), f"{page.name} is not in the site"
    loads = re.compile(r"""<(?:script|img|iframe)[^>]*\ssrc=["']?(?:https?:)?//|<link[^>]*\shref=["']?(?:https?:)?//""")
    for page in site.rglob("*.html"):
        found = loads.search(page.read_text(encoding="utf-8"))
        assert not found, f"{page.name} loads something from elsewhere: {found[0]}"
    assert loads.search('<script src="https://example.org/x.js">') and not list(site.rglob("*.py"))


def test_the_page_on_python_shows_every_public_name(site: Path) -> None:
    text = (site / "python.html").read_text(encoding="utf-8")
    shown = set(re.findall(r'<h[23] id="([\w.]+)"', text))
    for name in {*urgentmos.__all__} - {"__version__"}:
        home = "urgentmos" if name == "METRICS" else getattr(urgentmos, name).__module__
        assert f"{home}.{name}" in shown and f"urgentmos.{name}" in text
    for returned in ("Predictor", "Score", "Comparison", "Ranking"):
        assert any(name.endswith(f".{returned}") for name in shown), returned


def test_the_search_works_on_a_page_that_was_opened_from_disk(site: Path) -> None:
    sync = pytest.importorskip("playwright.sync_api")
    outside: list[str] = []
    with sync.sync_playwright() as player:
        try:
            browser = player.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        except sync.Error:
            pytest.skip("no Chromium here")
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.on("request", lambda asked: outside.append(asked.url) if asked.url.startswith("http") else None)
        page.on("pageerror", lambda error: outside.append(str(error)))
        page.goto((site / "walkthroughs/ci.html").as_uri())
        page.focus("input.md-search__input")
        page.keyboard.type("bootstrap", delay=20)
        page.wait_for_selector(".md-search-result__link[href*='statistics.html']", state="attached", timeout=20_000)
        browser.close()
    assert outside == []


def test_a_model_card_becomes_a_section(tmp_path: Path) -> None:
    text = "---\nlicense: mit\n---\n# Pocket\n\n## Use\n\n```sh\n# no heading\n```\n[weights](model.safetensors) [site](https://x.y/)\n"
    for name, card in (("b", text), ("a", "Nothing but text.")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "MODEL_CARD.md").write_text(card)
    assert site_hooks().cards(tmp_path) == [
        "## a\n\nNothing but text.",
        "## Pocket\n\n### Use\n\n```sh\n# no heading\n```\nweights [site](https://x.y/)",
    ]


def test_the_page_of_model_cards_holds_those_that_there_are(site: Path) -> None:
    cards = list((ROOT / "src/urgentmos/weights").glob("*/MODEL_CARD.md"))
    text = (site / "model-cards.html").read_text(encoding="utf-8")
    assert ("No model is packaged here" in text) == (not cards) and "model cards --" not in text
    assert len(re.findall("<h2 ", text)) == len(cards)


def site_hooks() -> Any:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs/site_hooks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_starts_with_the_two_commands_of_the_makefile() -> None:
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"$ make {target}\n" in readme and re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("page", PROSE, ids=title)
def test_projects_are_linked_by_their_repository_and_by_no_package_registry(page: Path) -> None:
    assert not re.search(r"https?://(www\.)?(pypi|npmjs|anaconda|conda)\b", page.read_text(encoding="utf-8"))


def test_the_changelog_speaks_of_this_version() -> None:
    assert f"\n## {__version__} " in (ROOT / "CHANGELOG.md").read_text()


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
