"""Made speech enhancers: noise is added, then taken away badly, in the ways in which filters and networks do it.

The functions here weigh the bins of a mixture with a gain (a mask); `regressors` holds those that make up bins of their own.
Oracle masks come from the clean speech and the noise, which stand in for a trained network, and are then spoilt as networks
spoil them. SNRs are of mean powers in dB.
"""

import ctypes
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soxr
from scipy.ndimage import correlate1d, gaussian_filter, gaussian_filter1d, minimum_filter1d
from scipy.special import exp1

from urgentmos.errors import UsageError
from urgentmos.simulation.base import RATE, Degradation, Signal, Sources, fit
from urgentmos.simulation.transforms import (
    add_from,
    add_noise,
    bin_hz,
    frames_per,
    istft,
    mel_pair,
    polar,
    random_phase,
    same_power,
    smooth_noise,
    stft,
)

WINDOWS = (320, 512, 640, 1024)  # samples; which one is drawn by the seed


def averaged(power: np.ndarray, n_frames: int) -> np.ndarray:
    """(F, K) -> (F, K) means over `n_frames` frames around each."""
    # not uniform_filter1d: its running sum falls below 0 after loud frames
    return np.asarray(correlate1d(power, np.full(n_frames, 1 / n_frames), axis=0))


@dataclass(frozen=True)
class Mixture:
    """Spectra (F, K) complex64 of clean speech, the noise in it, and their sum; `size` of the window, hop a quarter of it."""

    clean: np.ndarray
    noise: np.ndarray
    noisy: np.ndarray
    size: int
    n_samples: int

    @property
    def hop(self) -> int:
        return self.size // 4

    def heard(self, spectrum: np.ndarray) -> Signal:
        """(F, K) -> (T,)."""
        return istft(spectrum, self.n_samples, self.size, self.hop)

    def ratio(self) -> np.ndarray:
        """(F, K) in 0..1: the share of speech in the power of each bin, smoothed a little; the Wiener gain of an oracle."""
        speech, rest = (averaged(np.abs(part) ** 2, 3) for part in (self.clean, self.noise))
        return np.asarray(speech / (speech + rest + 1e-12))


