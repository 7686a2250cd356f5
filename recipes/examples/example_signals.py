"""Signals of the example set: levels, noises, mixtures, a Wiener filter, alignment. Arrays in, arrays out; no programs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr
from scipy import signal

Wave = npt.NDArray[np.float64]  # (T,) at RATE, full scale 1, unless a docstring says otherwise

RATE = 16_000
LEVEL_DB = -26.0  # RMS of every clean signal re full scale; leaves the peaks of speech plus noise unclipped
LEAD = RATE  # noise alone before the speech: enhancers learn it there; cut off afterwards
MARGIN = RATE // 10  # kept around the speech
MAX_DELAY = RATE // 8  # 125 ms, more than any codec here needs


@dataclass(frozen=True)
class Mix:
    """One content with its LEAD: (T,) float64 each, speech + noise = noisy."""

    speech: Wave
    noise: Wave

    @property
    def noisy(self) -> Wave:
        return self.speech + self.noise


# Levels and lengths


def resample(wave: Wave, rate: int, to: int) -> Wave:
    """(T,) at `rate` -> (T * to / rate,) by soxr HQ, in double precision."""
    return np.asarray(soxr.resample(np.asarray(wave, np.float64), rate, to))


def trim(wave: Wave, floor_db: float = -45.0) -> Wave:
    """(T,): from MARGIN before the first 10 ms above `floor_db` re the loudest, to MARGIN after the last; zeros if short."""
    step = RATE // 100
    power = np.square(wave[: len(wave) // step * step]).reshape(-1, step).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (floor_db / 10))
    padded = np.pad(wave, MARGIN)
    return padded[loud[0] * step : (loud[-1] + 1) * step + 2 * MARGIN]


def set_level(wave: Wave, level_db: float = LEVEL_DB) -> Wave:
    """(T,) scaled to an RMS of `level_db` re full scale."""
    return np.asarray(wave * (10 ** (level_db / 20) / np.sqrt(np.mean(np.square(wave)))))


# Noise: each maker gives (samples,) float64 at any level


def shaped(samples: int, rng: np.random.Generator, exponent: float, corner_hz: float = 40.0) -> Wave:
    """Gaussian noise with power falling as 1/f**exponent above `corner_hz` (1: pink, 2: brown), flat below."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.maximum(np.fft.rfftfreq(samples, 1 / RATE), corner_hz)
    return np.fft.irfft(spectrum * frequency ** (-exponent / 2), samples)


def hum(samples: int, rng: np.random.Generator) -> Wave:
    """Mains hum: 50 Hz and its harmonics, drifting slightly, over pink noise 15 dB below."""
    t = np.arange(samples) / RATE
    phase = 2 * np.pi * 50 * (t + 0.002 * np.sin(2 * np.pi * 0.3 * t + rng.uniform(0, 6)))
    tones = sum(rng.uniform(0.3, 1) / np.sqrt(k) * np.sin(k * phase + rng.uniform(0, 6)) for k in range(1, 40))
    return set_level(np.asarray(tones), 0) + set_level(shaped(samples, rng, 1), -15)


def traffic(samples: int, rng: np.random.Generator) -> Wave:
    """Vehicles that pass: brown noise, and brighter noise that swells about once a second and a half."""
    t = np.arange(samples) / RATE
    passes = np.arange(rng.uniform(0, 1), samples / RATE + 1, 1.5)
    swell = sum(np.exp(-0.5 * ((t - at) / 0.35) ** 2) for at in passes)
    return set_level(shaped(samples, rng, 2), 0) + set_level(shaped(samples, rng, 1, 300) * swell, -3)


def babble(samples: int, rng: np.random.Generator, others: Sequence[Wave]) -> Wave:
    """All `others` (other sentences) talking at once, each in a loop from a random place, at random levels within 6 dB."""
    voices = (np.resize(np.roll(wave, rng.integers(len(wave))), samples) * 10 ** rng.uniform(-0.3, 0) for wave in others)
    return np.asarray(sum(voices))


