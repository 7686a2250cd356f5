"""lps_pocketsphinx: Levenshtein similarity of recognised phones."""

import numpy as np
import pytest

sphinx = pytest.importorskip("pocketsphinx")
pytest.importorskip("rapidfuzz")

from urgentmos.errors import MeasureError  # noqa: E402
from urgentmos.labellers import Settings, Signals, pocketsphinx  # noqa: E402


@pytest.fixture(scope="module")
def measure():
    return _measurer()


def _measurer():
    function = pocketsphinx.load(Settings())
    return lambda wave, reference, rate=16_000: function(Signals(wave, rate, reference))["lps_pocketsphinx"]


def _speech(make_voice, seed: int, seconds: float = 1.5) -> np.ndarray:
    """(T,) with formants that wander, so that some phones are recognised."""
    wave = make_voice(seed, seconds)
    rng = np.random.default_rng(seed)
    out = np.zeros_like(wave)
    for start in range(0, len(wave) - 3200, 2400):
        part = wave[start : start + 3200] * np.hanning(3200)
        spectrum, bins = np.fft.rfft(part), np.fft.rfftfreq(3200, 1 / 16_000)
        shape = sum(np.exp(-(((bins - f) / 150) ** 2)) for f in (rng.uniform(300, 800), rng.uniform(900, 2400), 2800))
        out[start : start + 3200] += np.fft.irfft(spectrum * (shape + 0.02)).astype(np.float32)
    return out


def test_a_clip_against_itself_is_1(measure, make_voice) -> None:
    wave = _speech(make_voice, 0)
    assert measure(wave, wave) == 1


def test_noise_costs_phones(measure, make_voice, add_noise) -> None:
    clean = _speech(make_voice, 0)
    assert measure(add_noise(clean, -5), clean) < 1


def test_what_was_measured_before_does_not_matter(make_voice, add_noise) -> None:
    """A decoder adapts to what it hears; here each clip gets its own."""
    clean, loud = _speech(make_voice, 0), _speech(make_voice, 3)
    other = add_noise(clean, 10)
    fresh, used = _measurer(), _measurer()
    for _ in range(2):
        used(add_noise(loud * 5, 0), loud)
    assert fresh(other, clean) == used(other, clean) == used(other, clean)


def test_a_silent_reference_signal_has_a_reason(measure, make_voice) -> None:
    wave = make_voice(0, 1.0)
    with pytest.raises(MeasureError, match="reference signal is silent"):
        measure(wave, 0 * wave)


def test_a_reference_signal_without_phones_has_a_reason(measure, make_voice) -> None:
    hum = (1e-4 * np.sin(np.arange(16_000) * 0.01)).astype(np.float32)
    with pytest.raises(MeasureError, match="hears no phone in the reference"):
        measure(make_voice(0, 1.0), hum)


def test_a_silent_clip_says_nothing_of_what_was_said(measure, make_voice) -> None:
    wave = _speech(make_voice, 0)
    assert measure(0 * wave, wave) == 0


def test_other_rates_go_in_at_16_khz(measure, make_voice) -> None:
    signals = Signals(make_voice(0, 1.0, 48_000), 48_000, make_voice(1, 1.0, 48_000))
    low = signals.at(16_000)
    assert measure(signals.wave, signals.reference, 48_000) == measure(*low)


def test_levels_beyond_1_are_clipped_not_wrapped(measure, make_voice) -> None:
    wave = _speech(make_voice, 0)
    loud = wave * (1.5 / np.abs(wave).max())
    assert measure(loud, np.clip(loud, -1, 32767 / 32768)) == 1
