"""Parametric vocoders: speech taken apart into pitch, envelope and noise, each of them spoilt, and put together again.

WORLD (Morise, Yokomori and Ozawa 2016) through the package pyworld; linear prediction here. What comes out follows the
original frame by frame, but its pulses stand where the synthesis puts them: within a pitch period of the original's.
"""

import warnings
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from types import ModuleType

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter1d, median_filter

from urgentmos.errors import UsageError
from urgentmos.simulation.base import RATE, Degradation, Signal, Sources, fit
from urgentmos.simulation.enhancers import by
from urgentmos.simulation.transforms import HOP, SIZE, bin_hz, istft, mel_pair, same_power, smooth_noise, stft

WORLD_HOP = 0.005  # seconds
WORLD_SIZE = 1024


@dataclass(frozen=True)
class Voice:
    """WORLD's features, float64: f0 (F,) Hz or 0, envelope (F, K) power, aperiodicity (F, K) in 0..1; F every 5 ms."""

    f0: np.ndarray
    envelope: np.ndarray
    aperiodicity: np.ndarray


@cache
def world() -> ModuleType:
    """The package pyworld. UsageError with the line that installs it."""
    try:
        with warnings.catch_warnings():  # it imports pkg_resources, which setuptools is about to drop
            warnings.simplefilter("ignore")
            return import_module("pyworld")
    except ModuleNotFoundError as e:
        raise UsageError("WORLD is not installed. Install it with: pip install pyworld 'setuptools<81'") from e


