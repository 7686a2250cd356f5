"""--report: what is asked is checked before the work, and the page comes beside the results."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from urgentmos import errors
from urgentmos.cli import main
from urgentmos.commands import reporting
from urgentmos.report import page as pages

pytest.importorskip("jinja2")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """rows.jsonl: two systems, two contents, values but no audio; the chart library, which is slow to bundle, left out."""
    rows = []
    for system, value in (("a", 3.0), ("b", 2.0)):
        for content in ("u", "v"):
            row = {
                "uid": f"{system}:{content}",
                "audio_path": f"{system}/{content}.wav",
                "system_id": system,
                "reference_id": content,
                "duration": 5.0,
            }
            rows.append({**row, "metrics": {"lsd": value, "mos_overall": 5 - value}})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pages, "chart_library", lambda: "")
    return tmp_path


def urgentmos(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)


RANK = ("rank", "rows.jsonl", "-m", "lsd")
SCORE = ("score", "rows.jsonl", "-m", "mos_overall")
EVALUATE = ("evaluate", "rows.jsonl", "rows.jsonl", "--samples", 0)


@pytest.mark.parametrize("command", [RANK, SCORE, EVALUATE])
def test_the_page_comes_beside_the_same_results(command):
    plain = urgentmos(*command)
    shown = urgentmos(*command, "--report", "page.html")
    assert shown.stdout == plain.stdout and shown.exit_code == plain.exit_code == 0
    assert "Report: page.html (0." in shown.stderr
    assert Path("page.html").read_text().startswith("<!doctype html>")


def test_results_are_written_even_if_the_page_turns_out_too_large():
    shown = urgentmos(*RANK, "-o", "out.json", "--report", "page.html", "--report-audio", "none", "--report-limit", 0.001)
    assert shown.exit_code == 2 and "the limit is 0.001 MB" in shown.stderr
    assert json.loads(Path("out.json").read_text())["model"] == "lsd" and not Path("page.html").exists()


def test_audio_that_would_not_fit_is_said_before_any_work(monkeypatch):
    monkeypatch.setattr("urgentmos.api.load", lambda *a, **k: pytest.fail("it went to work"))
    shown = urgentmos(*RANK, "--report", "page.html", "--report-limit", 0.1)
    assert shown.exit_code == 2
    assert "page.html would have 0.2 MB, and the limit is 0.1 MB" in shown.stderr and "--report-audio link" in shown.stderr


@pytest.mark.parametrize("option", [("--report-audio", "none"), ("--report-listen", 3), ("--report-limit", 9)])
def test_an_option_about_a_page_needs_one(option):
    shown = urgentmos(*RANK, *option)
    assert shown.exit_code == 2 and f"{option[0]} is about a page. Add --report" in shown.stderr


def test_efficiency_needs_a_page_and_stands_on_it():
    Path("costs.csv").write_text("model,real-time factor\npocket,0.01\n")
    assert "--efficiency is about a page" in urgentmos(*EVALUATE, "--efficiency", "costs.csv").stderr
    assert urgentmos(*EVALUATE, "--efficiency", "costs.csv", "--report", "page.html").exit_code == 0
    assert "real-time factor" in Path("page.html").read_text()


def test_a_page_is_html_in_a_folder_that_exists():
    assert "ends in .html" in urgentmos(*RANK, "--report", "page.pdf").stderr
    assert "Choose another place" in urgentmos(*RANK, "--report", "none/page.html").stderr


def test_without_the_extra_the_line_that_installs_it_is_told_first(monkeypatch):
    def absent(name, *more):
        if name == "vl_convert":
            raise ModuleNotFoundError(name=name)
        return importlib.import_module(name, *more)

    monkeypatch.setattr(errors, "import_module", absent)
    shown = urgentmos(*RANK, "--report", "page.html")
    assert shown.exit_code == 2 and "pip install 'urgentmos[report]'" in shown.stderr and not Path("page.html").exists()
    assert urgentmos(*RANK).exit_code == 0


def test_listening_to_few_contents_makes_room(place):
    from urgentmos.clips.inputs import read_clips
    from urgentmos.report import Options

    clips = read_clips([place / "rows.jsonl"])
    with pytest.raises(errors.UsageError):
        reporting.check_room(clips, 2, Options(place / "p.html", limit_mb=0.1))
    reporting.check_room(clips, 2, Options(place / "p.html", limit_mb=0.1, listen=1))
    reporting.check_room(clips, 2, None)


def test_the_commands_load_no_template_or_chart_without_a_page():
    heavy = ("jinja2", "vl_convert", "urgentmos.report")
    script = f"import sys; from urgentmos.cli import main; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"
