"""Spectra in numpy, as the measured metrics define them: framing, STFT, mel filters."""

from functools import cache

import numpy as np
from scipy import fft
from scipy.signal import get_window


def frames(wave: np.ndarray, size: int, hop: int) -> np.ndarray:
    """(T,) -> (F, size) view of all whole frames; F = 1 + (T - size) // hop."""
    return np.lib.stride_tricks.sliding_window_view(wave, size)[::hop]


def centred_stft(wave: np.ndarray, n_fft: int, hop: int, win_length: int | None = None) -> np.ndarray:
    """(T,) float32 -> (F, 1 + n_fft // 2) complex64, periodic Hann, frames centred with zeros beyond the ends.

    The values of `librosa.stft` (0.10 and later), transposed.
    """
    win_length = win_length or n_fft
    window = np.zeros(n_fft, dtype=np.float32)
    start = (n_fft - win_length) // 2
    window[start : start + win_length] = get_window("hann", win_length, fftbins=True)
    padded = np.pad(wave, n_fft // 2)
    return np.asarray(fft.rfft(frames(padded, n_fft, hop) * window, axis=1))


def hz_to_mel(hz: np.ndarray) -> np.ndarray:
    """Slaney's mel scale: linear below 1 kHz, logarithmic above."""
    hz = np.asarray(hz, dtype=float)
    return np.where(hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1e-10) / 1000) * 27 / np.log(6.4))


def mel_to_hz(mel: np.ndarray) -> np.ndarray:
    """Inverse of `hz_to_mel`."""
    mel = np.asarray(mel, dtype=float)
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


@cache
def mel_filters(rate: int, n_fft: int, n_mels: int, fmax: float | None = None) -> np.ndarray:
    """(n_mels, 1 + n_fft // 2) float64: triangles of unit area on Slaney's scale from 0 Hz to `fmax`, as `librosa.filters.mel`.

    Bands beyond half the rate come out empty.
    """
    edges = mel_to_hz(np.linspace(0, hz_to_mel(np.array(fmax or rate / 2)), n_mels + 2))
    bins = np.arange(1 + n_fft // 2) * rate / n_fft
    rising = (bins[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins[None]) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(triangles * (2 / (edges[2:] - edges[:-2]))[:, None])


def projection_gain(reference: np.ndarray, wave: np.ndarray) -> float:
    """The gain alpha that brings `wave` closest to `reference`; makes LSD and MCD blind to level and polarity."""
    return float(np.dot(reference, wave) / (np.dot(wave, wave) + 1e-8))
