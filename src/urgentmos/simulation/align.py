"""How late a processed signal is, and taking that out.

Codecs look ahead and buffer; a label that compares with the clean speech must not hear that. A coder that keeps the
waveform is measured by cross-correlation. One that only keeps the spectrum (Codec2, vocoders) has a waveform of its own,
so its spectrogram is compared instead.
"""

from itertools import pairwise
from typing import Literal

import numpy as np

from urgentmos.simulation.base import RATE, Signal, fit

By = Literal["wave", "envelope", "both"]

WINDOW, HOP, FFT = 320, 16, 512  # samples: 20 ms, every ms
BLOCK = 4096  # frames at a time, so that long recordings fit into memory
LOWEST, HIGHEST = 150.0, 3400.0  # Hz; what every speech codec keeps
BANDS = 12
NEAR = 40  # samples: 2.5 ms, the shortest pitch period
FLOOR_DB = 45.0  # below the loudest band; quieter parts are the coder's own noise


def delay(reference: np.ndarray, processed: np.ndarray, max_seconds: float = 0.25, *, by: By = "wave") -> int:
    """Samples by which `processed` (T',) lags behind `reference` (T,), both at RATE; negative: it comes too early.

    by "wave": the highest cross-correlation. by "envelope": the best match of logarithmic band energies, to about 1 ms.
    by "both": the best match of the waves within NEAR of the envelope's, so that a pitch period cannot mislead. Looks no
    further than `max_seconds` either way; 0 where either signal is silent.
    """
    reach = round(max_seconds * RATE)
    if not np.any(reference) or not np.any(processed):
        return 0
    if by == "wave":
        return _wave_delay(reference, processed, reach)
    frames = -(-reach // HOP)
    match = _correlation(_envelopes(reference), _envelopes(processed), frames)
    rough = round(HOP * (_summit(match) - frames))
    return rough if by == "envelope" else rough + _wave_delay(reference, moved(processed, -rough), NEAR)


def aligned(reference: np.ndarray, processed: np.ndarray, max_seconds: float = 0.25, *, by: By = "wave") -> Signal:
    """`processed` (T',) moved in time to match `reference` (T,) -> (T,) float32; zeros where it has nothing to say."""
    return fit(moved(processed, -delay(reference, processed, max_seconds, by=by)), reference.shape[0])


def moved(signal: np.ndarray, by: int) -> np.ndarray:
    """(T,) -> (max(0, T + by),): `by` zeros in front, or, if negative, as many samples cut from the front."""
    return np.concatenate([np.zeros(by, dtype=signal.dtype), signal]) if by > 0 else signal[-by:]


def _wave_delay(reference: np.ndarray, processed: np.ndarray, reach: int) -> int:
    match = _correlation(reference[None].astype(np.float64), processed[None].astype(np.float64), reach)
    return int(np.argmax(match)) - reach


def _correlation(one: np.ndarray, other: np.ndarray, reach: int) -> np.ndarray:
    """(D, T) and (D, T') -> (2 * reach + 1,): their correlation, summed over D, `other` late by -reach..reach."""
    size = 1 << (max(one.shape[1], other.shape[1]) + reach).bit_length()
    spectrum = np.conj(np.fft.rfft(one, size)) * np.fft.rfft(other, size)
    return np.roll(np.fft.irfft(spectrum.sum(axis=0), size), reach)[: 2 * reach + 1]


def _envelopes(signal: np.ndarray) -> np.ndarray:
    """(T,) -> (BANDS, F): band energies in dB above the floor, without their means."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(signal, WINDOW // 2), WINDOW)[::HOP]
    blocks = [_bands(frames[start : start + BLOCK]) for start in range(0, len(frames), BLOCK)]
    decibels = 10 * np.log10(np.concatenate(blocks).T + 1e-20)
    above = np.maximum(decibels - (decibels.max() - FLOOR_DB), 0)
    return np.asarray(above - above.mean(axis=1, keepdims=True))


def _bands(frames: np.ndarray) -> np.ndarray:
    """(F, WINDOW) -> (F, BANDS): energies."""
    energy = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), FFT)) ** 2
    edges = np.round(np.geomspace(LOWEST, HIGHEST, BANDS + 1) * FFT / RATE).astype(int)
    return np.stack([energy[:, low : max(high, low + 1)].mean(axis=1) for low, high in pairwise(edges)], axis=1)


def _summit(values: np.ndarray) -> float:
    """The position of the maximum of a parabola through the highest of `values` and its neighbours."""
    at = int(np.argmax(values))
    if at in (0, len(values) - 1):
        return float(at)
    left, middle, right = values[at - 1 : at + 2]
    bend = left - 2 * middle + right
    return at + (0.5 * float((left - right) / bend) if bend else 0.0)
