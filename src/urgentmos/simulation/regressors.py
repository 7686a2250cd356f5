"""Made enhancers that rewrite spectra instead of weighing bins: blurred regressions, resynthesis, inventions.

What a network does that was trained on distances (blur), on tokens (wrong phones without noise), or to please (hallucination).
"""

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from urgentmos.simulation.base import Degradation, Signal, Sources
from urgentmos.simulation.enhancers import Mixture, by, by_snr, mixture, spoilt
from urgentmos.simulation.transforms import (
    SIZE,
    codebook,
    frames_per,
    from_mel,
    griffin_lim,
    nearest_code,
    polar,
    random_phase,
    same_power,
    smooth_noise,
    to_mel,
    with_phase_of,
)


def logs(spectrum: np.ndarray) -> np.ndarray:
    """(F, K) complex -> (F, K) natural logarithms of magnitudes, never below ln 1e-4."""
    return np.asarray(np.log(np.abs(spectrum) + 1e-4))


def by_griffin_lim(mix: Mixture, magnitude: np.ndarray, iterations: int) -> Signal:
    """(F, K) -> (T,): phases begin as the mixture's."""
    return griffin_lim(magnitude, mix.noisy, mix.n_samples, iterations, mix.size, mix.hop)


def blur(
    signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float, ms: float, hz: float, iterations: int = 0
) -> Signal:
    """Log magnitudes blurred over `ms` and `hz`, as by a network that regresses to the mean; phases of the mixture, or
    Griffin-Lim's after `iterations`."""
    mix = mixture(signal, snr_db, rng, sources, size=SIZE)
    enhanced = mix.noisy * np.sqrt(mix.ratio())
    spread = (frames_per(ms, mix.hop), hz / 31.25)
    return by_griffin_lim(mix, np.exp(gaussian_filter(logs(enhanced), spread)), iterations)


def uncertain(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float) -> Signal:
    """Blur that grows where the mixture is noisy: clear peaks, washed-out valleys and weak phones."""
    mix = mixture(signal, snr_db, rng, sources, size=SIZE)
    sure = gaussian_filter(mix.ratio(), (1, 1))
    sharp = logs(mix.noisy * np.sqrt(mix.ratio()))
    vague = gaussian_filter(logs(mix.clean), (frames_per(50, mix.hop), 8))
    return by_griffin_lim(mix, np.exp(sure * sharp + (1 - sure) * vague), 1)


def mel_denoiser(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float, bands: int = 80) -> Signal:
    """Clean speech guessed in mel bands, wrongly where noise is strong, and made audible with phases of its own."""
    mix = mixture(signal, snr_db, rng, sources, size=1024)
    clean, noisy = to_mel(np.abs(mix.clean), bands), to_mel(np.abs(mix.noisy), bands)
    doubt = 1 - np.exp(2 * np.minimum(clean - noisy, 0))  # share of noise in the band's power
    smeared = gaussian_filter(clean, (frames_per(60, mix.hop), 3))
    wrong = 0.8 * smooth_noise(rng, clean.shape, (frames_per(20, mix.hop), 1.5))
    guess = (1 - doubt) * clean + doubt * (smeared + wrong)
    start = polar(np.ones(mix.noisy.shape, dtype=np.float32), np.angle(mix.noisy) + 0.2 * random_phase(rng, mix.noisy.shape))
    return griffin_lim(from_mel(guess, mix.size), start, mix.n_samples, 3, mix.size, mix.hop)


def token_denoiser(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float, codes: int = 160) -> Signal:
    """The mixture as the nearest of `codes` spectra of clean speech: no noise is left, but sounds are taken for others."""
    mix = mixture(signal, snr_db, rng, sources, size=SIZE)
    clean, noisy = to_mel(np.abs(mix.clean), 64), to_mel(np.abs(mix.noisy) * mix.ratio() ** 0.15, 64)
    book = codebook(rng, clean, codes)
    chosen = book[nearest_code(np.maximum(noisy, clean.min(axis=0)), book)]
    return by_griffin_lim(mix, from_mel(gaussian_filter1d(chosen, 0.5, axis=0), mix.size), 2)


