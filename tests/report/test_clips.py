"""The page of scored clips: metrics, ranges and intervals, and timelines that add up."""

import json
import re

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.api import load
from urgentmos.clips.clip import Clip
from urgentmos.judges.base import Score
from urgentmos.judges.timeline import Timeline
from urgentmos.report import Options, clips_page
from urgentmos.report import page as pages
from urgentmos.report.clips import BARS, timeline_data, worst_first


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the chart library, which takes seconds to bundle and is tested on its own."""
    pytest.importorskip("jinja2")
    monkeypatch.setattr(pages, "chart_library", lambda: "")


def data_of(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL).group(1))


def scored(values, **more):
    return [Score(Clip(f"u{k}", f"u{k}.wav", metrics={"mos_overall": v}), "m", **more) for k, v in enumerate(values)]


@given(st.integers(1, 5000), st.integers(0, 2**32 - 1))
def test_the_bars_of_a_timeline_add_up_to_the_clips_logit(n, seed):
    logits = np.random.default_rng(seed).normal(0, 2, n)
    found = Timeline(n / 50, (np.arange(n) + 0.5) / 50, {"mos_overall": logits}, {"mos_overall": (1.0, 5.0)})
    told = timeline_data(found, ["mos_overall"])
    assert len(told["bars"]["mos_overall"]) == len(told["frames"]) == len(told["edges"]) - 1 <= BARS
    total = float((told["bars"]["mos_overall"] * told["frames"]).sum())
    assert total / told["n_frames"] == pytest.approx(told["logits"]["mos_overall"], abs=1e-6)
    assert told["logits"]["mos_overall"] == pytest.approx(logits.mean(), abs=1e-12)
    assert (np.diff(told["edges"]) > 0).all() and told["edges"][0] == 0 and told["edges"][-1] == pytest.approx(n / 50, abs=1e-4)


def test_a_page_of_a_network_has_timelines_and_pictures(tmp_path, tiny_model, make_voice):
    for k in range(2):
        soundfile.write(tmp_path / f"{k}.wav", make_voice(k, 0.8), 16_000)
    judge = load(tiny_model)
    scores = judge.score_all(tmp_path)
    data = data_of(clips_page(scores, judge, list(judge.metrics), Options(tmp_path / "p.html", listen=1)))
    (clip,) = data["clips"]
    worst = min(scores, key=lambda s: s.metrics["mos_overall"])
    assert clip["uid"] == worst.uid and clip["sound"].startswith("data:audio/ogg")
    assert clip["picture"].startswith("data:image/png") and clip["top"] == 8 and clip["seconds"] == pytest.approx(0.8)
    logit = clip["timeline"]["logits"]["mos_overall"]
    low, high = clip["timeline"]["ranges"]["mos_overall"]
    assert low + (high - low) / (1 + np.exp(-logit)) == pytest.approx(worst.metrics["mos_overall"], abs=1e-4)


def test_worst_is_worst_whatever_the_direction():
    scores = scored([3.0, None, 1.0, 2.0])
    assert worst_first(scores, "mos_overall") == [2, 3, 0, 1]
    lsd = [Score(Clip(s.uid, "", metrics={"lsd": s.metrics["mos_overall"]}), "m") for s in scores]
    assert worst_first(lsd, "lsd") == [0, 3, 2, 1]


def test_a_clip_that_failed_keeps_its_row_and_reason(tmp_path):
    scores = [*scored([2.0]), Score(Clip("bad<b>", "none.wav", metrics={"mos_overall": None}), "m", "it is silent & short")]
    text = clips_page(scores, load("mos_overall"), ["mos_overall"], Options(tmp_path / "p.html"))
    assert "1 of 2 clips have no score" in text and "it is silent &amp; short" in text
    assert "bad<b>" not in text and "bad&lt;b&gt;" in text
    bad = data_of(text)["clips"][1]
    assert bad["uid"] == "bad<b>" and bad["picture"] is None and "does not exist" in bad["drawn"]


def test_intervals_and_ranges_are_shown(tmp_path):
    scores = scored([2.0], intervals={"mos_overall": [1.5, 2.75]})
    text = clips_page(scores, load("mos_overall"), ["mos_overall"], Options(tmp_path / "p.html"))
    (metric,) = data_of(text)["clips"][0]["metrics"]
    assert metric["interval"] == [1.5, 2.75] and metric["range"] == [1, 5] and metric["better"] == "higher"
    assert "1.50 .. 2.75" in text


def test_a_histogram_says_its_n(tmp_path):
    text = clips_page(
        scored(np.linspace(1, 5, 12)), load("mos_overall"), ["mos_overall"], Options(tmp_path / "p.html", listen=1)
    )
    assert data_of(text)["charts"]["histogram:mos_overall"]["encoding"]["x"]["title"].endswith("n = 12 clips")
