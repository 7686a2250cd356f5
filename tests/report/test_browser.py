"""Pages in a real browser: nothing fails or is fetched, players play, sorting and keys work, light and dark are readable."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from urgentmos.cli import main

pytest.importorskip("jinja2")
pytest.importorskip("vl_convert")
sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; make browser installs one")

RATE = 16_000
NASTY = "b<script>alert('x')</script>\"q\" & co"
SYSTEMS = {"a": 30, NASTY: 10, "c": 0}  # dB of SNR
CONTENTS = ("u1", "u2", "u10")


def hummed(seed: int, snr_db: float) -> np.ndarray:
    """(T,) float32: 1.5 s of a harmonic tone in noise."""
    t = np.arange(int(1.5 * RATE)) / RATE
    tone = 0.1 * sum(np.sin(2 * np.pi * 120 * k * t + seed) / k for k in range(1, 12)) * np.abs(np.sin(4 * t))
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return (tone + noise * tone.std() / 10 ** (snr_db / 20)).astype(np.float32)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """rank.html, linked/rank.html, score.html and evaluate.html, made by the commands."""
    folder = tmp_path_factory.mktemp("site")
    rows = []
    for i, (system, snr) in enumerate(SYSTEMS.items()):
        for u, content in enumerate(CONTENTS):
            path = folder / "audio" / f"{i}" / f"{content}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, hummed(u, snr), RATE)
            value = 3.5 - i + 0.1 * u + (1.3 if (i, u) == (1, 2) else 0)
            row = {
                "uid": f"{system}:{content}",
                "audio_path": str(path),
                "system_id": system,
                "reference_id": content,
                "corpus": f"corpus {u % 2}",
            }
            rows.append({**row, "metrics": {"dnsmos_ovrl": value, "lsd": 1.0 + i, "mos_overall": 4.5 - i - 0.2 * u}})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = [{**row, "metrics": {"mos_overall": 4.4 - 0.9 * k / 2, "utmos": 3 - 0.1 * k}} for k, row in enumerate(rows)]
    (folder / "said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
    (folder / "linked").mkdir()
    scores = ("score", folder / "audio", "-m", tiny_model, "-o", folder / "scores.jsonl", "--report", folder / "score.html")
    for command in (
        ("rank", folder / "rows.jsonl", "-m", "dnsmos_ovrl", "--report", folder / "rank.html"),
        ("rank", folder / "rows.jsonl", "-m", "lsd", "--report", folder / "linked" / "rank.html", "--report-audio", "link"),
        scores,
        ("evaluate", folder / "said.jsonl", folder / "rows.jsonl", "--samples", 20, "--report", folder / "evaluate.html"),
    ):
        result = CliRunner().invoke(main, [str(part) for part in command], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        args = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        running = play.chromium.launch(executable_path=CHROMIUM, args=args)
        yield running
        running.close()


@pytest.fixture
def visit(browser: Any, site: Path) -> Iterator[Callable[..., Any]]:
    """Opens a page of the site; at the end, nothing may have gone wrong on it, and nothing been asked of anyone."""
    problems: list[str] = []
    opened = []

    def go(name: str, **more: Any) -> Any:
        context = browser.new_context(**more)
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda m: problems.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: problems.append(str(e)))
        page.on("dialog", lambda d: (problems.append(f"dialog: {d.message}"), d.dismiss()))
        page.on(
            "requestfailed",
            lambda r: problems.append(f"failed: {r.url[:80]} {r.failure}") if "ERR_ABORTED" not in str(r.failure) else None,
        )
        page.on(
            "request",
            lambda r: problems.append(f"asked for {r.url}") if not r.url.startswith(("file:", "data:", "blob:")) else None,
        )
        page.add_init_script(WATCH_PLAYS)
        page.goto((site / name).as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        return page

    yield go
    for context in opened:
        context.close()
    assert problems == []


def until(page: Any, expression: str) -> None:
    """Waits for it. Playwright's own waiting evaluates strings in the page, which the page's policy forbids."""
    for _ in range(600):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    pytest.fail(f"never: {expression}")


def draw_all(page: Any) -> None:
    """Waits until every visible chart is drawn."""
    page.evaluate("document.querySelectorAll('[data-chart]').forEach((e) => e.scrollIntoView())")
    until(
        page,
        "[...document.querySelectorAll('[data-chart]')]"
        ".every((e) => e.dataset.drawn || !e.offsetParent || (e.scrollIntoView(), false))",
    )


@pytest.mark.parametrize("name", ["rank.html", "linked/rank.html", "score.html", "evaluate.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_is_drawn_without_a_complaint(visit, name, scheme):
    page = visit(name, color_scheme=scheme)
    draw_all(page)
    charts = page.locator("[data-chart] svg")
    assert charts.count() == page.locator("[data-chart][data-drawn]").count() > (0 if name != "score.html" else -1)
    for k in range(charts.count()):
        assert charts.nth(k).locator(".mark-rect path, .mark-symbol path, .mark-rule line, .mark-line path").count() > 0


@pytest.mark.parametrize("name", ["rank.html", "score.html", "evaluate.html"])
def test_a_phone_need_not_scroll_sideways(visit, name):
    page = visit(name, viewport={"width": 375, "height": 800})
    draw_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_a_column_sorts_both_ways_and_says_so(visit):
    page = visit("rank.html")
    table = page.locator("#table table")
    first = lambda: table.locator("tbody th").first.inner_text()  # noqa: E731
    ranked = table.locator("tbody th").all_inner_texts()
    head = table.locator("th", has=page.get_by_role("button", name="system", exact=True))
    head.get_by_role("button").click()
    assert table.locator("tbody th").all_inner_texts() == sorted(SYSTEMS) and head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").press("Enter")
    assert first() == "c" and head.get_attribute("aria-sort") == "descending"
    table.get_by_role("button", name="score").click()
    assert head.get_attribute("aria-sort") == "none"
    assert table.locator("tbody th").all_inner_texts() == ranked


def test_missing_numbers_sort_last_both_ways(visit):
    page = visit("rank.html")
    page.evaluate("document.querySelectorAll('#table tbody tr')[0].cells[2].dataset.value = ''")
    name = page.locator("#table tbody th").first.inner_text()
    for _ in range(2):
        page.locator("#table").get_by_role("button", name="score").click()
        assert page.locator("#table tbody th").last.inner_text() == name


WATCH_PLAYS = """
window.played = []; // where each clip was when it began to sound
const play = HTMLMediaElement.prototype.play;
HTMLMediaElement.prototype.play = function () {
  this.addEventListener("playing", () => window.played.push(this.currentTime), { once: true });
  return play.call(this);
};
"""
PLAYS = "[...document.querySelectorAll('.deck button.toggle')].some((b) => b.getAttribute('aria-pressed') === 'true')"
TIME = "Number(document.querySelector('.deck input[type=range]').value)"


@pytest.mark.parametrize("name", ["rank.html", "linked/rank.html"])
def test_clips_of_a_content_play_and_switch_at_the_same_position(visit, name):
    page = visit(name)
    deck = page.locator(".deck")
    deck.locator("tbody").get_by_role("button").nth(0).click()
    until(page, f"{PLAYS} && {TIME} > 0.2")
    before = page.evaluate(TIME)
    deck.press("ArrowDown")
    until(page, "window.played.length === 2")
    assert before - 0.05 <= page.evaluate("window.played[1]") < 1.5
    assert deck.locator("tr.on th").inner_text() == deck.locator("tbody th").nth(1).inner_text()
    deck.press("x")
    assert deck.locator("tr.on th").inner_text() == deck.locator("tbody th").nth(0).inner_text()
    until(page, f"!({PLAYS})")  # at its end
    assert float(page.evaluate("document.querySelector('.deck input[type=range]').max")) == pytest.approx(1.5, abs=0.05)


def test_keys_walk_through_contents_and_only_inside_the_box(visit):
    page = visit("rank.html")
    deck = page.locator(".deck")
    titles = []
    for _ in CONTENTS:
        titles.append(deck.locator("h3").inner_text().split(" (")[0])
        deck.press("ArrowRight")
    assert sorted(titles) == sorted(CONTENTS) and deck.locator("h3").inner_text().startswith(titles[0])
    page.locator("h1").click()
    page.keyboard.press("ArrowRight")
    assert deck.locator("h3").inner_text().startswith(titles[0])
    deck.locator("select").select_option("id")
    assert deck.locator("h3").inner_text().startswith("u1 ")
    deck.get_by_role("button", name="Next").click()
    assert deck.locator("h3").inner_text().startswith("u2 ")  # u10 comes after u2
    deck.locator("select").select_option("disagreement")
    assert deck.locator("h3").inner_text().startswith("u10 ")


def test_space_plays_and_pauses_from_the_box(visit):
    page = visit("rank.html")
    page.locator(".deck").focus()
    page.keyboard.press("Space")
    until(page, PLAYS)
    page.keyboard.press("Space")
    until(page, f"!({PLAYS})")


def test_a_click_into_the_timeline_plays_from_there(visit):
    page = visit("score.html")
    time = page.locator(".time")
    time.locator(".chart[data-drawn] svg").nth(1).wait_for()
    assert time.locator(".mark-rect path").count() > 20
    assert (
        time.locator("image")
        .get_attribute("href" if time.locator("image").get_attribute("href") else "xlink:href")
        .startswith("data:image/png")
    )
    lefts = page.evaluate(
        "[...document.querySelectorAll('.time svg')]"
        ".map((s) => s.querySelector('.role-frame > g > path').getBoundingClientRect().left)"
    )
    assert lefts[0] == pytest.approx(lefts[1], abs=1.5)  # the time axes stand below each other
    time.scroll_into_view_if_needed()
    box = page.evaluate(
        "document.querySelectorAll('.time svg')[1].querySelector('.role-frame > g > path').getBoundingClientRect().toJSON()"
    )
    page.mouse.click(box["x"] + 0.6 * box["width"], box["y"] + 60)
    until(page, "window.played.length === 1")
    assert page.evaluate("window.played[0]") == pytest.approx(0.6 * 1.5, abs=0.03)
    time.press("Home")
    until(page, f"{TIME} < 0.7")


def test_a_row_of_the_table_opens_its_clip(visit):
    page = visit("score.html")
    last = page.locator("#clips tbody button").last
    name = last.inner_text()
    last.click()
    assert page.locator("#viewer h3").inner_text() == name


def test_another_metric_brings_its_own_charts(visit):
    page = visit("evaluate.html")
    page.locator("#metric").select_option("1")
    draw_all(page)
    assert page.locator("[data-choice='1'] [data-chart] svg").count() > 0 and not page.locator("[data-choice='0']").is_visible()


CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((x) => x / 255)
    .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4))
    .reduce((sum, x, k) => sum + x * [0.2126, 0.7152, 0.0722][k], 0);
  const paper = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const found = [];
  const texts = "h1, h2, p, td, th, button, a, dt, dd, summary, kbd, .quiet, .tie, .strong, .weak, svg text";
  for (const element of document.querySelectorAll(texts)) {
    if (!element.textContent.trim() || !element.getClientRects().length) continue;
    if (element.disabled || element.matches(".hidden, .skip, .hidden *")) continue;
    const style = getComputedStyle(element);
    const ink = rgb(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(ink), light(paper(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const name = `${element.tagName} ${element.className} ${element.textContent.slice(0, 30)}`;
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${name}`);
  }
  return found;
}"""