def analysed(signal: Signal) -> Voice:
    """(T,) -> features: DIO and StoneMask, CheapTrick, D4C."""
    x = np.ascontiguousarray(signal, dtype=np.float64)
    x = np.pad(x, (0, max(0, RATE // 4 - len(x))))  # DIO wants a quarter of a second
    coarse, times = world().dio(x, RATE)
    f0 = world().stonemask(x, coarse, times, RATE)
    envelope = world().cheaptrick(x, f0, times, RATE, fft_size=WORLD_SIZE)
    return Voice(f0, envelope, world().d4c(x, f0, times, RATE, fft_size=WORLD_SIZE))


def synthesised(voice: Voice, like: Signal) -> Signal:
    """Features -> as long and as loud as `like` (T,)."""
    parts = (np.ascontiguousarray(part, dtype=np.float64) for part in (voice.f0, voice.envelope, voice.aperiodicity))
    return same_power(fit(np.nan_to_num(world().synthesize(*parts, RATE)), len(like)), like)


def cepstra(envelope: np.ndarray, bands: int = 64) -> np.ndarray:
    """(F, K) power -> (F, M) mel cepstra: cosine transform of the log envelope on the mel scale."""
    return np.asarray(fft.dct(np.log(envelope + 1e-14) @ mel_pair(bands, WORLD_SIZE)[0].astype(float), axis=1, norm="ortho"))


def from_cepstra(coefficients: np.ndarray, bands: int = 64) -> np.ndarray:
    """(F, C) mel cepstra -> (F, K) power; coefficients that are not there are 0."""
    logs = fft.idct(coefficients, n=bands, axis=1, norm="ortho")
    return np.asarray(np.exp(np.clip(logs @ mel_pair(bands, WORLD_SIZE)[1].astype(float), -32, 12)))


# WORLD


def world_envelope(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, coefficients: int) -> Signal:
    """The spectral envelope from its first mel-cepstral `coefficients`: formants melt."""
    voice = analysed(signal)
    smooth = from_cepstra(cepstra(voice.envelope)[:, :coefficients])
    return synthesised(replace(voice, envelope=smooth), signal)


def world_quantised(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, step: float) -> Signal:
    """40 mel-cepstral coefficients rounded to multiples of `step` times their spread over the clip; pitch to semitones."""
    voice = analysed(signal)
    coefficients = cepstra(voice.envelope)[:, :40]
    grid = step * coefficients.std(axis=0) + 1e-9
    semitones = np.round(12 * np.log2(np.maximum(voice.f0, 1)))
    f0 = np.where(voice.f0 > 0, 2 ** (semitones / 12), 0)
    return synthesised(Voice(f0, from_cepstra(grid * np.round(coefficients / grid)), voice.aperiodicity), signal)


def world_flat_pitch(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, kept: float) -> Signal:
    """Pitch movements reduced to the share `kept` of what they are, in octaves: monotone."""
    voice = analysed(signal)
    voiced = voice.f0 > 0
    middle = np.exp(np.mean(np.log(voice.f0[voiced]))) if voiced.any() else 1.0
    f0 = np.where(voiced, middle * (np.maximum(voice.f0, 1) / middle) ** kept, 0)
    return synthesised(replace(voice, f0=f0), signal)


def world_jitter(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, spread: float) -> Signal:
    """Pitch that errs by `spread` (nepers) from frame to frame: rough, creaking."""
    voice = analysed(signal)
    wrong = np.clip(smooth_noise(rng, voice.f0.shape, (0.8,)), -2.5, 2.5)
    return synthesised(replace(voice, f0=voice.f0 * np.exp(spread * wrong)), signal)


def world_pitch_drift(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, semitones: float) -> Signal:
    """Pitch that wanders by `semitones` over 300 ms: an intonation that belongs to no language."""
    voice = analysed(signal)
    drift = semitones * smooth_noise(rng, voice.f0.shape, (0.15 / WORLD_HOP,))
    return synthesised(replace(voice, f0=voice.f0 * 2 ** (np.clip(drift, -18, 18) / 12)), signal)


def world_octaves(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, share: float) -> Signal:
    """The share `share` of pieces of 60 ms an octave too high or too low."""
    voice = analysed(signal)
    pieces = np.arange(len(voice.f0)) // 12
    drawn, up = rng.random(pieces[-1] + 1), rng.random(pieces[-1] + 1) < 0.5
    factor = np.where(drawn < share, np.where(up, 2.0, 0.5), 1.0)
    return synthesised(replace(voice, f0=voice.f0 * factor[pieces]), signal)


def world_voicing(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, share: float) -> Signal:
    """The share `share` of pieces of 30 ms voiced that are not, at the mean pitch, or voiceless that are."""
    voice = analysed(signal)
    voiced = voice.f0 > 0
    middle = float(np.median(voice.f0[voiced])) if voiced.any() else 120.0
    pieces = np.arange(len(voiced)) // 6
    wrong = (rng.random(pieces[-1] + 1) < share)[pieces]
    f0 = np.where(wrong, np.where(voiced, 0, middle), voice.f0)
    buzz = np.where((wrong & ~voiced)[:, None], 0.05, voice.aperiodicity)
    return synthesised(replace(voice, f0=f0, aperiodicity=buzz), signal)


def world_buzz(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, kept: float, coefficients: int = 24) -> Signal:
    """Aperiodicity down to the share `kept`, envelope from few coefficients: the buzz of pulses in step."""
    voice = analysed(signal)
    smooth = from_cepstra(cepstra(voice.envelope)[:, :coefficients])
    return synthesised(replace(voice, envelope=smooth, aperiodicity=kept * voice.aperiodicity), signal)


def world_whisper(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, share: float) -> Signal:
    """Periodic parts turned into noise by the share `share`: breathy, hoarse, whispered."""
    voice = analysed(signal)
    return synthesised(replace(voice, aperiodicity=1 - (1 - voice.aperiodicity) * (1 - share)), signal)


def world_slow(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, ms: float) -> Signal:
    """Envelope and pitch averaged over `ms`: articulation is blurred."""
    voice = analysed(signal)
    frames = ms / 1000 / WORLD_HOP
    envelope = np.exp(gaussian_filter1d(np.log(voice.envelope + 1e-14), frames / 2, axis=0))
    voiced = voice.f0 > 0
    if not voiced.any():
        return synthesised(replace(voice, envelope=envelope), signal)
    everywhere = np.interp(np.arange(len(voiced)), np.flatnonzero(voiced), voice.f0[voiced])
    f0 = np.where(voiced, gaussian_filter1d(everywhere, frames / 2), 0)
    return synthesised(replace(voice, envelope=envelope, f0=f0), signal)


def world_warped(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, factor: float) -> Signal:
    """Formants and pitch moved up or down (the seed says which) by `factor`: another talker's voice, or nobody's."""
    voice = analysed(signal)
    factor = factor if rng.random() < 0.5 else 1 / factor
    bins = np.arange(voice.envelope.shape[1]) / factor
    left = np.minimum(bins.astype(int), len(bins) - 2)
    share = np.clip(bins - left, 0, 1)
    logs = np.log(voice.envelope + 1e-14)
    warped = np.exp((1 - share) * logs[:, left] + share * logs[:, left + 1])
    return synthesised(replace(voice, envelope=warped, f0=voice.f0 * factor), signal)


def world_noisy_features(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, spread: float) -> Signal:
    """Mel cepstra with errors of `spread` times their own spread over the clip, alike over 20 ms."""
    voice = analysed(signal)
    coefficients = cepstra(voice.envelope)
    wrong = spread * coefficients.std(axis=0) * smooth_noise(rng, coefficients.shape, (2.0, 0.0))
    wrong[:, 0] *= 0.3  # loudness is what networks get right
    return synthesised(replace(voice, envelope=from_cepstra(coefficients + wrong)), signal)


# Linear prediction


@dataclass(frozen=True)
class Prediction:
    """Per frame of `transforms.stft`: reflection (F, P) within -1..1 and error (F,), the power that they leave."""

    reflection: np.ndarray
    error: np.ndarray

    def envelope(self) -> np.ndarray:
        """(F, K) magnitudes."""
        whitening = np.abs(fft.rfft(predictor(self.reflection), SIZE, axis=1))
        return np.asarray(np.sqrt(self.error)[:, None] / np.maximum(whitening, 1e-4))


def predicted(spectrum: np.ndarray, order: int) -> Prediction:
    """(F, K) -> linear prediction by Levinson and Durbin, all frames at once."""
    lags = fft.irfft(np.abs(spectrum).astype(np.float64) ** 2, axis=1)[:, : order + 1]
    lags *= np.exp(-0.5 * (2 * np.pi * 40 / RATE * np.arange(order + 1)) ** 2)  # 40 Hz wider, so that poles keep off the circle
    lags[:, 0] = lags[:, 0] * 1.0001 + 1e-9
    a = np.zeros_like(lags)
    a[:, 0] = 1
    error, reflection = lags[:, 0].copy(), np.zeros((len(lags), order))
    for m in range(1, order + 1):
        k = -np.sum(a[:, :m] * lags[:, m:0:-1], axis=1) / error
        reflection[:, m - 1] = k
        a[:, : m + 1] = a[:, : m + 1] + k[:, None] * a[:, m::-1]
        error *= 1 - k**2
    return Prediction(reflection, error)


def predictor(reflection: np.ndarray) -> np.ndarray:
    """(F, P) reflection coefficients -> (F, P + 1) prediction-error filters, a[0] = 1."""
    n_frames, order = reflection.shape
    a = np.zeros((n_frames, order + 1))
    a[:, 0] = 1
    for m in range(1, order + 1):
        a[:, : m + 1] = a[:, : m + 1] + reflection[:, m - 1, None] * a[:, m::-1]
    return a


PITCH_SIZE = 1024
SHORTEST, LONGEST = RATE // 400, RATE // 70  # samples of a pitch period


def pitch(signal: Signal) -> tuple[np.ndarray, np.ndarray]:
    """(T,) -> per sample (f0 in Hz, voiced as 0..1): the highest peak of the normalised autocorrelation, median of 5 frames."""
    spectrum = stft(signal, PITCH_SIZE, HOP)
    lags = fft.irfft(np.abs(spectrum) ** 2, axis=1)
    window = fft.irfft(np.abs(stft(np.ones(4 * PITCH_SIZE, dtype=np.float32), PITCH_SIZE, HOP)[16]) ** 2)
    share = lags[:, SHORTEST:LONGEST] / (lags[:, :1] + 1e-6) / (window[SHORTEST:LONGEST] / window[0])
    best = np.argmax(share * np.linspace(1, 0.8, share.shape[1]), axis=1)  # of equal peaks the first: others are octaves down
    voiced = median_filter((share.max(axis=1) > 0.45).astype(float), 5)
    f0 = RATE / (median_filter(best, 5) + SHORTEST)
    centre = (np.arange(len(f0)) + 1) * HOP - PITCH_SIZE // 2
    at = np.arange(len(signal))
    return np.interp(at, centre, f0), np.interp(at, centre, voiced)


def excitation(signal: Signal, rng: np.random.Generator, breath: float) -> np.ndarray:
    """(T,) of power about 1: pulses at the pitch of `signal` with the share `breath` of noise, noise where it is voiceless."""
    f0, voiced = pitch(signal)
    cycle = np.floor(np.cumsum(f0) / RATE)
    pulses = np.diff(cycle, prepend=0.0) * np.sqrt(RATE / f0)
    hiss = rng.standard_normal(len(signal))
    harmonic = voiced * (1 - breath)
    return np.asarray(np.sqrt(harmonic) * pulses + np.sqrt(1 - harmonic) * hiss, dtype=np.float32)


def excited(signal: Signal, prediction: Prediction, source: np.ndarray) -> Signal:
    """(T,) excitation of power 1 with the envelopes of `prediction`, as loud as `signal`."""
    spectrum = stft(source) * (prediction.envelope() / np.sqrt(SIZE / 2))
    return same_power(istft(spectrum.astype(np.complex64), len(signal)), signal)


def lpc_vocoder(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, order: int, breath: float = 0.1) -> Signal:
    """Pulses and noise through a predictor of `order` (Atal and Hanauer 1971): buzzing speech of the 1970s."""
    return excited(signal, predicted(stft(signal), order), excitation(signal, rng, breath))


def lpc_quantised(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, bits: int, order: int = 16) -> Signal:
    """Log area ratios rounded to 2**bits values within -6..6, frames of 24 ms, over the true residual."""
    spectrum = stft(signal)
    filters = predicted(spectrum, order)
    step = 12 / 2**bits
    ratios = np.clip(2 * np.arctanh(np.clip(filters.reflection, -0.995, 0.995)), -6, 6)
    held = np.arange(len(ratios)) // 3 * 3
    coarse = Prediction(np.tanh(0.5 * (np.floor(ratios[held] / step) + 0.5) * step), filters.error)
    gain = coarse.envelope() / np.maximum(filters.envelope(), 1e-6)
    return same_power(istft((spectrum * np.minimum(gain, 30)).astype(np.complex64), len(signal)), signal)


def lpc_decimated(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, keep: int, order: int = 16) -> Signal:
    """Of the residual only every `keep`th sample, zeros between: high bands come from folding, as in GSM's full-rate codec."""
    spectrum = stft(signal)
    envelope = np.maximum(predicted(spectrum, order).envelope(), 1e-6)
    flat = istft((spectrum / envelope).astype(np.complex64), len(signal))
    smooth = stft(flat) * np.clip((RATE / 2 / keep - bin_hz()) / 200 + 1, 0, 1)
    residual = istft(smooth.astype(np.complex64), len(signal))
    sparse = np.where(np.arange(len(signal)) % keep == 0, residual * keep, 0)
    return same_power(istft((stft(sparse) * envelope).astype(np.complex64), len(signal)), signal)


def lpc_coarse_residual(
    signal: Signal, rng: np.random.Generator, sources: Sources, /, *, levels: int, order: int = 16
) -> Signal:
    """The residual rounded to `levels` steps of its level in each frame: noise of the colour of the speech."""
    spectrum = stft(signal)
    envelope = np.maximum(predicted(spectrum, order).envelope(), 1e-6)
    flat = istft((spectrum / envelope).astype(np.complex64), len(signal))
    level = np.sqrt(gaussian_filter1d(flat**2, 60)) + 1e-6
    step = 6 / levels
    coarse = np.clip((np.floor(flat / level / step) + 0.5) * step, -3, 3) * level
    return same_power(istft((stft(coarse) * envelope).astype(np.complex64), len(signal)), signal)


def harmonic_sines(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, count: int) -> Signal:
    """`count` harmonics of the pitch with the predictor's envelope and noise for what is voiceless: too few make it hum."""
    f0, voiced = pitch(signal)
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    limit = np.minimum(count, RATE / 2 / f0)  # harmonics below half the rate, so many in each sample
    half = 0.5 * phase
    top = np.floor(limit)
    # the sum of cosines of 1..top times the phase, in closed form
    total = np.sin((top + 0.5) * phase) / np.where(np.abs(np.sin(half)) < 1e-3, 1e-3, 2 * np.sin(half)) - 0.5
    total = np.where(np.abs(np.sin(half)) < 1e-3, top, total) / np.sqrt(RATE / f0 / 4)
    source = np.sqrt(voiced) * total + np.sqrt(1 - voiced) * rng.standard_normal(len(signal))
    return excited(signal, predicted(stft(signal), 18), source.astype(np.float32))


WORLD = ("pyworld",)

DEGRADATIONS = (
    Degradation("world_envelope", "vocoder", by("coefficients", 50, 24, 14, 9, 6, 3), world_envelope, packages=WORLD),
    Degradation("world_quantised", "vocoder", by("step", 0.2, 0.7, 1.3, 2, 3), world_quantised, packages=WORLD),
    Degradation("world_flat_pitch", "vocoder", by("kept", 1, 0.6, 0.3, 0), world_flat_pitch, packages=WORLD),
    Degradation("world_jitter", "vocoder", by("spread", 0.005, 0.02, 0.05, 0.1, 0.2, 0.4), world_jitter, packages=WORLD),
    Degradation("world_pitch_drift", "vocoder", by("semitones", 0.3, 1, 2, 4, 8), world_pitch_drift, packages=WORLD),
    Degradation("world_octaves", "vocoder", by("share", 0.03, 0.1, 0.25, 0.5), world_octaves, packages=WORLD),
    Degradation("world_voicing", "vocoder", by("share", 0.02, 0.07, 0.18, 0.4, 0.7), world_voicing, packages=WORLD),
    Degradation(
        "world_buzz",
        "vocoder",
        tuple({"kept": kept, "coefficients": n} for kept, n in ((0.7, 40), (0.3, 16), (0.1, 9), (0, 5))),
        world_buzz,
        packages=WORLD,
    ),
    Degradation("world_whisper", "vocoder", by("share", 0.05, 0.2, 0.4, 0.7, 1.0), world_whisper, packages=WORLD),
    Degradation("world_slow", "vocoder", by("ms", 10, 30, 60, 120, 240), world_slow, packages=WORLD),
    Degradation("world_warped", "vocoder", by("factor", 1.03, 1.1, 1.22, 1.4, 1.7), world_warped, packages=WORLD),
    Degradation(
        "world_noisy_features", "vocoder", by("spread", 0.05, 0.2, 0.4, 0.8, 1.5), world_noisy_features, packages=WORLD
    ),
    Degradation("lpc_vocoder", "vocoder", by("order", 28, 18, 12, 8, 5, 2), lpc_vocoder),
    Degradation("lpc_whisper", "vocoder", by("order", 28, 18, 12, 8, 5, 2, breath=1.0), lpc_vocoder),
    Degradation("lpc_quantised", "vocoder", by("bits", 7, 5, 4, 3, 2), lpc_quantised),
    Degradation("lpc_decimated", "vocoder", by("keep", 2, 3, 4, 6, 9, 14), lpc_decimated),
    Degradation("lpc_coarse_residual", "vocoder", by("levels", 32, 16, 8, 4, 2), lpc_coarse_residual),
    Degradation("harmonic_sines", "vocoder", by("count", 60, 30, 15, 7, 3), harmonic_sines),
)
