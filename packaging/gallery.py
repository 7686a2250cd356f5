"""The pictures of docs/gallery.md but the last, which is of made-up data: reports on examples/, as Chromium shows them.

To be run after new weights: `python packaging/gallery.py`. Needs Chromium (`make browser`) and what `make setup` installs.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
COMMAND = [sys.executable, "-c", "from urgentmos.cli import main; main()"]
SETTLED = 1000  # ms until the charts are drawn


def report(command: str, page: Path) -> Path:
    """The page that a command on examples/systems writes."""
    made = [*COMMAND, command, "examples/systems", "--report", str(page), "-o", str(page.with_suffix(".json"))]
    subprocess.run(made, cwd=ROOT, check=True, capture_output=True)
    return page


def shoot(browser: Any, page: Path, name: str, width: int, height: int, *, scheme: str = "light", at: str = "") -> None:
    """A window of this size, scrolled to the element `at`, into IMAGES."""
    shown = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    shown.goto(page.as_uri())
    shown.wait_for_timeout(SETTLED)
    for _ in range(2 if at else 0):  # what comes into view is drawn then, and makes the page longer
        shown.evaluate("at => document.querySelector(at).scrollIntoView()", at)
        shown.wait_for_timeout(SETTLED)
    shown.screenshot(path=IMAGES / name)
    shown.close()


def shoot_part(browser: Any, page: Path, name: str, width: int, part: str) -> None:
    """One element as wide as it is in a window of this width, into IMAGES."""
    shown = browser.new_page(viewport={"width": width, "height": 1000})
    shown.goto(page.as_uri())
    shown.wait_for_timeout(SETTLED)
    shown.locator(part).screenshot(path=IMAGES / name)
    shown.close()


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        ranking, clips = report("rank", Path(folder, "ranking.html")), report("score", Path(folder, "clips.html"))
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shoot(browser, ranking, "ranking.png", 1100, 1000)
        shoot(browser, ranking, "ranking-dark.png", 1100, 900, scheme="dark", at="#pairs")
        shoot(browser, ranking, "listen.png", 1100, 1000, at="#listen")
        shoot(browser, ranking, "phone.png", 390, 800)
        shoot_part(browser, clips, "clip.png", 1000, "#clip")
        browser.close()


if __name__ == "__main__":
    main()
