"""Transforms under the simulated enhancers and vocoders: invertible STFT and MDCT, mel bands, phases, codebooks.

Everything is float32 or complex64; K is the number of bins, n_fft // 2 + 1.
"""

from functools import cache

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter
from scipy.signal import get_window

from urgentmos.audio.spectra import frames, hz_to_mel, mel_to_hz
from urgentmos.simulation.base import RATE, Signal, Sources, fit, power

Spectrum = np.ndarray  # (F, K) complex64
Magnitude = np.ndarray  # (F, K) or (F, M) float32, never negative

SIZE, HOP = 512, 128  # samples: 32 ms windows every 8 ms


@cache
def root_hann(size: int) -> np.ndarray:
    """(size,) float32: its squares add up to size / (2 hop) for every hop that divides half the size."""
    return np.asarray(np.sqrt(get_window("hann", size, fftbins=True)).astype(np.float32))


def stft(signal: np.ndarray, size: int = SIZE, hop: int = HOP) -> Spectrum:
    """(T,) -> (F, K) complex64, K = size // 2 + 1, F = ceil((T + size - hop) / hop); frame 0 begins at hop - size."""
    n_frames = max(1, -(-(len(signal) + size - hop) // hop))
    padded = np.zeros((n_frames - 1) * hop + size, dtype=np.float32)
    padded[size - hop : size - hop + len(signal)] = signal
    return np.asarray(fft.rfft(frames(padded, size, hop) * root_hann(size), axis=1))


def istft(spectrum: Spectrum, n_samples: int, size: int = SIZE, hop: int = HOP) -> Signal:
    """(F, K) -> (n_samples,) float32: inverse of `stft`; of spectra that belong to no signal, the nearest one."""
    parts = fft.irfft(spectrum, size, axis=1).astype(np.float32) * root_hann(size)
    return fit(overlap_add(parts, hop)[size - hop :] * np.float32(2 * hop / size), n_samples)


def overlap_add(parts: np.ndarray, hop: int) -> np.ndarray:
    """(F, size) -> ((F - 1) hop + size,); `hop` divides size."""
    n_frames, size = parts.shape
    share = size // hop
    out = np.zeros((n_frames + share - 1, hop), dtype=parts.dtype)
    for i in range(share):
        out[i : i + n_frames] += parts[:, i * hop : (i + 1) * hop]
    return out.reshape(-1)


def frames_per(ms: float, hop: int = HOP) -> float:
    """How many frames `ms` milliseconds are."""
    return ms / 1000 * RATE / hop


def bin_hz(size: int = SIZE) -> np.ndarray:
    """(K,) Hz."""
    return np.arange(size // 2 + 1) * (RATE / size)


def polar(magnitude: Magnitude, phase: np.ndarray) -> Spectrum:
    """(F, K) complex64 from magnitudes and radians."""
    return np.asarray((magnitude * np.exp(1j * phase)).astype(np.complex64))


def with_phase_of(magnitude: Magnitude, other: Spectrum) -> Spectrum:
    """(F, K): `magnitude` with the phases of `other`."""
    return np.asarray((magnitude * (other / (np.abs(other) + 1e-12))).astype(np.complex64))


def griffin_lim(
    magnitude: Magnitude,
    start: Spectrum,
    n_samples: int,
    iterations: int,
    size: int = SIZE,
    hop: int = HOP,
    momentum: float = 0.9,
) -> Signal:
    """(F, K) -> (n_samples,): phases found from the overlap of frames, beginning with those of `start`.

    Griffin and Lim 1984, accelerated as in Perraudin, Balazs and Soendergaard 2013.
    """
    before = np.zeros_like(start)
    guess = with_phase_of(magnitude, start)
    for _ in range(iterations):
        rebuilt = stft(istft(guess, n_samples, size, hop), size, hop)
        guess = with_phase_of(magnitude, rebuilt + momentum * (rebuilt - before))
        before = rebuilt
    return istft(guess, n_samples, size, hop)


@cache
def mel_pair(bands: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """((K, M) means per band, (M, K) interpolation back), float32: triangles even on the mel scale, 0 Hz to half the rate."""
    centres = mel_to_hz(np.linspace(0, hz_to_mel(np.array(RATE / 2)), bands + 2))[1:-1]
    hz = bin_hz(size)
    back = np.stack([np.interp(hz, centres, np.eye(bands)[i]) for i in range(bands)])
    reach = back + 1e-6 * (np.abs(hz[None] - centres[:, None]) <= RATE / size)  # a band that falls between two bins hears both
    means = (reach / reach.sum(axis=1, keepdims=True)).T
    return means.astype(np.float32), back.astype(np.float32)


def to_mel(magnitude: Magnitude, bands: int) -> np.ndarray:
    """(F, K) magnitudes -> (F, M) natural logarithms of band magnitudes (root mean square), never below ln 1e-5."""
    size = 2 * (magnitude.shape[1] - 1)
    return np.asarray(0.5 * np.log(np.square(magnitude) @ mel_pair(bands, size)[0] + 1e-10))


def from_mel(logs: np.ndarray, size: int = SIZE) -> Magnitude:
    """(F, M) logarithms -> (F, K) magnitudes."""
    return np.asarray(np.exp(np.minimum(logs, 12.0) @ mel_pair(logs.shape[1], size)[1]).astype(np.float32))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], spread: tuple[float, ...]) -> np.ndarray:
    """`shape` float32 Gaussian noise of unit variance, correlated over `spread` (standard deviations in cells per axis)."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), spread, mode="wrap")
    return np.asarray(noise / (noise.std() + 1e-9))


def random_phase(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """`shape` float32 radians, uniform in -pi..pi."""
    return np.asarray((rng.random(shape, dtype=np.float32) * 2 - 1) * np.float32(np.pi))


def add_noise(signal: Signal, snr_db: float, rng: np.random.Generator, sources: Sources) -> tuple[Signal, Signal]:
    """((T,) mixture, (T,) noise in it): noise from `sources.noises`, hiss if there is none, at `snr_db` of mean powers."""
    return add_from(signal, sources.noises, snr_db, rng, sources)


def add_from(
    signal: Signal, files: "object", snr_db: float, rng: np.random.Generator, sources: Sources
) -> tuple[Signal, Signal]:
    """As `add_noise`, from any of the lists of `sources`."""
    n = len(signal)
    noise = sources.stretch_of(files, n, rng) if files else rng.standard_normal(n).astype(np.float32)  # type: ignore[arg-type]
    gain = np.sqrt(power(signal) / power(noise) / 10 ** (snr_db / 10)) if n else 0.0
    scaled = (gain * noise).astype(np.float32)
    return signal + scaled, scaled


def codebook(rng: np.random.Generator, rows: np.ndarray, n_codes: int, rounds: int = 6) -> np.ndarray:
    """(F, D) -> (min(n_codes, F), D): k-means (Lloyd 1982) from random rows; codes that nobody is near stay."""
    codes = rows[rng.permutation(len(rows))[:n_codes]].copy()
    for _ in range(rounds):
        nearest = nearest_code(rows, codes)
        counts = np.bincount(nearest, minlength=len(codes))
        member = (nearest[None] == np.arange(len(codes))[:, None]).astype(rows.dtype)
        used = counts > 0
        codes[used] = (member @ rows)[used] / counts[used, None]
    return codes


def nearest_code(rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(F, D), (C, D) -> (F,) indices of the nearest codes by squared distance."""
    return np.asarray(np.argmin((codes**2).sum(axis=1)[None] - 2 * rows @ codes.T, axis=1))


@cache
def _mdct_basis(hop: int) -> np.ndarray:
    """(2 hop, hop) float32: sine window times cosines (Princen and Bradley 1986)."""
    n, k = np.arange(2 * hop)[:, None], np.arange(hop)[None]
    window = np.sin(np.pi * (n + 0.5) / (2 * hop))
    cosines = np.cos(np.pi / hop * (n + 0.5 + hop / 2) * (k + 0.5))
    return np.asarray((np.sqrt(2 / hop) * window * cosines).astype(np.float32))


def mdct(signal: np.ndarray, hop: int) -> np.ndarray:
    """(T,) -> (F, hop) float32 coefficients, orthonormal; F = ceil(T / hop) + 1."""
    n_frames = -(-len(signal) // hop) + 1
    padded = np.zeros((n_frames + 1) * hop, dtype=np.float32)
    padded[hop : hop + len(signal)] = signal
    return np.asarray(frames(padded, 2 * hop, hop) @ _mdct_basis(hop))


def imdct(coefficients: np.ndarray, n_samples: int) -> Signal:
    """(F, hop) -> (n_samples,): inverse of `mdct`."""
    hop = coefficients.shape[1]
    return fit(overlap_add(coefficients.astype(np.float32) @ _mdct_basis(hop).T, hop)[hop:], n_samples)


def same_power(signal: np.ndarray, like: np.ndarray) -> Signal:
    """(T,) `made` brought to the mean power of `like`; at most 20 dB up, so that what vanished stays so."""
    gain = min(np.sqrt(power(like) / power(signal)), 10.0) if len(like) else 1.0
    return np.asarray((signal * gain).astype(np.float32))
