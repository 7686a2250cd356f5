"""Made neural vocoders and codecs: spectra and features that are thinned, quantised or blurred, and turned into sound again.

The magnitudes come from the clean speech, so what is heard is the damage of the synthesis alone, in time with the original.
"""

from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from scipy.signal import resample_poly

from urgentmos.simulation.base import RATE, Degradation, Signal, Sources, fit, power
from urgentmos.simulation.enhancers import by
from urgentmos.simulation.transforms import (
    HOP,
    SIZE,
    bin_hz,
    codebook,
    frames_per,
    from_mel,
    griffin_lim,
    imdct,
    istft,
    mdct,
    nearest_code,
    polar,
    random_phase,
    same_power,
    smooth_noise,
    stft,
    to_mel,
)


def phases(spectrum: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """(F, K) unit spectrum: the phases of `spectrum`, turned by up to `share` times pi."""
    return polar(np.ones(spectrum.shape, dtype=np.float32), np.angle(spectrum) + share * random_phase(rng, spectrum.shape))


def spoken(
    signal: Signal, logs: np.ndarray, rng: np.random.Generator, turned: float, iterations: int = 2, size: int = SIZE
) -> Signal:
    """(T,) from (F, M) log mel magnitudes: phases begin as those of `signal`, turned by up to `turned` times pi."""
    start = phases(stft(signal, size, size // 4), rng, turned)
    return same_power(griffin_lim(from_mel(logs, size), start, len(signal), iterations, size, size // 4), signal)


def respoken(signal: Signal, logs: np.ndarray, rng: np.random.Generator, turned: float = 0.2) -> Signal:
    """As `spoken`, at windows of 64 ms, but the harmonics between the bands are the original's: what good decoders restore."""
    spectrum = stft(signal, 1024, 256)
    change = np.clip(logs - to_mel(np.abs(spectrum), logs.shape[1]), -6, 4)
    start = phases(spectrum, rng, turned)
    return same_power(griffin_lim(np.abs(spectrum) * from_mel(change, 1024), start, len(signal), 1, 1024, 256), signal)


def mel_of(signal: Signal, bands: int, size: int = SIZE) -> np.ndarray:
    """(T,) -> (F, M) log mel magnitudes, hop a quarter of `size`."""
    return to_mel(np.abs(stft(signal, size, size // 4)), bands)


# Mel spectrograms and phases


def griffin_lim_mel(
    signal: Signal, rng: np.random.Generator, sources: Sources, /, *, bands: int, iterations: int = 8
) -> Signal:
    """`bands` mel bands and phases found by Griffin-Lim, from a start that only just tells where the pulses are."""
    return spoken(signal, mel_of(signal, bands, 1024), rng, 0.8, iterations, 1024)


def mel_mixed_phase(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, bands: int, turned: float) -> Signal:
    """Mel magnitudes with the original phases, turned at random by up to `turned` times pi."""
    spectrum = stft(signal, 1024, 256)
    magnitude = from_mel(to_mel(np.abs(spectrum), bands), 1024)
    return istft(magnitude * phases(spectrum, rng, turned), len(signal), 1024, 256)


def mixed_phase(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, turned: float) -> Signal:
    """The original magnitudes, phases turned at random by up to `turned` times pi: hollow and hoarse."""
    spectrum = stft(signal)
    return istft(np.abs(spectrum) * phases(spectrum, rng, turned), len(signal))


def quantised_phase(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, levels: int) -> Signal:
    """Phases rounded to `levels` directions: a metallic ring."""
    spectrum = stft(signal)
    step = 2 * np.pi / levels
    return istft(polar(np.abs(spectrum), step * np.round(np.angle(spectrum) / step)), len(signal))


def zeroed_phase(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, share: float, size: int = SIZE) -> Signal:
    """Phases pulled towards zero by `share`: a pulse in every frame, the buzz of a robot at the frame rate."""
    spectrum = stft(signal, size, size // 4)
    centre = (-1.0) ** np.arange(spectrum.shape[1])  # phase zero is a pulse in the middle of the window
    pulled = polar(np.abs(spectrum), (1 - share) * np.angle(spectrum * centre))
    return istft((pulled * centre).astype(np.complex64), len(signal), size, size // 4)


def minimum_phase(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, bands: int) -> Signal:
    """Each frame's mel envelope with its minimum phase (folded cepstrum), in place of the original phases."""
    magnitude = from_mel(mel_of(signal, bands))
    cepstrum = np.fft.irfft(np.log(magnitude + 1e-6), axis=1)
    half = SIZE // 2
    cepstrum[:, 1:half] *= 2
    cepstrum[:, half + 1 :] = 0
    centre = (-1.0) ** np.arange(half + 1)  # the response begins in the middle of the window
    return istft((np.exp(np.fft.rfft(cepstrum, axis=1)) * centre).astype(np.complex64), len(signal))


def noise_above(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, hz: float, bands: int = 40) -> Signal:
    """Noise with the mel envelope of the speech above `hz`, speech below."""
    spectrum = stft(signal)
    high = np.asarray(bin_hz() > hz)[None]
    shaped = from_mel(to_mel(np.abs(spectrum), bands)) * polar(
        np.sqrt(rng.exponential(size=spectrum.shape)), random_phase(rng, spectrum.shape)
    )
    return istft(np.where(high, shaped, spectrum).astype(np.complex64), len(signal))


def random_phase_above(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, hz: float) -> Signal:
    """Phases at random above `hz`, magnitudes kept."""
    spectrum = stft(signal)
    return istft(np.where((bin_hz() > hz)[None], np.abs(spectrum) * phases(spectrum, rng, 1), spectrum), len(signal))


def noise_excitation(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, share: float, bands: int = 24) -> Signal:
    """The share `share` of the power of each mel band is noise: breathy to whispered."""
    spectrum = stft(signal)
    envelope = from_mel(to_mel(np.abs(spectrum), bands))
    hiss = stft(rng.standard_normal(len(signal)).astype(np.float32)) / np.sqrt(SIZE / 2)
    return istft((np.sqrt(1 - share) * spectrum + np.sqrt(share) * envelope * hiss).astype(np.complex64), len(signal))


def displaced_frames(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, ms: float) -> Signal:
    """Frames of 32 ms put together each up to `ms` early or late: rough, fluttering, incoherent overlap-add."""
    spectrum = stft(signal)
    late = ms / 1000 * (2 * rng.random(len(spectrum)) - 1)
    shift = np.exp(-2j * np.pi * late[:, None] * bin_hz()[None])
    return istft((spectrum * shift).astype(np.complex64), len(signal))


# Features: quantised, thinned, blurred


def quantised_mel(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, step_db: float, bands: int = 64) -> Signal:
    """Log mel magnitudes rounded to steps of `step_db`."""
    step = step_db * np.log(10) / 20
    return respoken(signal, step * np.round(mel_of(signal, bands, 1024) / step), rng)


def residual_quantised(
    signal: Signal,
    rng: np.random.Generator,
    sources: Sources,
    /,
    *,
    stages: int,
    codes: int,
    turned: float = 0.2,
    hollow: bool = False,
) -> Signal:
    """Mel frames through `stages` codebooks of the clip's own `codes` k-means, each for what the one before left over.

    `hollow`: without the harmonics between the bands.
    """
    rest = mel_of(signal, 80, 1024)
    total = np.zeros_like(rest)
    for _ in range(stages):
        book = codebook(rng, rest, codes, rounds=4)
        chosen = book[nearest_code(rest, book)]
        total, rest = total + chosen, rest - chosen
    return spoken(signal, total, rng, turned, size=1024) if hollow else respoken(signal, total, rng, turned)


def projected(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, bits: float, dims: int = 24) -> Signal:
    """Mel frames as random projections, rounded to about `bits` each: a latent space that knows nothing of hearing."""
    logs = mel_of(signal, 64, 1024)
    basis = np.linalg.qr(rng.standard_normal((64, 64)))[0][:, : max(2, dims)].astype(np.float32)
    mean = logs.mean(axis=0)
    latent = (logs - mean) @ basis
    step = 4 * latent.std(axis=0) / 2**bits + 1e-6
    smooth = gaussian_filter1d(logs - mean, 1, axis=0)
    rest = smooth - smooth @ basis @ basis.T  # the decoder's notion of what the projections left out
    return respoken(signal, mean + (step * np.round(latent / step)) @ basis.T + rest, rng)


def low_rank(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, rank: int) -> Signal:
    """The log mel spectrogram through a bottleneck of `rank` components (its best ones)."""
    logs = mel_of(signal, 80, 1024)
    mean = logs.mean(axis=0)
    left, scale, right = np.linalg.svd(logs - mean, full_matrices=False)
    return respoken(signal, mean + (left[:, :rank] * scale[:rank]) @ right[:rank], rng)


def slow_features(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, rate: float) -> Signal:
    """Mel frames at `rate` per second, interpolated between: transitions are blurred."""
    logs = mel_of(signal, 80, 1024)
    period = RATE / 256 / rate
    averaged = gaussian_filter1d(logs, period / 3, axis=0)
    at = np.arange(len(logs))
    knots = np.arange(0, len(logs) + period, period)
    left = np.clip(np.floor(at / period).astype(int), 0, len(knots) - 2)
    share = (at / period - left)[:, None]
    at_knots = averaged[np.clip(np.round(knots).astype(int), 0, len(logs) - 1)]
    return respoken(signal, (1 - share) * at_knots[left] + share * at_knots[left + 1], rng)


def held_features(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, ms: float) -> Signal:
    """Mel frames that change only every `ms`: stuck tokens."""
    logs = mel_of(signal, 80)
    step = max(1, round(frames_per(ms)))
    held = np.minimum(np.arange(len(logs)) // step * step + step // 2, len(logs) - 1)
    return spoken(signal, logs[held], rng, 0.4)


def feature_noise(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, spread_db: float) -> Signal:
    """Gaussian errors of `spread_db` in the log mel magnitudes, alike over 25 ms and two bands: gargling."""
    logs = mel_of(signal, 64, 1024)
    wrong = smooth_noise(rng, logs.shape, (0.7, 1.0))
    return respoken(signal, logs + spread_db * np.log(10) / 20 * wrong, rng)


def wrong_tokens(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, share: float, codes: int = 200) -> Signal:
    """Frames as tokens of a codebook, the share `share` of 48 ms pieces swapped for one of the nearest others."""
    logs = mel_of(signal, 64)
    book = codebook(rng, logs, codes, rounds=4)
    tokens = nearest_code(logs, book)
    near = np.argsort(((book[:, None] - book[None]) ** 2).sum(axis=2), axis=1)
    pieces = np.arange(len(logs)) // 6
    drawn, rank = rng.random(pieces[-1] + 1), rng.integers(2, 40, pieces[-1] + 1)
    other = near[tokens, np.minimum(rank, len(book) - 1)[pieces]]
    chosen = gaussian_filter1d(book[np.where(drawn[pieces] < share, other, tokens)], 0.6, axis=0)
    return spoken(signal, chosen, rng, 0.4)


def partials(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, count: int) -> Signal:
    """Only the `count` strongest spectral peaks of each frame: a sinusoidal model with too few sines.

    After McAulay and Quatieri 1986, without their tracks.
    """
    spectrum = stft(signal, 1024, 256)
    level = np.pad(np.abs(spectrum), ((0, 0), (1, 1)))
    peak = np.where((level[:, 1:-1] >= level[:, :-2]) & (level[:, 1:-1] >= level[:, 2:]), level[:, 1:-1], 0)
    least = -np.partition(-peak, count - 1, axis=1)[:, count - 1 : count]
    kept = ((peak >= least) & (peak > 0)).astype(np.float32)
    around = np.pad(kept, ((0, 0), (1, 1)))
    near = np.maximum(np.maximum(around[:, :-2], around[:, 2:]), kept)
    return istft(spectrum * near, len(signal), 1024, 256)


def spectral_holes(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, share: float) -> Signal:
    """About `share` of time and frequency empty, the weakest parts first: what a starved codec drops."""
    spectrum = stft(signal)
    level = np.log(gaussian_filter(np.abs(spectrum), (1, 1)) + 1e-5)
    field = (level - gaussian_filter1d(level, 40, axis=1)) + 1.0 * smooth_noise(rng, level.shape, (2, 3))
    gone = (field < np.quantile(field, share)).astype(np.float32)
    return istft(spectrum * (1 - gaussian_filter(gone, (0.7, 0.7))), len(signal))


# High bands that are made up


def copied_band(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, hz: float, bands: int = 12) -> Signal:
    """Above `hz` the low band again, with a coarse envelope of the original: spectral band replication's wrong harmonics."""
    spectrum = stft(signal)
    cut = round(hz / RATE * SIZE)
    index = np.arange(spectrum.shape[1])
    low = max(2, cut // 4)
    source = np.where(index < cut, index, low + (index - cut) % max(1, cut - low))
    copied = spectrum[:, source]
    wanted, envelope = (from_mel(gaussian_filter1d(to_mel(np.abs(x), bands), 3, axis=0)) for x in (spectrum, copied))
    return istft(np.where(index < cut, spectrum, copied * np.minimum(wanted / (envelope + 1e-5), 30)), len(signal))


def mirrored_band(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, hz: float, tilt_db: float) -> Signal:
    """Above `hz` a mirror image of what is below, `tilt_db` down: a bandwidth extension that knows no envelope."""
    spectrum = stft(signal)
    cut = round(hz / RATE * SIZE)
    index = np.arange(spectrum.shape[1])
    source = np.abs((index + cut) % (2 * cut) - cut)  # a triangle: up to the cut and down again
    gain = np.where(index > cut, 10 ** (-tilt_db / 20), 1).astype(np.float32)
    return istft(spectrum[:, source] * gain, len(signal))


def upsampling_images(
    signal: Signal, rng: np.random.Generator, sources: Sources, /, *, image_db: float, factor: int = 2
) -> Signal:
    """Upsampled by `factor` with images only `image_db` below the speech, as transposed convolutions leave them."""
    n = len(signal)
    low = resample_poly(signal, 1, factor)
    smooth = fit(resample_poly(low, factor, 1), n)
    stuffed = np.zeros(len(low) * factor, dtype=np.float32)
    stuffed[::factor] = factor * low
    original_high = signal - smooth
    images = fit(stuffed, n) - smooth
    return np.asarray((smooth + 0.5 * original_high + 10 ** (image_db / 20) * images).astype(np.float32))


# Transform codecs


def quantised(coefficients: np.ndarray, weight: np.ndarray, bits: float) -> np.ndarray:
    """(F, N) rounded with steps in proportion to `weight` (F, N), so coarse that about `bits` in all are enough."""
    low, high = -12.0, 12.0  # natural logarithm of the common step
    for _ in range(14):
        middle = (low + high) / 2
        level = np.abs(np.round(coefficients / (np.exp(middle) * weight)))
        # one bit for being there, in the mean less where most are zero; then size and sign, as in Elias's gamma code
        there = level > 0
        share = there.mean(axis=0) + 1e-6
        flags = -len(level) * (share * np.log2(share) + (1 - share + 1e-6) * np.log2(1 - share + 1e-6))
        if flags.sum() + (1 + 2 * np.log2(level[there])).sum() > bits:
            low = middle
        else:
            high = middle
    step = np.exp(high) * weight
    return np.asarray(step * np.round(coefficients / step), dtype=np.float32)


def transform_codec(
    signal: Signal, rng: np.random.Generator, sources: Sources, /, *, kbps: float, hop: int = 320, shaping: float = 0.6
) -> Signal:
    """A small transform codec: MDCT, steps that follow the spectral envelope to the power `shaping`, about `kbps` of payload.

    A long `hop` spreads what is lost ahead of onsets: pre-echo.
    """
    coefficients = mdct(signal, hop)
    energy = gaussian_filter(coefficients**2, (0.5, max(1.0, hop / 80)))
    kept = quantised(coefficients, (energy + 1e-9) ** (shaping / 2), 1000 * kbps * len(signal) / RATE)
    return imdct(kept, len(signal))


def shape_codec(
    signal: Signal, rng: np.random.Generator, sources: Sources, /, *, bits: float, width: int, hop: int = 256
) -> Signal:
    """Band energies kept, the shape of each band of `width` coefficients one of 2**bits random ones: noisy, garbled texture."""
    coefficients = mdct(signal, hop)
    bands = coefficients.reshape(-1, width)
    gain = np.linalg.norm(bands, axis=1, keepdims=True) + 1e-9
    shapes = rng.standard_normal((512, width)).astype(np.float32)[: max(2, round(2**bits))]
    shapes /= np.linalg.norm(shapes, axis=1, keepdims=True)
    match = (bands / gain) @ shapes.T
    best = np.argmax(np.abs(match), axis=1)
    sign = np.sign(match[np.arange(len(best)), best])[:, None]
    return imdct((gain * sign * shapes[best]).reshape(coefficients.shape), len(signal))


def latent_codec(
    signal: Signal, rng: np.random.Generator, sources: Sources, /, *, stages: int, codes: int, hop: int = 64
) -> Signal:
    """Waveform blocks through residual codebooks of the clip's own k-means, per band: a neural codec at low bit rates."""
    coefficients = mdct(signal, hop)
    level = np.sqrt(gaussian_filter1d((coefficients**2).mean(axis=1, keepdims=True), 2, axis=0)) + 1e-5
    rest = coefficients / level
    total = np.zeros_like(rest)
    for low, high in ((0, 6), (6, 12), (12, 24), (24, 40), (40, 64)):  # narrower where hearing is sharper
        low, high = low * hop // 64, high * hop // 64
        for _ in range(stages):
            book = codebook(rng, rest[:, low:high], codes, rounds=3)
            chosen = book[nearest_code(rest[:, low:high], book)]
            total[:, low:high] += chosen
            rest[:, low:high] -= chosen
    return imdct(total * level, len(signal))


# Periodic artefacts


def envelope_of(signal: Signal, ms: float = 10) -> np.ndarray:
    """(T,) root mean square around each sample."""
    return np.asarray(np.sqrt(gaussian_filter1d(np.square(signal, dtype=np.float64), ms / 1000 * RATE)))


def frame_buzz(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, level_db: float, rate: float = 75.0) -> Signal:
    """A buzz at multiples of the frame rate of a decoder, as loud as the speech plus `level_db`, moment by moment."""
    t = np.arange(len(signal)) / RATE
    weights = rng.random(20) / np.sqrt(np.arange(1, 21))
    offsets = 2 * np.pi * rng.random(20)
    turn = 2 * np.pi * np.arange(2048)[:, None] / 2048 * np.arange(1, 21)
    cycle = np.cos(turn + offsets) @ weights / np.sqrt(0.5 * np.sum(weights**2))
    tone = cycle[(2048 * rate * t).astype(int) % 2048]
    level = 10 ** (level_db / 20) * (envelope_of(signal, 30) + 0.02 * np.sqrt(power(signal)))
    return np.asarray((signal + level * tone).astype(np.float32))


def checkerboard(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, depth: float, period: int = 4) -> Signal:
    """Samples weighed by a pattern that repeats every `period`: images of the speech at fractions of the rate."""
    pattern = rng.standard_normal(period)
    pattern = (pattern - pattern.mean()) / (pattern.std() + 1e-9)
    return np.asarray((signal * (1 + depth * np.resize(pattern, len(signal)))).astype(np.float32))


def frame_tremor(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, depth: float, rate: float = 50.0) -> Signal:
    """Bands tremble at the frame rate, each with its own phase: roughness of frames that do not fit together."""
    spectrum = stft(signal, 128, 32)
    t = np.arange(len(spectrum))[:, None] * 32 / RATE
    offset = 2 * np.pi * np.repeat(rng.random(9), 8)[:65][None]
    tremor = np.exp(depth * np.cos(2 * np.pi * rate * t + offset))
    return same_power(istft((spectrum * tremor).astype(np.complex64), len(signal), 128, 32), signal)


def metallic(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, share: float) -> Signal:
    """Narrow resonances at random frequencies that ring on for 60 ms, mixed in by `share`."""
    spectrum = stft(signal)
    ringing = np.where(rng.random(spectrum.shape[1]) < 0.12, np.float32(1), np.float32(0))
    decay = np.exp(-HOP / RATE / 0.06)
    ring, out = np.zeros(spectrum.shape[1], dtype=np.complex64), spectrum.copy()
    turn = np.exp(2j * np.pi * bin_hz() * HOP / RATE) * decay
    for i, now in enumerate(spectrum):
        ring = (ring * turn + (1 - decay) * now).astype(np.complex64)
        out[i] = (1 - 0.7 * share) * now + 6 * share * ringing * ring
    return istft(out, len(signal))


def smeared_transients(signal: Signal, rng: np.random.Generator, sources: Sources, /, *, size: int, turned: float) -> Signal:
    """Phases turned by up to `turned` times pi in windows of `size` samples, at the level of the original: a choir's smear."""
    spectrum = stft(signal, size, size // 4)
    return same_power(istft(np.abs(spectrum) * phases(spectrum, rng, turned), len(signal), size, size // 4), signal)


def ladder(**columns: tuple[Any, ...]) -> tuple[dict[str, Any], ...]:
    """Settings from columns of equal length."""
    return tuple(dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


DEGRADATIONS = (
    Degradation("griffin_lim_mel", "vocoder", by("bands", 80, 40, 24, 16, 10, 6), griffin_lim_mel),
    Degradation(
        "mel_mixed_phase",
        "vocoder",
        ladder(bands=(80, 80, 64, 48, 32, 20), turned=(0.05, 0.25, 0.4, 0.6, 0.8, 1.0)),
        mel_mixed_phase,
    ),
    Degradation("mixed_phase", "vocoder", by("turned", 0.15, 0.3, 0.45, 0.6, 0.8, 1.0), mixed_phase),
    Degradation("quantised_phase", "vocoder", by("levels", 8, 5, 4, 3, 2), quantised_phase),
    Degradation("zeroed_phase", "vocoder", by("share", 0.1, 0.25, 0.45, 0.7, 1.0), zeroed_phase),
    Degradation("robot", "vocoder", by("share", 0.15, 0.35, 0.6, 1.0, size=1024), zeroed_phase),
    Degradation("minimum_phase", "vocoder", ({"bands": 32},), minimum_phase),
    Degradation("noise_above", "vocoder", by("hz", 6500, 5000, 3500, 2200, 1200, 500), noise_above),
    Degradation("random_phase_above", "vocoder", by("hz", 6000, 4000, 2500, 1500, 700, 0), random_phase_above),
    Degradation("noise_excitation", "vocoder", by("share", 0.01, 0.04, 0.12, 0.3, 0.6, 1.0), noise_excitation),
    Degradation("displaced_frames", "vocoder", by("ms", 0.06, 0.15, 0.35, 0.8, 1.8, 5), displaced_frames),
    Degradation("quantised_mel", "vocoder", by("step_db", 1, 4, 8, 14, 22, 35), quantised_mel),
    Degradation(
        "residual_quantised",
        "vocoder",
        ladder(stages=(8, 4, 3, 2, 1, 1), codes=(64, 64, 32, 24, 16, 6)),
        residual_quantised,
    ),
    Degradation(
        "residual_quantised_hollow",
        "vocoder",
        ladder(stages=(6, 4, 2, 1, 1), codes=(64, 48, 32, 24, 8), turned=(0.2, 0.4, 0.6, 0.8, 1.0), hollow=(True,) * 5),
        residual_quantised,
    ),
    Degradation("projected", "vocoder", ladder(bits=(5, 3, 2, 1.3, 0.7), dims=(60, 56, 48, 48, 48)), projected),
    Degradation("low_rank", "vocoder", by("rank", 32, 16, 8, 4, 2, 1), low_rank),
    Degradation("slow_features", "vocoder", by("rate", 50, 25, 16, 11, 7, 4), slow_features),
    Degradation("held_features", "vocoder", by("ms", 16, 32, 64, 120, 240, 480), held_features),
    Degradation("feature_noise", "vocoder", by("spread_db", 1, 3, 5, 8, 12, 18), feature_noise),
    Degradation("wrong_tokens", "vocoder", by("share", 0.03, 0.1, 0.25, 0.5, 0.9), wrong_tokens),
    Degradation("partials", "vocoder", by("count", 80, 40, 20, 10, 5, 2), partials),
    Degradation("spectral_holes", "vocoder", by("share", 0.1, 0.25, 0.45, 0.65, 0.8, 0.92), spectral_holes),
    Degradation("copied_band", "vocoder", by("hz", 6000, 4000, 2800, 1800, 1000), copied_band),
    Degradation(
        "mirrored_band", "vocoder", ladder(hz=(7000, 6000, 4500, 3000, 1800), tilt_db=(24, 20, 16, 12, 8)), mirrored_band
    ),
    Degradation("upsampling_images", "vocoder", by("image_db", -40, -30, -20, -12, -5, 2), upsampling_images),
    Degradation("upsampling_images_4", "vocoder", by("image_db", -44, -34, -24, -15, -7, 0, factor=4), upsampling_images),
    Degradation("transform_codec", "vocoder", by("kbps", 40, 24, 14, 8, 5, 3), transform_codec),
    Degradation("pre_echo", "vocoder", by("kbps", 40, 22, 12, 7, 4, 2.5, hop=1024, shaping=0.4), transform_codec),
    Degradation("shape_codec", "vocoder", ladder(bits=(4, 9, 6, 8, 4, 1), width=(2, 4, 4, 8, 8, 8)), shape_codec),
    Degradation("latent_codec", "vocoder", ladder(stages=(6, 4, 3, 2, 1, 1), codes=(64, 48, 32, 24, 16, 5)), latent_codec),
    Degradation("frame_buzz", "vocoder", by("level_db", -35, -26, -18, -11, -4, 3), frame_buzz),
    Degradation("frame_buzz_12", "vocoder", by("level_db", -32, -22, -14, -6, 2, rate=12.5), frame_buzz),
    Degradation("checkerboard", "vocoder", by("depth", 0.01, 0.04, 0.1, 0.25, 0.6), checkerboard),
    Degradation("checkerboard_8", "vocoder", by("depth", 0.01, 0.04, 0.1, 0.25, 0.6, period=8), checkerboard),
    Degradation("frame_tremor", "vocoder", by("depth", 0.1, 0.25, 0.5, 0.9, 1.8), frame_tremor),
    Degradation("metallic", "vocoder", by("share", 0.05, 0.15, 0.3, 0.6, 1.0), metallic),
    Degradation(
        "smeared_transients",
        "vocoder",
        ladder(size=(1024, 1024, 2048, 4096, 8192), turned=(0.3, 0.5, 0.6, 0.7, 0.8)),
        smeared_transients,
    ),
)
