"""The timeline of a recording: contributions that add up, at times that cover the clip."""

import numpy as np
import pytest

from urgentmos.api import load
from urgentmos.audio.windows import AudioReader
from urgentmos.errors import AudioError
from urgentmos.judges.timeline import Timeline, trace_timeline


class Loudness:
    """A judge whose frame of 100 samples has the logit of its mean."""

    ranges = {"mos_overall": (1.0, 5.0)}  # noqa: RUF012 - as the protocol has it

    def frame_logits(self, wave):
        return {"mos_overall": wave[: len(wave) // 100 * 100].reshape(-1, 100).mean(axis=1)}


@pytest.fixture(scope="module")
def model(tiny_model):
    return load(tiny_model)


def test_the_mean_of_the_contributions_is_the_logit_behind_the_score(model, make_voice):
    torch = pytest.importorskip("torch")
    wave = make_voice(3, 1.7)
    found = model.timeline(wave, sample_rate=16_000)
    scores = model.score(wave, sample_rate=16_000).metrics
    from urgentmos.nets.layers import bounded

    assert found is not None and set(found.contributions) == set(scores)
    for name, logit in found.logits().items():
        assert float(bounded(*found.ranges[name])(torch.tensor(logit))) == pytest.approx(scores[name], abs=1e-5)
        assert np.ptp(found.contributions[name]) > 0


def test_frames_are_spread_over_the_clip(model, make_voice):
    found = model.timeline(make_voice(1, 1.3), sample_rate=16_000)
    assert found.seconds == pytest.approx(1.3, abs=1e-6)
    assert (np.diff(found.times) > 0).all() and found.times[0] > 0 and found.times[-1] < found.seconds
    assert all(row.shape == found.times.shape for row in found.contributions.values())


def test_a_loud_part_is_found_where_it_is():
    wave = np.zeros(3000, np.float32)
    wave[1000:2000] = 0.5 + 0.1 * (-1) ** np.arange(1000)  # a constant level alone is no speech
    found = trace_timeline(Loudness(), AudioReader("loudness", 1000, 30.0, 1), wave, ["mos_overall"], 1000)
    loud = found.times[found.contributions["mos_overall"] > 0.4]
    assert loud.min() > 1.0 and loud.max() < 2.0 and len(loud) == 10


def test_a_long_recording_goes_on_in_the_next_window():
    wave = np.linspace(0, 1, 5000, dtype=np.float32)
    found = trace_timeline(Loudness(), AudioReader("loudness", 1000, 2.0, 1), wave, ["mos_overall"], 1000)
    assert found.n_windows == 3 and found.seconds == pytest.approx(5.0)
    assert (np.diff(found.times) > 0).all()
    np.testing.assert_allclose(found.contributions["mos_overall"], found.times / 5, atol=0.02)


def test_a_judge_without_frames_has_no_timeline(make_voice):
    assert load("mos_overall").timeline(make_voice(0, 1.0), sample_rate=16_000) is None


def test_a_pooler_other_than_the_mean_has_no_timeline():
    class Attentive(Loudness):
        def frame_logits(self, wave):
            return None

    assert trace_timeline(Attentive(), AudioReader("x", 1000, 30.0, 1), np.ones(500, np.float32), ["mos_overall"], 1000) is None


def test_what_cannot_be_heard_is_an_error(model, tmp_path):
    with pytest.raises(AudioError, match="does not exist"):
        model.timeline(tmp_path / "none.wav")
    with pytest.raises(AudioError, match="shorter"):
        trace_timeline(Loudness(), AudioReader("loudness", 1000, 30.0, 900), np.ones(500, np.float32), ["mos_overall"], 1000)


def test_the_logits_are_means():
    assert Timeline(1.0, np.array([0.25, 0.75]), {"a": np.array([1.0, 2.0])}, {"a": (0.0, 5.0)}).logits() == {"a": 1.5}