def make_noise(kind: str, samples: int, rng: np.random.Generator, others: Sequence[Wave]) -> Wave:
    """(samples,) of the noise called `kind`."""
    match kind:
        case "pink":
            return shaped(samples, rng, 1)
        case "hum":
            return hum(samples, rng)
        case "traffic":
            return traffic(samples, rng)
        case "babble":
            return babble(samples, rng, others)
        case _:
            raise ValueError(f"no noise is called {kind!r}")


def mix(clean: Wave, noise: Wave, snr_db: float, lead: int = LEAD) -> Mix:
    """`noise` (lead + T,) under `clean` (T,) from sample `lead` on; SNR is the ratio of mean powers over the T samples."""
    if len(noise) != lead + len(clean):
        raise ValueError(f"noise has {len(noise)} samples, {lead} + {len(clean)} are needed")
    gain = np.sqrt(np.mean(clean**2) / np.mean(noise[lead:] ** 2) / 10 ** (snr_db / 10))
    return Mix(np.concatenate([np.zeros(lead), clean]), gain * noise)


# Wiener filter


def wiener(wave: Wave, window: int = 512, hop: int = 128) -> Wave:
    """Wiener gain (Scalart and Filho 1996) on the decision-directed SNR of Ephraim and Malah (1984).

    The noise power starts as the mean over the LEAD and follows, slowly, the bins that look like noise.
    """
    _, _, spectrum = signal.stft(wave, RATE, nperseg=window, noverlap=window - hop)  # (window / 2 + 1, F)
    power = np.abs(spectrum) ** 2
    noise = power[:, : LEAD // hop].mean(axis=1) + 1e-12
    speech = np.zeros_like(noise)
    for frame in range(power.shape[1]):
        posterior = power[:, frame] / noise
        prior = 0.98 * speech / noise + 0.02 * np.maximum(posterior - 1, 0)
        gain = np.maximum(prior / (1 + prior), 0.1)
        speech = gain**2 * power[:, frame]
        spectrum[:, frame] *= gain
        noise = np.where(posterior < 3, 0.95 * noise + 0.05 * power[:, frame], noise)
    _, filtered = signal.istft(spectrum, RATE, nperseg=window, noverlap=window - hop)
    return np.asarray(filtered[: len(wave)])


# Alignment


def delay(source: Wave, output: Wave, max_delay: int = MAX_DELAY) -> int:
    """Samples by which `output` is late (negative: early), at the peak of the cross-correlation within +-max_delay."""
    correlation = signal.correlate(output, source, mode="full", method="fft")
    lags = signal.correlation_lags(len(output), len(source), mode="full")
    near = np.abs(lags) <= max_delay
    return int(lags[near][np.argmax(correlation[near])])


def spectral_delay(source: Wave, output: Wave, max_delay: int = MAX_DELAY) -> int:
    """As `delay`, but of the log spectrograms, in steps of 1 ms: for coders that make a new waveform."""
    hop = RATE // 1000
    pair = [log_spectrogram(wave, hop) for wave in (source, output)]  # (D, F) each
    correlation = sum(signal.correlate(b, a, mode="full", method="fft") for a, b in zip(*pair, strict=True))
    lags = signal.correlation_lags(pair[1].shape[1], pair[0].shape[1], mode="full")
    near = np.abs(lags) <= max_delay // hop
    return int(lags[near][np.argmax(np.asarray(correlation)[near])]) * hop


def log_spectrogram(wave: Wave, hop: int, window: int = 256) -> Wave:
    """(T,) -> (D, F): log power from 125 Hz to 3.7 kHz with a floor 30 dB below the mean, each band without its mean."""
    _, _, spectrum = signal.stft(wave, RATE, nperseg=window, noverlap=window - hop)
    power = np.abs(spectrum[2:60]) ** 2
    level = np.log(power + 1e-3 * power.mean())
    return np.asarray(level - level.mean(axis=1, keepdims=True))


def shift(wave: Wave, late: int, samples: int) -> Wave:
    """`wave` moved `late` samples to the left and cut or zero-padded to (samples,)."""
    moved = wave[late:] if late >= 0 else np.pad(wave, (-late, 0))
    return np.pad(moved, (0, max(0, samples - len(moved))))[:samples]
