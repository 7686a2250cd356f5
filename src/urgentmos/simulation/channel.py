"""Damage by recording and transmission: overload, missing bands, poor converters, gaps, clicks, unsteady time.

Everything random is drawn before the setting is looked at, or thinned by it, so that two settings with one seed differ in
strength only: the strong setting has the gaps and clicks of the mild one, and more.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import gcd
from typing import Any

import numpy as np
from scipy import fft, ndimage
from scipy import signal as dsp

from urgentmos.simulation.base import RATE, Apply, Degradation, Signal, Sources, active_power, fit
from urgentmos.simulation.noise import as_loud, coloured, slow_curve

BLOCK = RATE // 200  # samples, 5 ms: the step of level controls and of what counts as active

# Overload and level.


def clip_hard(speech: Signal, _: np.random.Generator, __: Sources, /, *, threshold: float) -> Signal:
    """Cut off at `threshold` dB above the active level, then as loud as before."""
    limit = np.sqrt(active_power(speech)) * 10 ** (threshold / 20)
    return as_loud(speech, np.clip(speech, -limit, limit))


def clip_soft(speech: Signal, _: np.random.Generator, __: Sources, /, *, drive: float) -> Signal:
    """A saturating amplifier (tanh) driven `drive` dB into its limit by active speech, then as loud as before."""
    limit = np.sqrt(active_power(speech)) * 10 ** (-drive / 20)
    return as_loud(speech, limit * np.tanh(speech / limit))


def dc_offset(speech: Signal, _: np.random.Generator, __: Sources, /, *, offset: float) -> Signal:
    """A constant of `offset` times the peak, in a converter that has no headroom left: one side is cut off."""
    peak = float(np.abs(speech).max(initial=0))
    return _float32(np.clip(speech + offset * peak, -peak, peak))


def quiet(speech: Signal, rng: np.random.Generator, __: Sources, /, *, gain: float) -> Signal:
    """`gain` dB (below 0) quieter, and then 16 bits."""
    steps = np.round(speech * 10 ** (gain / 20) * 2**15 + rng.uniform(-0.5, 0.5, speech.size))
    return _float32(steps / 2**15)


def coarse(speech: Signal, _: np.random.Generator, __: Sources, /, *, bits: float) -> Signal:
    """Rounded to about 2 ** `bits` values between minus and plus the peak, without dither; `bits` need not be whole."""
    step = 2 * float(np.abs(speech).max(initial=0)) / 2**bits + 1e-9
    return _float32(step * np.round(speech / step))


def pumping(speech: Signal, rng: np.random.Generator, sources: Sources, /, *, strength: float, snr: float) -> Signal:
    """An automatic gain control that holds the level of speech and pauses alike: `strength` 0 leaves it, 1 levels all.

    With a background `snr` dB below the speech, which it lifts in the pauses; at once down, up within a quarter of a second.
    """
    speech_and_room = coloured(speech, rng, sources, snr=snr, slope=1.0)
    n_blocks = -(-speech.size // BLOCK)
    blocks = fit(speech_and_room, n_blocks * BLOCK).reshape(n_blocks, BLOCK)
    levels = 10 * np.log10(np.square(blocks, dtype=np.float64).mean(axis=1) + 1e-12)
    target = 10 * np.log10(active_power(speech))
    wanted = np.clip(strength * (target - levels), -24, 40)
    gains, gain = np.empty(n_blocks), 0.0
    for i, value in enumerate(wanted):
        gain += (value - gain) * (0.5 if value < gain else 0.02)  # of the way, every 5 ms
        gains[i] = gain
    curve = np.interp(np.arange(speech.size), np.arange(n_blocks) * BLOCK + BLOCK / 2, gains)
    return as_loud(speech, speech_and_room * 10 ** (curve / 20))


def fading(speech: Signal, rng: np.random.Generator, _: Sources, /, *, depth: float) -> Signal:
    """A level that wanders a few times a second, by `depth` dB (standard deviation); as loud as before on the whole."""
    curve = slow_curve(speech.size, rng.uniform(3, 8), rng)
    return as_loud(speech, speech * 10 ** (depth * curve / 20))


# Bands and converters.


def band(speech: Signal, _: np.random.Generator, __: Sources, /, *, low: float = 0, high: float = RATE / 2) -> Signal:
    """Only what lies between `low` and `high` Hz, by a linear-phase filter that falls to nothing within about 100 Hz."""
    taps = np.zeros(1025)
    taps[512] = 1
    if high < RATE / 2:
        taps = dsp.firwin(1025, high, fs=RATE)
    if low > 0:
        without = -dsp.firwin(1025, low, fs=RATE)
        without[512] += 1
        taps = dsp.fftconvolve(taps, without, "same")
    return _float32(dsp.fftconvolve(np.pad(speech, 512), taps, "valid"))


def interpolated(speech: Signal, _: np.random.Generator, __: Sources, /, *, rate: int, order: int) -> Signal:
    """Down to `rate` Hz properly and back up by the nearest (`order` 0) or a straight line (1): mirrored bands are heard."""
    few = _resample(speech, RATE, rate)
    places = np.arange(speech.size) * (rate / RATE)
    if order == 0:
        return _float32(few[np.floor(places + 0.5).astype(int).clip(0, few.size - 1)])
    return _float32(np.interp(places, np.arange(few.size), few))


def aliased(speech: Signal, _: np.random.Generator, __: Sources, /, *, rate: int) -> Signal:
    """Every so many samples taken without a filter before it, and back up properly: what was above `rate` / 2 folds down."""
    places = np.arange(0, speech.size, RATE / rate)
    few = ndimage.map_coordinates(speech.astype(np.float64), [places], order=3, mode="nearest")
    return fit(_resample(few, rate, RATE), speech.size)


# Noise that comes with the signal.


def mnru(speech: Signal, rng: np.random.Generator, _: Sources, /, *, q: float) -> Signal:
    """The modulated noise reference unit of ITU-T P.810, wide band: white noise times the signal, `q` dB below it."""
    return _float32(speech * (1 + 10 ** (-q / 20) * rng.standard_normal(speech.size)))


def crackle(speech: Signal, rng: np.random.Generator, _: Sources, /, *, rate: float, level: float) -> Signal:
    """About `rate` clicks a second (at most 400): short ringing pulses with peaks around `level` dB against active speech."""
    places, order = _events(speech, rng)
    sizes = rng.choice([-1.0, 1.0], places.size) * np.exp(0.6 * rng.standard_normal(places.size))
    kept = order < rate * speech.size / RATE
    pulses = np.zeros(speech.size)
    np.add.at(pulses, places[kept], sizes[kept])
    time = np.arange(64) / RATE
    ring = np.exp(-time / rng.uniform(0.0002, 0.001)) * np.cos(2 * np.pi * rng.uniform(1500, 5000) * time)
    clicks = dsp.fftconvolve(pulses, ring)[: speech.size]
    return _float32(speech + np.sqrt(active_power(speech)) * 10 ** (level / 20) * clicks)


def dropouts(speech: Signal, rng: np.random.Generator, _: Sources, /, *, rate: float, length: float) -> Signal:
    """About `rate` gaps a second (at least one, at most 400) while somebody talks, around `length` s each."""
    places, order = _events(speech, rng)
    lengths = rng.uniform(0.6, 1.4, places.size) * length * RATE
    gate = np.ones(speech.size)
    for place, size in zip(places[kept := order < rate * speech.size / RATE], lengths[kept], strict=True):
        gate[max(0, int(place - size / 2)) : int(place + size / 2)] = 0
    return _float32(speech * ndimage.uniform_filter1d(gate, 17))  # edges of 1 ms


# Unsteady time and phase.


def flutter(speech: Signal, rng: np.random.Generator, _: Sources, /, *, depth: float) -> Signal:
    """Wow and flutter of a tape: speed off by `depth` (share, peak) at 4 to 6 and at 8 to 14 Hz; time errs by 2 ms at most."""
    time = np.arange(speech.size) / RATE
    off = np.zeros(speech.size)
    for low, high in ((4.0, 6.0), (8.0, 14.0)):
        rate = rng.uniform(low, high)
        most = min(depth / (2 * np.pi * rate), 0.001)
        off += most * np.sin(2 * np.pi * (rate * time + rng.random()))
    places = np.clip(np.arange(speech.size) + RATE * off, 0, max(speech.size - 1, 0))
    return _float32(ndimage.map_coordinates(speech.astype(np.float64), [places], order=3, mode="nearest"))


def wsola(speech: Signal, _: np.random.Generator, __: Sources, /, *, factor: float) -> Signal:
    """Sped up `factor` times and slowed down again by overlap-add of similar waveforms (Verhelst, Roelands, ICASSP 1993)."""
    fast = _wsola(speech, max(1, round(speech.size / factor)))
    return _float32(_wsola(fast, speech.size))


def vocoder(speech: Signal, _: np.random.Generator, __: Sources, /, *, factor: float) -> Signal:
    """Sped up `factor` times and slowed down again by a phase vocoder (Flanagan and Golden, 1966)."""
    fast = _phase_vocoder(speech, max(1, round(speech.size / factor)))
    return as_loud(speech, _phase_vocoder(fast, speech.size))


def phase_noise(speech: Signal, rng: np.random.Generator, _: Sources, /, *, spread: float) -> Signal:
    """Phases of the short-time spectrum (32 ms) wrong by `spread` rad (standard deviation), magnitudes as they were."""
    spectrum = _stft(speech, 512, 128)
    wrong = np.exp(1j * spread * rng.standard_normal(spectrum.shape))
    return as_loud(speech, _istft(spectrum * wrong, 512, 128, speech.size))


# Shared.


def _events(speech: Signal, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Places (N,) in what is active, 400 a second, and for each its rank (N,): keep ranks below n to get n events."""
    n = -(-400 * speech.size // RATE)
    blocks = fit(speech, -(-speech.size // BLOCK) * BLOCK).reshape(-1, BLOCK)
    levels = np.square(blocks, dtype=np.float64).mean(axis=1)
    active = np.flatnonzero(levels >= min(0.03 * active_power(speech), levels.max(initial=0)))
    places = active[rng.integers(active.size, size=n)] * BLOCK + rng.integers(BLOCK, size=n)
    return np.minimum(places, speech.size - 1), np.arange(n)


def _resample(wave: np.ndarray, rate: int, to: int) -> np.ndarray:
    """(T,) -> (ceil(T * to / rate),): sample k of the result lies at k * rate / to of the input; zero phase."""
    common = gcd(rate, to)
    return np.asarray(dsp.resample_poly(wave, to // common, rate // common))


def _wsola(wave: np.ndarray, n_samples: int) -> np.ndarray:
    """(T,) -> (n_samples,): the same pitch, another tempo. Frames of 20 ms, half overlapping, moved by up to 4 ms."""
    size, hop, most = 320, 160, 64
    window = dsp.get_window("hann", size)
    offsets = np.arange(-most, most + 1)
    padded = np.pad(wave.astype(np.float64), 2 * size)
    out = np.zeros(n_samples + 2 * size)
    expected = padded[2 * size - hop : 3 * size - hop]
    for start in range(0, n_samples + hop, hop):  # the frame whose middle becomes sample `start` of the result
        middle = 2 * size + min(round(start * wave.size / n_samples), wave.size)
        nearby = padded[middle - hop - most : middle + hop + most]
        # The leaning towards 0 keeps frames in time where all places are alike, as in pauses.
        shift = offsets[np.argmax(_alike(nearby, expected) - 0.2 * abs(offsets) / most)]
        begin = middle - hop + shift
        out[start : start + size] += window * padded[begin : begin + size]
        expected = padded[begin + hop : begin + hop + size]
    return out[hop : hop + n_samples]


def _alike(nearby: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Normalised correlation (K + 1,) of `expected` (W,) with every stretch of `nearby` (W + K,)."""
    energy = np.convolve(np.square(nearby), np.ones(expected.size), "valid") * np.sum(np.square(expected))
    return np.asarray(np.correlate(nearby, expected, "valid") / np.sqrt(np.maximum(energy, 1e-12)))


def _phase_vocoder(wave: np.ndarray, n_samples: int) -> np.ndarray:
    """(T,) -> (n_samples,): the same pitch, another tempo; frames of 32 ms, every 8 ms of the result.

    Each peak of the spectrum advances as it does in the input, and the bins around it turn with it, which keeps pulses
    together (Laroche and Dolson, IEEE TSAP 7, 1999).
    """
    size, hop = 512, 128
    spectrum = _stft(wave, size, hop)  # (F, 257)
    places = np.linspace(0, len(spectrum) - 1, -(-n_samples // hop) + 1)
    left = np.minimum(places.astype(int), len(spectrum) - 2)
    share = (places - left)[:, None]
    magnitude, angle = np.abs(spectrum), np.angle(spectrum)
    magnitude = (1 - share) * magnitude[left] + share * magnitude[left + 1]
    advance = angle[left + 1] - angle[left]  # in one hop, and frames of the result are one hop apart
    angle = angle[np.round(places).astype(int)]
    is_peak = magnitude == ndimage.maximum_filter1d(magnitude, 5, axis=1)
    phase = angle.copy()
    for f in range(1, len(phase)):
        peaks = np.flatnonzero(is_peak[f])
        owner = peaks[np.searchsorted((peaks[1:] + peaks[:-1]) / 2, np.arange(phase.shape[1]))]
        phase[f] = (phase[f - 1] + advance[f - 1] - angle[f])[owner] + angle[f]
    return _istft(magnitude * np.exp(1j * phase), size, hop, n_samples)


def _stft(wave: np.ndarray, size: int, hop: int) -> np.ndarray:
    """(T,) -> (F, 1 + size // 2), F at least 2: periodic Hann, frame f centred on sample f * hop."""
    n_frames = -(-wave.size // hop) + 1
    padded = np.zeros((n_frames - 1) * hop + size)
    padded[size // 2 : size // 2 + wave.size] = wave
    framed = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    return np.asarray(fft.rfft(framed * dsp.get_window("hann", size), axis=1))


def _istft(spectrum: np.ndarray, size: int, hop: int, n_samples: int) -> np.ndarray:
    """Inverse of `_stft` by weighted overlap-add -> (n_samples,)."""
    window = dsp.get_window("hann", size)
    framed = fft.irfft(spectrum, size, axis=1) * window
    out = np.zeros((len(spectrum) - 1) * hop + size)
    weight = np.zeros_like(out)
    for f, frame in enumerate(framed):
        out[f * hop : f * hop + size] += frame
        weight[f * hop : f * hop + size] += window**2
    return (out / np.maximum(weight, 1e-3))[size // 2 : size // 2 + n_samples]


def _float32(out: np.ndarray) -> Signal:
    return np.asarray(out, dtype=np.float32)


def _row(name: str, apply: Apply, ladder: Sequence[Mapping[str, Any]]) -> Degradation:
    return Degradation(name, "channel", tuple(ladder), apply)


def _each(key: str, *values: float, **others: float) -> Iterator[dict[str, float]]:
    return ({key: value, **others} for value in values)


DEGRADATIONS = (
    _row("clip", clip_hard, [*_each("threshold", 12, 8, 4, 0, -5, -12, -24)]),
    _row("saturation", clip_soft, [*_each("drive", -15, -9, -3, 4, 12, 24)]),
    _row("offset", dc_offset, [*_each("offset", 0.3, 0.55, 0.75, 0.87, 0.95, 1.0)]),
    _row("quiet", quiet, [*_each("gain", -15, -25, -35, -44, -52, -60)]),
    _row("coarse", coarse, [*_each("bits", 10.5, 9, 7.8, 6.8, 5.8, 4.6, 3.2)]),
    _row(
        "pumping",
        pumping,
        [{"strength": a, "snr": b} for a, b in ((0.2, 45), (0.4, 40), (0.6, 35), (0.8, 30), (1.0, 24), (1.2, 15))],
    ),
    _row("fading", fading, [*_each("depth", 2.5, 4.5, 7.5, 11, 16, 23)]),
    _row("lowpass", band, [*_each("high", 7000, 5500, 4000, 3000, 2200, 1500, 900)]),
    _row("highpass", band, [*_each("low", 120, 220, 400, 700, 1200, 2000, 3000)]),
    _row(
        "telephone",
        band,
        [{"low": a, "high": b} for a, b in ((50, 7000), (100, 5500), (200, 4200), (300, 3400), (450, 2600), (700, 1900))],
    ),
    _row("linear", interpolated, [*_each("rate", 12000, 8000, 5000, 3400, 2200, order=1)]),
    _row("nearest", interpolated, [*_each("rate", 60000, 36000, 22000, 10000, 6000, 3500, order=0)]),
    _row("aliasing", aliased, [*_each("rate", 12000, 10000, 8000, 6000, 4500, 3200, 2200)]),
    _row("mnru", mnru, [*_each("q", 42, 35, 28, 21, 14, 7, 0)]),
    _row(
        "crackle",
        crackle,
        [{"rate": a, "level": b} for a, b in ((3, -12), (6, -6), (12, 0), (25, 4), (60, 7), (150, 10))],
    ),
    _row(
        "dropouts",
        dropouts,
        [{"rate": a, "length": b} for a, b in ((0.5, 0.01), (1, 0.02), (2, 0.03), (3.5, 0.045), (6, 0.06), (9, 0.08))],
    ),
    _row("flutter", flutter, [*_each("depth", 0.004, 0.008, 0.015, 0.025, 0.04, 0.06)]),
    _row("wsola", wsola, [*_each("factor", 1.05, 1.3, 1.7, 2.2, 2.8, 3.6)]),
    _row("phasevocoder", vocoder, [*_each("factor", 1.05, 1.3, 1.7, 2.3, 3.2, 4.5)]),
    _row("phasenoise", phase_noise, [*_each("spread", 0.15, 0.3, 0.55, 0.9, 1.4, 2.2)]),
)
