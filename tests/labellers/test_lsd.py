"""Log-spectral distance: the formula of the URGENT 2024 script, whatever the rate."""

import numpy as np
import pytest

from urgentmos.errors import MeasureError
from urgentmos.labellers import Settings, Signals, lsd


@pytest.fixture(scope="module")
def measure():
    function = lsd.load(Settings())
    return lambda wave, reference, rate=16_000: function(Signals(wave, rate, reference))["lsd"]


def _formula(reference: np.ndarray, wave: np.ndarray, rate: int) -> float:
    """The definition with librosa, step by step (metrics-and-corpora A.3)."""
    librosa = pytest.importorskip("librosa")
    eps = 1e-8
    wave = wave * (np.dot(reference, wave) / (np.dot(wave, wave) + eps))
    n_fft, hop = int(0.032 * rate), int(0.016 * rate)
    r, x = (np.abs(librosa.stft(s, n_fft=n_fft, hop_length=hop)) for s in (reference, wave))
    return float(np.mean(np.sqrt(np.mean(np.log(r**2 / (x + eps) ** 2 + eps) ** 2, axis=0))))


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 48_000])
@pytest.mark.parametrize("snr", [0, 25])
def test_it_is_the_formula(measure, make_voice, add_noise, rate: int, snr: float) -> None:
    clean = make_voice(0, 1.0, rate)
    other = add_noise(clean, snr)
    assert measure(other, clean, rate) == pytest.approx(_formula(clean, other, rate), abs=1e-5)


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_a_clip_against_itself_is_0(measure, make_voice, rate: int) -> None:
    wave = make_voice(0, 1.0, rate)
    assert measure(wave, wave, rate) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("gain", [0.1, -1.0, 5.0])
def test_level_and_polarity_do_not_matter(measure, make_voice, add_noise, gain: float) -> None:
    clean = make_voice(0, 1.0)
    other = add_noise(clean, 10)
    assert measure(np.float32(gain) * other, clean) == pytest.approx(measure(other, clean), abs=1e-3)


def test_less_noise_is_better(measure, make_voice, add_noise) -> None:
    clean = make_voice(0, 1.0)
    values = [measure(add_noise(clean, snr), clean) for snr in (0, 10, 20, 40)]
    assert values == sorted(values, reverse=True)


def test_nothing_is_aligned(measure, make_voice, add_noise) -> None:
    clean = make_voice(0, 1.0)
    other = add_noise(clean, 30)
    assert measure(np.roll(other, 160), clean) > measure(other, clean)


def test_a_silent_clip_is_as_far_as_eps_allows(measure) -> None:
    loud = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    value = measure(0 * loud, loud)
    power = np.mean(loud**2) * np.sum(np.hanning(512) ** 2)
    assert value == pytest.approx(np.log(power / 1e-16), rel=0.05)  # ln of the power over eps squared
    assert 20 < value < 45


def test_a_silent_reference_signal_has_a_reason(measure, make_voice) -> None:
    wave = make_voice(0, 1.0)
    with pytest.raises(MeasureError, match="reference signal is silent"):
        measure(wave, 0 * wave)