def hallucinated(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float, share: float) -> Signal:
    """Enhanced speech with about `share` of its time replaced, in the whole band or half of it, by other parts of the clip."""
    mix = mixture(signal, snr_db, rng, sources, size=SIZE)
    plain = mix.noisy * np.sqrt(spoilt(mix.ratio(), rng, 0.5))
    out, (n_frames, n_bins) = plain.copy(), plain.shape
    length = min(max(4, round(frames_per(160, mix.hop))), n_frames)
    edge = np.minimum(1, np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1)) / 3)[:, None]
    level = np.abs(mix.clean).sum(axis=1) + 1e-6
    likely = level[: n_frames - length + 1] / level[: n_frames - length + 1].sum()  # where there is speech
    for _ in range(round(share * n_frames / length)):
        to, source = rng.choice(len(likely), 2, p=likely)
        low, high = ((0, n_bins), (0, n_bins), (n_bins // 8, n_bins), (0, n_bins // 4))[int(rng.integers(4))]
        part = plain[source : source + length, low:high]
        gain = min(3.0, float(level[to : to + length].sum() / level[source : source + length].sum()))
        out[to : to + length, low:high] = (1 - edge) * out[to : to + length, low:high] + edge * gain * part
    return mix.heard(out)


def babbled(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, snr_db: float) -> Signal:
    """The noise itself, turned into speech-like sound: its loud moments get spectra of the talker."""
    mix = mixture(signal, snr_db, rng, sources, size=SIZE)
    clean, rest = to_mel(np.abs(mix.clean), 48), to_mel(np.abs(mix.noise), 48)
    book = codebook(rng, clean, 64)
    shape = book[nearest_code(rest - rest.mean() + clean.mean(), book)]
    level = np.log(np.abs(mix.noise).mean(axis=1) + 1e-6)[:, None]
    voice = from_mel(gaussian_filter1d(shape - shape.mean(axis=1, keepdims=True), 1.0, axis=0) + level, mix.size)
    mixed = same_power(mix.heard(with_phase_of(voice, mix.noise)), mix.heard(mix.noise))
    return np.asarray(signal + mixed)


DEGRADATIONS = (
    Degradation(
        "blur",
        "enhancer",
        tuple({"snr_db": 15, "ms": ms, "hz": hz} for ms, hz in ((4, 10), (8, 25), (14, 45), (25, 90), (45, 200), (90, 400))),
        blur,
    ),
    Degradation(
        "blur_griffin_lim",
        "enhancer",
        tuple(
            {"snr_db": 10, "ms": ms, "hz": hz, "iterations": 6}
            for ms, hz in ((5, 10), (10, 30), (18, 60), (35, 120), (70, 300))
        ),
        blur,
    ),
    Degradation("blur_time", "enhancer", by("ms", 8, 16, 30, 60, 120, snr_db=15, hz=5), blur),
    Degradation("blur_frequency", "enhancer", by("hz", 15, 40, 100, 250, 600, snr_db=15, ms=3), blur),
    Degradation("uncertain", "enhancer", by_snr(20, 12, 5, -2, -9, -16), uncertain),
    Degradation("mel_denoiser", "enhancer", by_snr(25, 16, 8, 1, -6, -13), mel_denoiser),
    Degradation("token_denoiser", "enhancer", by_snr(30, 20, 12, 5, -2, -9), token_denoiser),
    Degradation("hallucinated", "enhancer", by("share", 0.04, 0.12, 0.25, 0.5, 0.9, 1.6, snr_db=15), hallucinated),
    Degradation("babbled", "enhancer", by_snr(30, 22, 15, 9, 3, -3), babbled),
)
