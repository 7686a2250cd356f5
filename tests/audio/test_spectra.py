"""Framing, STFT and mel filters: what librosa computes, without librosa."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.audio.spectra import centred_stft, frames, hz_to_mel, mel_filters, mel_to_hz, projection_gain


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 40))
def test_frames_are_all_the_whole_ones(n: int, size: int, hop: int) -> None:
    wave = np.arange(n)
    if n < size:
        with pytest.raises(ValueError):
            frames(wave, size, hop)
        return
    cut = frames(wave, size, hop)
    assert cut.shape == (1 + (n - size) // hop, size)
    np.testing.assert_array_equal(cut, [wave[i : i + size] for i in range(0, n - size + 1, hop)])


@pytest.mark.parametrize(
    "n_fft, hop, win", [(512, 256, None), (705, 352, None), (321, 160, None), (4096, 160, 320), (1536, 768, None)]
)
@pytest.mark.parametrize("n", [5000, 640, 100])
def test_stft_equals_librosas(n_fft: int, hop: int, win: int | None, n: int) -> None:
    librosa = pytest.importorskip("librosa")
    wave = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    # librosa warns about n_fft above the length; the values are the same
    with pytest.warns() if n < n_fft else _no_warning():
        expected = librosa.stft(wave, n_fft=n_fft, hop_length=hop, win_length=win).T
    ours = centred_stft(wave, n_fft, hop, win)
    assert ours.shape == expected.shape and ours.dtype == np.complex64
    np.testing.assert_allclose(ours, expected, atol=2e-5 * np.abs(expected).max())


def _no_warning():
    from contextlib import nullcontext

    return nullcontext()


@pytest.mark.parametrize(
    "rate, n_fft, n_mels, fmax",
    [
        (16_000, 321, 120, None),
        (16_000, 512, 40, 8000.0),
        (48_000, 4096, 48, 20_000.0),
        (22_050, 1024, 80, None),
        (8_000, 256, 20, 3800.0),
    ],
)
def test_mel_filters_equal_librosas(rate: int, n_fft: int, n_mels: int, fmax: float | None) -> None:
    librosa = pytest.importorskip("librosa")
    expected = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=0, fmax=fmax, dtype=np.float64)
    ours = mel_filters(rate, n_fft, n_mels, fmax)
    assert ours.shape == expected.shape and ours.dtype == np.float64
    np.testing.assert_allclose(ours, expected, atol=1e-12)


@given(st.floats(0, 48_000))
def test_the_mel_scale_has_an_inverse(hz: float) -> None:
    assert mel_to_hz(hz_to_mel(np.array(hz))) == pytest.approx(hz, rel=1e-9, abs=1e-9)


@given(st.integers(0, 99), st.floats(0.01, 100), st.sampled_from([-1, 1]))
def test_the_gain_undoes_level_and_polarity(seed: int, gain: float, sign: int) -> None:
    reference = np.random.default_rng(seed).standard_normal(400)
    assert projection_gain(reference, sign * gain * reference) == pytest.approx(sign / gain, rel=1e-6)


def test_the_gain_leaves_the_smallest_residual() -> None:
    rng = np.random.default_rng(0)
    reference, wave = rng.standard_normal((2, 300))
    best = projection_gain(reference, wave)
    residuals = [np.sum((reference - g * wave) ** 2) for g in (best - 0.01, best, best + 0.01)]
    assert min(residuals) == residuals[1]
    assert projection_gain(reference, np.zeros(300)) == 0
