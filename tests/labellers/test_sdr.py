"""SDR of BSSEval v3: a 512-tap filter is forgiven, +-50 dB are the ends."""

import numpy as np
import pytest
from scipy.signal import lfilter

pytest.importorskip("fast_bss_eval")

from urgentmos.errors import MeasureError
from urgentmos.labellers import Settings, Signals, sdr


@pytest.fixture(scope="module")
def measure():
    function = sdr.load(Settings())
    return lambda wave, reference, rate=16_000: function(Signals(wave, rate, reference))["sdr"]


def test_a_clip_against_itself_is_at_the_upper_end(measure, make_voice) -> None:
    wave = make_voice(0, 1.0)
    assert measure(wave, wave) == pytest.approx(50, abs=0.01)


def test_a_silent_clip_is_at_the_lower_end(measure, make_voice) -> None:
    wave = make_voice(0, 1.0)
    assert measure(0 * wave, wave) == pytest.approx(-50, abs=0.01)


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
@pytest.mark.parametrize("snr", [-5, 10, 30])
def test_it_is_the_packages_own_value(measure, make_voice, add_noise, rate: int, snr: float) -> None:
    """Of its torch path, which the URGENT scripts run in float32 and which numpy 2 has not broken."""
    torch = pytest.importorskip("torch")
    import fast_bss_eval

    clean = make_voice(0, 1.0, rate)
    other = add_noise(clean, snr)
    ours = measure(other, clean, rate)
    for kind, tolerance in ((torch.float64, 1e-6), (torch.float32, 0.1)):
        both = (torch.from_numpy(x)[None].to(kind) for x in (clean, other))
        value = fast_bss_eval.bss_eval_sources(*both, compute_permutation=False, load_diag=None)[0]
        assert ours == pytest.approx(float(value.mean()), abs=tolerance)


def test_more_noise_is_worse_by_as_many_decibels(measure, make_voice, add_noise) -> None:
    clean = make_voice(0, 2.0)
    ten, twenty = (measure(add_noise(clean, snr), clean) for snr in (10, 20))
    assert twenty - ten == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize("gain", [0.01, 3.0, -1.0])
def test_the_level_of_either_signal_does_not_matter(measure, make_voice, add_noise, gain: float) -> None:
    clean = make_voice(0, 1.0)
    other = add_noise(clean, 10)
    value = measure(other, clean)
    assert measure(np.float32(gain) * other, clean) == pytest.approx(value, abs=1e-4)
    assert measure(other, np.float32(gain) * clean) == pytest.approx(value, abs=1e-4)


def test_a_short_filter_is_forgiven_and_a_long_delay_is_not(measure, make_voice) -> None:
    wave = make_voice(0, 1.0)
    assert measure(lfilter([0, 0.3, 1, -0.4, 0.2], 1, wave).astype(np.float32), wave) > 40
    assert measure(np.roll(wave, 300), wave) > 25
    assert measure(np.roll(wave, 2000), wave) < 10


def test_a_silent_reference_signal_has_a_reason(measure, make_voice) -> None:
    wave = make_voice(0, 1.0)
    with pytest.raises(MeasureError, match="reference signal is silent"):
        measure(wave, 0 * wave)


def test_fewer_samples_than_taps_have_a_reason(measure, make_voice) -> None:
    wave = make_voice(0, 1.0)[:511]
    with pytest.raises(MeasureError, match="511 samples are fewer than the 512 taps"):
        measure(wave, wave)


@pytest.mark.parametrize("simple", ["constant", "sine", "one sample"])
def test_a_simple_reference_signal_gives_a_number_or_a_reason(measure, make_voice, simple: str) -> None:
    wave, t = make_voice(0, 1.0), np.arange(16_000)
    reference = {"constant": np.ones(16_000), "sine": np.sin(0.1 * t), "one sample": (t == 99) * 0.5}[simple].astype(np.float32)
    try:
        value = measure(wave, reference)
    except MeasureError as e:
        assert "too simple" in str(e)
    else:
        assert -50 <= value <= 50
