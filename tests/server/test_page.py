"""The page in a browser: upload, record, compare, rank, download. Skipped without playwright or a Chromium."""

import csv
import os
import shutil
import time
from pathlib import Path

import pytest

sync = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SLOW = 90_000  # ms; a machine may be busy
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
DESKTOP = {"viewport": {"width": 1280, "height": 860}}
ARGS = [
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]
SHOTS = os.environ.get("URGENTMOS_SHOTS")  # a folder: pictures of what the tests saw


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with sync.sync_playwright() as player:
        started = player.chromium.launch(executable_path=CHROMIUM, args=ARGS, timeout=SLOW)
        yield started
        started.close()


@pytest.fixture
def service(judge, serving):
    with serving.running(judge) as running:
        yield running


@pytest.fixture
def open_page(browser, service):
    """(what kind of device) -> the page; at the end: nothing was asked of anyone else, and no script failed."""
    contexts, wrong = [], []

    def opened(device=DESKTOP, **more):
        context = browser.new_context(**device, **more, permissions=["microphone"])
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SLOW)
        page.on("request", lambda r: r.url.startswith((service.url, "blob:", "data:")) or wrong.append(r.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: "Content Security Policy" in said.text and wrong.append(said.text))
        page.goto(service.url)
        wait(page, "document.querySelector('#model').textContent.includes('loudness')")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def folders(tmp_path, serving) -> Path:
    """Systems with four clips each."""
    for name, level in (("quiet", 0.02), ("loud", 0.2), ("mid", 0.08)):
        (tmp_path / "systems" / name).mkdir(parents=True)
        for u in range(4):
            (tmp_path / "systems" / name / f"c{u}.wav").write_bytes(serving.sound(u, 1.5, level))
    return tmp_path / "systems"


def shoot(page, name):
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def wait(page, true: str) -> None:
    """Playwright's own wait_for_function evaluates text inside the page, which the page's policy rightly forbids."""
    end = time.monotonic() + SLOW / 1000
    while not page.evaluate(true):
        assert time.monotonic() < end, f"it did not become true: {true}"
        page.wait_for_timeout(50)


def no_wider_than_the_screen(page):
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def saved(page, button, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.click(button)
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_files_become_scores_with_intervals_and_a_timeline(open_page, folders, tmp_path, device):
    page = open_page(PHONE if device == "phone" else DESKTOP, color_scheme="dark" if device == "phone" else "light")
    shoot(page, f"empty_{device}")
    bad = tmp_path / "broken.wav"
    bad.write_bytes(b"RIFF")
    page.set_input_files("#score-files", [folders / "loud/c0.wav", folders / "quiet/c1.wav", bad])
    page.wait_for_selector("#score-table tbody tr:nth-of-type(4)")
    rows = page.locator("#score-table tbody tr:not(.detail)")
    assert rows.count() == 3 and "1 of 3 could not be scored" in page.inner_text("#score-message")
    texts = {row.locator(".clip button").inner_text(): row for row in rows.all()}
    assert float(texts["c0.wav"].locator(".score").inner_text()) > float(texts["c1.wav"].locator(".score").inner_text()) >= 1
    assert "cannot be decoded" in texts["broken.wav"].inner_text()
    assert "between" in texts["c0.wav"].locator("svg").get_attribute("aria-label")
    page.wait_for_selector(".timeline")
    label = page.locator(".timeline").first.get_attribute("aria-label")
    assert label.startswith("Timeline of") and label.endswith("over 1.5 seconds")
    shoot(page, f"score_{device}")
    assert no_wider_than_the_screen(page)
    table = list(csv.DictReader(saved(page, "#score-csv", tmp_path).open(newline="")))
    assert len(table) == 3 and sum(float(row["metrics.mos_overall"] or 0) > 1 for row in table) == 2
    page.click("#score-clear")
    assert page.locator("#score-results").is_hidden()


def test_folders_are_walked(open_page, folders):
    page = open_page()
    page.set_input_files("#score-folder", folders)
    wait(page, "document.querySelectorAll('#score-table tbody tr:not(.detail)').length === 12")
    assert "systems/loud/c0.wav" in page.inner_text("#score-table")


def test_the_microphone_becomes_a_score(open_page):
    page = open_page()
    page.click("#record")
    wait(page, "document.querySelector('#record-state').textContent.match(/recording, [1-9]/)")
    assert page.get_attribute("#record", "aria-pressed") == "true"
    page.click("#record")
    page.wait_for_selector("#score-table tbody tr")
    row = page.inner_text("#score-table tbody tr:first-of-type")
    assert "recording 1.wav" in row and float(page.inner_text("#score-table .score")) > 1.0  # the fake device beeps


@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_two_clips_are_compared_and_heard_together(open_page, folders, device):
    page = open_page(PHONE if device == "phone" else DESKTOP)
    page.click("#tab-compare")
    assert page.is_disabled("#compare-go")
    page.set_input_files("#file-a", folders / "quiet/c0.wav")
    page.set_input_files("#file-b", folders / "loud/c0.wav")
    page.click("#compare-go")
    page.wait_for_selector("#verdict:not([hidden])")
    assert page.inner_text("#verdict-text") == "B sounds better" and "in favour of B" in page.inner_text("#verdict-more")
    assert page.get_attribute("#chances", "aria-label") == "A 0 %, tie 0 %, B 100 %"
    page.wait_for_selector("#player:not([hidden])")
    shoot(page, f"compare_{device}")
    assert no_wider_than_the_screen(page)
    page.locator("#verdict-text").click()
    page.keyboard.press("b")
    assert page.get_attribute("#hear-b", "aria-pressed") == "true" and page.get_attribute("#hear-a", "aria-pressed") == "false"
    page.keyboard.press(" ")
    wait(page, "Number(document.querySelector('#seek').value) > 0.1")
    assert page.inner_text("#play") == "Pause"
    before = float(page.input_value("#seek"))
    page.keyboard.press("a")
    assert float(page.input_value("#seek")) >= before and page.inner_text("#play") == "Pause"  # switching interrupts nothing
    wait(page, "document.querySelector('#play').textContent === 'Play'")  # to the end
    page.set_input_files("#file-b", folders / "quiet/c0.wav")
    assert page.locator("#verdict").is_hidden()


def test_systems_are_ranked_and_kept(open_page, folders, tmp_path):
    page = open_page()
    page.click("#tab-rank")
    page.set_input_files("#rank-folder", folders)
    assert page.locator("#systems li").count() == 3
    page.select_option("#scoring", "mos")
    page.click("#rank-go")
    page.wait_for_selector("#rank-results:not([hidden])")
    names = page.locator("#rank-table tbody strong").all_inner_texts()
    assert names == ["loud", "mid", "quiet"] and "4 contents" in page.inner_text("#rank-about")
    shoot(page, "rank_desktop")
    rows = list(csv.DictReader(saved(page, "#rank-csv", tmp_path).open(newline="")))
    assert [row["system_id"] for row in rows] == names
    page.click("#systems li button >> nth=0")
    assert page.locator("#systems li").count() == 2 and page.locator("#rank-results").is_hidden()


def test_folders_can_be_added_one_by_one_and_the_report_is_saved(open_page, folders, tmp_path):
    pytest.importorskip("jinja2")
    pytest.importorskip("vl_convert")
    page = open_page(PHONE)
    page.click("#tab-rank")
    page.set_input_files("#rank-folder", folders / "quiet")
    assert "another system" in page.inner_text("#rank-message") and page.is_disabled("#rank-go")
    page.set_input_files("#rank-folder", folders / "loud")
    page.click("#rank-go")
    page.wait_for_selector("#rank-results:not([hidden])")
    shoot(page, "rank_phone")
    assert no_wider_than_the_screen(page)
    text = saved(page, "#rank-report", tmp_path).read_text()
    assert "<html" in text and "quiet" in text


def test_the_tabs_by_keyboard(open_page):
    page = open_page()
    page.focus("#tab-score")
    page.keyboard.press("ArrowRight")
    assert (
        page.evaluate("document.activeElement.id") == "tab-compare"
        and page.is_visible("#compare")
        and not page.is_visible("#score")
    )
    page.keyboard.press("End")
    assert page.is_visible("#rank") and page.get_attribute("#tab-rank", "aria-selected") == "true"
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#score")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "score-files"
    unnamed = page.evaluate(
        """[...document.querySelectorAll('button, input, select, canvas, svg')]
        .filter((x) => !x.labels?.length && !x.textContent.trim() && !x.ariaLabel && x.ariaHidden !== 'true')
        .map((x) => x.outerHTML)"""
    )
    assert unnamed == []


def test_a_page_that_has_no_token_asks_for_it(browser, judge, serving, folders):
    with serving.running(judge, token="open sesame") as service:
        context = browser.new_context(**DESKTOP)
        page = context.new_page()
        page.set_default_timeout(SLOW)
        page.goto(service.url)
        page.wait_for_selector("#token-dialog[open]")
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#token-dialog[open]")
        wait(page, "document.querySelector('#token').value === ''")
        page.fill("#token", "open sesame")
        page.keyboard.press("Enter")
        wait(page, "document.querySelector('#model').textContent.includes('loudness')")
        page.set_input_files("#score-files", folders / "loud/c0.wav")
        page.wait_for_selector("#score-table tbody tr")
        context.close()


def test_when_the_service_is_gone_the_page_says_so(open_page, service, folders):
    page = open_page()
    service.server.should_exit = True
    service.thread.join(60)
    page.set_input_files("#score-files", folders / "loud/c0.wav")
    wait(page, "document.querySelector('#score-table')?.textContent.includes('does not answer')")
