"""The front end of the small encoder in numpy, for where there is no torch: the log-mel frames of `nets.conv.ConvMel`.

In numpy because it is the faster half of the work to take out of an ONNX graph: a Fourier transform by rfft costs a third of
one by convolution with sines and cosines, and mirroring and masking samples costs nothing for a clip alone.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import fft

FLOOR = SILENCE = 1e-8  # those of nets.conv, where they are explained
# Frames multiplied at once: so few that a BLAS does not divide them among threads, whose number would change the last digit.
ROWS = 12
BLOCK = 8 * ROWS  # frames at a time: their spectra stay in a core's own cache, also where other programs share it


@dataclass(frozen=True)
class LogMel:
    """(T,) float32 at `rate` Hz -> (1 + T // hop, bands) float32, about -2..2; frames centred, mirrored at the ends."""

    n_fft: int
    hop: int
    bands: int
    rate: int
    normalise: bool = False  # zero mean and unit variance of the samples first

    @property
    def min_samples(self) -> int:
        """A frame reaches half of n_fft past the ends, where samples are mirrored."""
        return self.n_fft // 2 + 1

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """T must be at least `min_samples`."""
        if self.normalise:
            centred = wave - wave.mean()
            wave = centred / np.sqrt(np.square(centred).mean() + np.float32(1e-7))
        half = self.n_fft // 2
        padded = np.concatenate([wave[half:0:-1], wave, wave[-2 : -half - 2 : -1]])  # mirrored at both ends
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft)[:: self.hop]
        mel = np.concatenate([self._mel(frames[k : k + BLOCK]) for k in range(0, len(frames), BLOCK)])
        frame = mel.sum(axis=1)
        loudness = np.square(frame).sum() / max(frame.sum(), SILENCE)
        mel /= np.float32(max(loudness, SILENCE))
        np.maximum(mel, np.float32(FLOOR), out=mel)
        np.log(mel, out=mel)
        mel *= np.float32(1 / np.log(10))  # numpy's log10 takes seven times as long
        mel += np.float32(4)
        mel /= np.float32(2)
        return mel

    def _mel(self, frames: np.ndarray) -> np.ndarray:
        """(F, n_fft) -> (F, bands): power in each band."""
        spectrum = fft.rfft(frames * _hann(self.n_fft), axis=1)  # complex64: scipy keeps float32
        power = spectrum.real**2
        power += spectrum.imag**2
        filters = htk_filters(self.n_fft // 2 + 1, self.bands, self.rate)
        return np.concatenate([power[k : k + ROWS] @ filters for k in range(0, len(power), ROWS)])


@cache
def _hann(size: int) -> np.ndarray:
    """(size,) float32, periodic."""
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
    window.setflags(write=False)
    return window


@cache
def htk_filters(bins: int, bands: int, rate: int) -> np.ndarray:
    """(bins, bands) float32: triangles of peak 1, equally wide on the HTK mel scale from 0 to rate / 2.

    The scale is that of the HTK book (Young et al. 2006, eq. 5.13): mel = 2595 log10(1 + f / 700).
    """
    top = 2595.0 * np.log10(1.0 + rate / 2 / 700.0)
    corners = 700.0 * (10.0 ** (np.linspace(0.0, top, bands + 2) / 2595.0) - 1.0)
    centres = np.linspace(0.0, rate / 2, bins)[:, None]
    width = np.diff(corners)
    rising = (centres - corners[:-2]) / width[:-1]
    falling = (corners[2:] - centres) / width[1:]
    filters: np.ndarray = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    filters.setflags(write=False)
    return filters