def mixture(signal: Signal, snr_db: float, rng: np.random.Generator, sources: Sources, size: int | None = None) -> Mixture:
    """Clean speech (T,) and noise of `sources` at `snr_db`; the window is drawn unless `size` says so."""
    _, noise = add_noise(signal, snr_db, rng, sources)
    drawn = WINDOWS[int(rng.integers(len(WINDOWS)))]
    size = size or drawn
    clean, rest = stft(signal, size, size // 4), stft(noise, size, size // 4)
    return Mixture(clean, rest, clean + rest, size, len(signal))


# Without a network: the noise is estimated from the mixture alone


def tracked_noise(power: np.ndarray, hop: int) -> np.ndarray:
    """(F, K) power -> (F, K) noise power: minima of a second of smoothed power, raised since minima are low.

    After Martin, "Noise power spectral density estimation based on optimal smoothing and minimum statistics", 2001.
    """
    smooth = averaged(power, max(1, round(frames_per(80, hop))))
    edge = min(4, len(smooth) // 2)  # frames that reach beyond the ends hold less power
    smooth[:edge], smooth[len(smooth) - edge :] = smooth[edge], smooth[len(smooth) - edge - 1]
    lowest = minimum_filter1d(smooth, max(1, round(frames_per(1000, hop))), axis=0)
    return np.asarray(2.8 * gaussian_filter1d(lowest, frames_per(100, hop), axis=0) + 1e-12)


def spectral_subtraction(
    signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float, over: float = 2.0, floor: float = 0.01
) -> Signal:
    """Power subtraction with over-subtraction `over` and a residue of `floor` times the noise: musical noise.

    Berouti, Schwartz and Makhoul, "Enhancement of speech corrupted by acoustic noise", 1979.
    """
    mix = mixture(signal, snr_db, rng, sources)
    power = np.abs(mix.noisy) ** 2 + 1e-12
    share = tracked_noise(power, mix.hop) / power
    return mix.heard(mix.noisy * np.sqrt(np.minimum(np.maximum(1 - over * share, floor * share), 1)))


GainRule = Callable[[np.ndarray, np.ndarray], np.ndarray]  # a priori SNR (K,), a posteriori SNR (K,) -> gain (K,)


def wiener_gain(prior: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    """(K,) SNRs as power ratios -> (K,) gains in 0..1."""
    return np.asarray(prior / (1 + prior))


def lsa_gain(prior: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    """(K,) SNRs as power ratios -> (K,) gains: least error of log magnitudes (Ephraim and Malah 1985, equation 20)."""
    share = prior / (1 + prior)
    return np.asarray(np.minimum(share * np.exp(0.5 * exp1(np.maximum(share * posterior, 1e-4))), 1.0))


def decision_directed(power: np.ndarray, noise: np.ndarray, rule: GainRule, memory: float = 0.97) -> np.ndarray:
    """(F, K) powers of mixture and noise -> (F, K) gains; the a priori SNR follows Ephraim and Malah 1984, equation 51."""
    posterior = np.clip(power / noise, 1e-3, 1e4)
    gains, before = np.empty_like(posterior), np.zeros(power.shape[1], dtype=power.dtype)
    for i, now in enumerate(posterior):
        prior = np.maximum(memory * before + (1 - memory) * np.maximum(now - 1, 0), 0.003)
        gains[i] = rule(prior, now)
        before = gains[i] ** 2 * now
    return np.asarray(gains)


def wiener(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float, over: float = 1.0) -> Signal:
    """Wiener filter with decision-directed a priori SNR; the noise is taken for `over` times what it is."""
    mix = mixture(signal, snr_db, rng, sources)
    power = np.abs(mix.noisy) ** 2
    return mix.heard(mix.noisy * decision_directed(power, over * tracked_noise(power, mix.hop), wiener_gain))


def mmse_lsa(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float, over: float = 1.0) -> Signal:
    """Log-spectral amplitude estimator; a high `over` suppresses speech with the noise."""
    mix = mixture(signal, snr_db, rng, sources)
    power = np.abs(mix.noisy) ** 2
    return mix.heard(mix.noisy * decision_directed(power, over * tracked_noise(power, mix.hop), lsa_gain))


# Masks as networks estimate them


def spoilt(mask: np.ndarray, rng: np.random.Generator, spread: float, blur: tuple[float, float] = (1.5, 1.5)) -> np.ndarray:
    """(F, K) mask in 0..1 with Gaussian errors of `spread` nepers in its logit, alike in neighbouring bins."""
    inside = np.clip(mask, 2e-3, 1 - 2e-3)
    logit = np.log(inside / (1 - inside)) + spread * smooth_noise(rng, mask.shape, blur)
    return np.asarray(1 / (1 + np.exp(-logit)), dtype=np.float32)


def ratio_mask(
    signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float, error: float = 1.0, sharpness: float = 0.5
) -> Signal:
    """Oracle ratio mask to the power `sharpness`, estimated with `error` (nepers in the logit)."""
    mix = mixture(signal, snr_db, rng, sources)
    return mix.heard(mix.noisy * spoilt(mix.ratio(), rng, error) ** sharpness)


def binary_mask(
    signal: Signal,
    rng: np.random.Generator,
    sources: Sources,
    /,
    *,
    snr_db: float,
    criterion_db: float = 0.0,
    flips: float = 0.0,
) -> Signal:
    """Keeps bins whose local SNR is above `criterion_db` and drops the others by 30 dB; the share `flips` is judged wrongly.

    Wang, "On ideal binary mask as the computational goal of auditory scene analysis", 2005.
    """
    mix = mixture(signal, snr_db, rng, sources)
    local = 10 ** (criterion_db / 10)
    keep = mix.ratio() > local / (1 + local)
    wrong = rng.random(keep.shape, dtype=np.float32) < flips
    return mix.heard(mix.noisy * np.where(keep ^ wrong, 1.0, 0.03).astype(np.float32))


def band_mask(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float, bands: int) -> Signal:
    """A ratio mask with one gain for each of few mel bands: noise between harmonics stays, or the harmonics go with it."""
    mix = mixture(signal, snr_db, rng, sources)
    means, back = mel_pair(bands, mix.size)
    speech, rest = (np.abs(part) ** 2 @ means for part in (mix.clean, mix.noise))
    return mix.heard(mix.noisy * np.sqrt((speech / (speech + rest + 1e-12)) @ back))


def slow_mask(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float, ms: float) -> Signal:
    """A ratio mask smeared over `ms`: onsets are dulled, noise trails behind words."""
    mix = mixture(signal, snr_db, rng, sources)
    return mix.heard(mix.noisy * np.sqrt(gaussian_filter1d(mix.ratio(), frames_per(ms, mix.hop), axis=0)))


def block_mask(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float, ms: float) -> Signal:
    """A mask that changes only every `ms`, as with long hops: its gains jump, and come late."""
    mix = mixture(signal, snr_db, rng, sources)
    step = max(1, round(frames_per(ms, mix.hop)))
    held = np.arange(len(mix.noisy)) // step * step
    return mix.heard(mix.noisy * mix.ratio()[held])


def short_window_mask(
    signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float, error: float = 1.5
) -> Signal:
    """Masks in windows of 4 ms, like a learned filter bank's: coarse in frequency, buzzing where they err."""
    mix = mixture(signal, snr_db, rng, sources, size=64)
    return mix.heard(mix.noisy * spoilt(mix.ratio(), rng, error, (2.0, 0.5)))


def complex_mask(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float, error: float) -> Signal:
    """The complex ratio that would give clean speech, bounded by 1.5, with complex errors: magnitude and phase go wrong."""
    mix = mixture(signal, snr_db, rng, sources)
    ideal = mix.clean * np.conj(mix.noisy) / (np.abs(mix.noisy) ** 2 + 1e-9)
    ideal *= np.minimum(1, 1.5 / (np.abs(ideal) + 1e-9))
    wrong = smooth_noise(rng, (*ideal.shape, 2), (1.0, 1.0, 0.0))
    scale = error * np.sqrt(mix.ratio() + 0.01)  # networks err where there is something to mistake
    return mix.heard((mix.noisy * (ideal + scale * (wrong[..., 0] + 1j * wrong[..., 1]))).astype(np.complex64))


def speech_distortion(
    signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float, error: float = 1.5
) -> Signal:
    """A mask meant for noise at `snr_db`, laid on the clean speech: no noise is left, speech is damaged."""
    mix = mixture(signal, snr_db, rng, sources)
    return mix.heard(mix.clean * spoilt(mix.ratio(), rng, error))


def mask_holes(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float, share: float) -> Signal:
    """Enhanced speech with patches of time and frequency lost: about `share` of the plane, 25 dB down."""
    mix = mixture(signal, snr_db, rng, sources)
    field = smooth_noise(rng, mix.noisy.shape, (frames_per(25, mix.hop), 150 / (RATE / mix.size)))
    gone = field < np.quantile(field, share)
    soft = gaussian_filter(1 - gone.astype(np.float32), (1.0, 1.0))
    return mix.heard(mix.noisy * np.sqrt(mix.ratio()) * (0.05 + 0.95 * soft))


def dull(
    signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float, cutoff: float, drop_db: float
) -> Signal:
    """Enhanced speech whose high band is taken for noise: down by `drop_db` above `cutoff` Hz, over half an octave."""
    mix = mixture(signal, snr_db, rng, sources)
    octaves = np.log2(np.maximum(bin_hz(mix.size), 1) / cutoff)
    slope = 10 ** (-drop_db / 20 * np.clip(2 * octaves, 0, 1))
    return mix.heard((mix.noisy * np.sqrt(spoilt(mix.ratio(), rng, 0.5)) * slope).astype(np.complex64))


# Gates: what is weak is taken for noise


def loudness(spectrum: np.ndarray) -> np.ndarray:
    """(F, K) -> (F,) dB below the loud frames (their 95th percentile)."""
    level = 10 * np.log10(np.mean(np.abs(spectrum) ** 2, axis=1) + 1e-9)
    return np.asarray(level - np.quantile(level, 0.95))


def onset_loss(
    signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float, threshold_db: float, late_ms: float
) -> Signal:
    """A gate that opens above `threshold_db` (under the loud frames) and `late_ms` late: onsets and weak phones are lost."""
    mix = mixture(signal, snr_db, rng, sources)
    heard = loudness(mix.clean) > threshold_db
    late = round(frames_per(late_ms, mix.hop))
    opened = minimum_filter1d(heard.astype(np.float32), late + 1, origin=late // 2, mode="nearest")  # looks back only
    gate = gaussian_filter1d(0.01 + 0.99 * opened, frames_per(6, mix.hop))
    return mix.heard(mix.noisy * (np.sqrt(mix.ratio()) * gate[:, None]))


def residual_gate(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float) -> Signal:
    """Noise passes with the speech and is shut out between words: it pumps."""
    mix = mixture(signal, snr_db, rng, sources)
    gate = gaussian_filter1d((loudness(mix.clean) > -25).astype(np.float32), frames_per(15, mix.hop))
    return mix.heard(mix.noisy * (0.01 + 0.99 * gate[:, None]))


def musical_residue(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float) -> Signal:
    """Speech untouched, the noise left as isolated tones of single bins: warbling."""
    mix = mixture(signal, snr_db, rng, sources, size=512)
    sparse = gaussian_filter((rng.random(mix.noise.shape, dtype=np.float32) < 0.02).astype(np.float32), (1.5, 0.4))
    residue = same_power(mix.heard(mix.noise * sparse / (np.sqrt(np.mean(sparse**2)) + 1e-9)), mix.heard(mix.noise))
    return np.asarray(signal + residue)


def leaking_talker(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float) -> Signal:
    """Another talker (a noise if there is none) comes through in patches, as when a network follows the wrong voice."""
    _, other = add_from(signal, sources.talkers or sources.noises, snr_db, rng, sources)
    clean, rest = stft(signal), stft(other)
    leak = smooth_noise(rng, rest.shape, (frames_per(120), 12)) + 0.3
    return istft(clean + rest * np.clip(leak, 0, 1.5), len(signal))


def noisy_phase(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float) -> Signal:
    """The magnitudes of clean speech with the phases of the mixture: what magnitude networks reach at best."""
    mix = mixture(signal, snr_db, rng, sources)
    return mix.heard(polar(np.abs(mix.clean), np.angle(mix.noisy)))


def phase_errors(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float, spread: float) -> Signal:
    """A ratio mask, and phases off by up to `spread` times pi, independent in every bin: hoarse and hollow."""
    mix = mixture(signal, snr_db, rng, sources)
    turned = spread * random_phase(rng, mix.noisy.shape)
    return mix.heard(mix.noisy * polar(np.sqrt(mix.ratio()), turned))


# RNNoise


@cache
def rnnoise_library() -> ctypes.CDLL:
    """The C library that the package pyrnnoise carries; its Python part wants an audio stack that nothing here needs."""
    spec = find_spec("pyrnnoise")
    ending = {"Darwin": "dylib", "Windows": "dll"}.get(platform.system(), "so")
    files = sorted(Path(str(spec.origin)).parent.glob(f"*rnnoise.{ending}")) if spec else []
    if not files:
        raise UsageError("RNNoise is not installed. Install it with: pip install --no-deps pyrnnoise")
    library = ctypes.CDLL(str(files[0]))
    library.rnnoise_create.restype = ctypes.c_void_p
    library.rnnoise_create.argtypes = [ctypes.c_void_p]
    library.rnnoise_destroy.argtypes = [ctypes.c_void_p]
    library.rnnoise_process_frame.restype = ctypes.c_float
    library.rnnoise_process_frame.argtypes = [ctypes.c_void_p] * 3
    return library


RNNOISE_RATE = 48_000  # Hz
RNNOISE_DELAY = 960  # samples at that rate


def rnnoise(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float) -> Signal:
    """RNNoise: a recurrent network of band gains and a pitch filter (Valin 2018)."""
    noisy, _ = add_noise(signal, snr_db, rng, sources)
    return _through_rnnoise(noisy)


def _through_rnnoise(signal: Signal) -> Signal:
    library = rnnoise_library()
    size = library.rnnoise_get_frame_size()
    scaled = np.asarray(soxr.resample(signal, RATE, RNNOISE_RATE), dtype=np.float32) * 32768  # as 16-bit samples
    n_frames = -(-(len(scaled) + RNNOISE_DELAY) // size)
    wave = fit(scaled, n_frames * size)
    state = library.rnnoise_create(None)
    try:
        for i in range(n_frames):
            here = wave.ctypes.data + i * size * wave.itemsize
            library.rnnoise_process_frame(state, here, here)
    finally:
        library.rnnoise_destroy(state)
    return fit(soxr.resample(wave[RNNOISE_DELAY:] / np.float32(32768), RNNOISE_RATE, RATE), len(signal))


def by_snr(*snrs: float, **fixed: float) -> tuple[dict[str, float], ...]:
    """A ladder of SNRs."""
    return tuple({"snr_db": snr, **fixed} for snr in snrs)


def by(name: str, *values: float, **fixed: float) -> tuple[dict[str, float], ...]:
    """A ladder of `values` of one setting."""
    return tuple({name: value, **fixed} for value in values)


DEGRADATIONS = (
    Degradation("spectral_subtraction", "enhancer", by_snr(25, 17, 10, 4, -2, -8), spectral_subtraction),
    Degradation(
        "oversubtraction",
        "enhancer",
        tuple(
            {"snr_db": 12, "over": over, "floor": floor}
            for over, floor in ((2, 0.1), (6, 0.01), (18, 1e-3), (60, 1e-4), (250, 1e-4))
        ),
        spectral_subtraction,
    ),
    Degradation("wiener", "enhancer", by_snr(25, 17, 10, 4, -2, -8), wiener),
    Degradation("mmse_lsa", "enhancer", by_snr(25, 17, 10, 4, -2, -8), mmse_lsa),
    Degradation("oversuppression", "enhancer", by("over", 1, 5, 20, 80, 300, snr_db=12), mmse_lsa),
    Degradation("ratio_mask", "enhancer", by_snr(20, 13, 7, 1, -5, -10), ratio_mask),
    Degradation("mask_errors", "enhancer", by("error", 0.5, 1.5, 3, 5, 8, snr_db=8, sharpness=1), ratio_mask),
    Degradation("binary_mask", "enhancer", by_snr(20, 12, 5, -2, -10), binary_mask),
    Degradation("strict_mask", "enhancer", by("criterion_db", 2, 9, 15, 20, 26, snr_db=12), binary_mask),
    Degradation("mask_flips", "enhancer", by("flips", 0.01, 0.05, 0.12, 0.25, 0.4, snr_db=10), binary_mask),
    Degradation("band_mask", "enhancer", by("bands", 48, 24, 12, 6, 2, snr_db=3), band_mask),
    Degradation("slow_mask", "enhancer", by("ms", 10, 40, 100, 300, 1000, snr_db=3), slow_mask),
    Degradation("block_mask", "enhancer", by("ms", 16, 48, 100, 200, 400, snr_db=12), block_mask),
    Degradation("short_window_mask", "enhancer", by_snr(20, 13, 7, 1, -5, -10), short_window_mask),
    Degradation("complex_mask", "enhancer", by("error", 0.1, 0.25, 0.5, 1.0, 2.0, snr_db=3), complex_mask),
    Degradation("speech_distortion", "enhancer", by_snr(15, 7, 0, -6, -12, -18), speech_distortion),
    Degradation("mask_holes", "enhancer", by("share", 0.03, 0.1, 0.2, 0.35, 0.55, 0.75, snr_db=15), mask_holes),
    Degradation(
        "dull",
        "enhancer",
        tuple(
            {"snr_db": 15, "cutoff": hz, "drop_db": db}
            for hz, db in ((5500, 10), (4500, 20), (3200, 30), (2200, 35), (1300, 40), (700, 45))
        ),
        dull,
    ),
    Degradation(
        "onset_loss",
        "enhancer",
        tuple(
            {"snr_db": 20, "threshold_db": db, "late_ms": ms}
            for db, ms in ((-38, 4), (-33, 16), (-28, 32), (-24, 50), (-20, 70), (-16, 95))
        ),
        onset_loss,
    ),
    Degradation("residual_gate", "enhancer", by_snr(25, 17, 10, 4, -2, -8), residual_gate),
    Degradation("musical_residue", "enhancer", by_snr(30, 22, 15, 8, 2, -4), musical_residue),
    Degradation("leaking_talker", "enhancer", by_snr(30, 20, 13, 7, 2, -3), leaking_talker),
    Degradation("noisy_phase", "enhancer", by_snr(12, 4, -3, -10, -20), noisy_phase),
    Degradation("phase_errors", "enhancer", by("spread", 0.15, 0.3, 0.5, 0.75, 1, snr_db=12), phase_errors),
    Degradation("rnnoise", "enhancer", by_snr(30, 20, 13, 7, 1, -5, -10), rnnoise, packages=("pyrnnoise",)),
)
