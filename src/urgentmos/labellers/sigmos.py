"""SIGMOS: overall quality and six dimensions of it (ITU-T P.804), from one ONNX model at 48 kHz.

Ristea et al. 2024, "ICASSP 2024 Speech Signal Improvement Challenge"; the dimensions are those of the listening test of
arXiv 2309.07385. Model file `model-sigmos_1697718653_41d092e8-epo-200.onnx` of microsoft/SIG-Challenge.

Facts of the input, as several public copies of that repository's script agree on them (the script itself was not at
hand): square root of a periodic Hann window, 960 samples, hop 480, 480 zeros before the clip; magnitude compressed with
exponent 0.3; outputs in the order of `OUTPUTS`; the whole clip at once. The original resamples in the frequency domain
(scipy) and we with soxr HQ, so a file that is not at 48 kHz scores slightly differently.
"""

import numpy as np

from urgentmos.labellers import Measure, Settings, Signals, hub

RATE = 48_000
WINDOW = 960  # samples; 481 bins
HOP = 480
EXPONENT = 0.3  # of the magnitude
POWER_FLOOR = 1e-12
OUTPUTS = ("col", "disc", "loud", "noise", "reverb", "sig", "ovrl")


def load(settings: Settings) -> Measure:
    """`measure` with the ONNX file named by `settings.weights["sigmos"]`; it runs on the CPU, on one thread.

    `measure` returns {"sigmos_ovrl", "sigmos_sig", "sigmos_noise", "sigmos_col", "sigmos_disc", "sigmos_loud",
    "sigmos_reverb"}, each about 1..5, not clamped. MeasureError for an empty clip or one too short for the model.
    """
    session = hub.onnx_session("sigmos", settings)
    hub.check_onnx("sigmos", session, features(np.zeros(RATE, np.float32)), outputs=len(OUTPUTS))

    def measure(signals: Signals) -> dict[str, float]:
        wave, _ = signals.at(RATE)
        hub.check_length(len(wave), 1, RATE)
        scores = hub.run_onnx(session, features(wave))
        return {f"sigmos_{name}": hub.finite(float(score)) for name, score in zip(OUTPUTS, scores, strict=True)}

    return measure


def features(wave: np.ndarray) -> np.ndarray:
    """(T,) at 48 kHz -> (1, 3, F, 481) float32: compressed magnitude, and real and imaginary part scaled alike.

    F = ceil(T / 480) + 1 frames, 100 a second.
    """
    spectrum = stft(wave)
    power = np.maximum(spectrum.real**2 + spectrum.imag**2, np.float32(POWER_FLOOR))
    scale = power ** np.float32((EXPONENT - 1) / 2)
    magnitude = power ** np.float32(EXPONENT / 2)
    return np.stack([magnitude, spectrum.real * scale, spectrum.imag * scale]).astype(np.float32)[None]


def stft(wave: np.ndarray) -> np.ndarray:
    """(T,) -> (F, 481) complex64; the clip lies between 480 zeros and as many as complete the last two windows."""
    from scipy.fft import rfft

    window = np.sin(np.pi * np.arange(WINDOW) / WINDOW).astype(np.float32)  # the root of a periodic Hann window
    padded = np.pad(wave.astype(np.float32, copy=False), (HOP, -len(wave) % HOP + HOP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]  # (F, 960)
    return np.asarray(rfft(frames * window), dtype=np.complex64)