@pytest.mark.parametrize("name", ["rank.html", "score.html", "evaluate.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(visit, name, scheme):
    page = visit(name, color_scheme=scheme)
    draw_all(page)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) < 150) == (scheme == "dark")
    assert page.evaluate(CONTRAST) == []


def test_text_stands_out_on_every_colour_of_the_heat_maps(visit):
    for scheme in ("light", "dark"):
        page = visit("rank.html", color_scheme=scheme)
        names = ("ink", "heat-low", "heat-middle", "heat-high")
        ink, *grounds = (
            page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{n}').trim()") for n in names
        )
        for ground in grounds:
            a, b = sorted((luminance(ink), luminance(ground)))
            assert (b + 0.05) / (a + 0.05) >= 4.5, (scheme, ground)


def luminance(colour: str) -> float:
    x = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return float(np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def test_charts_are_drawn_anew_when_the_system_turns_dark(visit):
    page = visit("rank.html", color_scheme="light")
    draw_all(page)
    colour = "getComputedStyle(document.querySelector('[data-chart=forest] svg .role-axis-label text')).fill"
    before = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    until(page, f"document.querySelector('[data-chart=forest] svg .role-axis-label text') && {colour} !== '{before}'")


def test_everything_is_named_for_a_screen_reader(visit):
    for name in ("rank.html", "score.html", "evaluate.html"):
        page = visit(name)
        nameless = page.evaluate(
            "[...document.querySelectorAll('button, select, input, [role=img], [role=region], [role=slider]')]"
            ".filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length))"
            ".map((e) => e.outerHTML)"
        )
        assert nameless == []
        ids = page.evaluate(
            "[...document.querySelectorAll('nav a')].map((a) => a.hash.slice(1)).filter((id) => !document.getElementById(id))"
        )
        assert ids == []
