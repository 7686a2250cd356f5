"""DNSMOS P.835 (OVRL, SIG, BAK; Reddy et al. 2022) and P.808 (Reddy et al. 2021), with the models that `speechmos` carries.

Windows of 9.01 s every second; shorter clips are repeated by doubling; the three P.835 outputs go through polynomials.
Computed here from the ONNX files, because the package imports librosa, uses every core and refuses samples beyond +-1.
"""

import numpy as np

from urgentmos.audio.spectra import centred_stft, mel_filters
from urgentmos.errors import MeasureError
from urgentmos.labellers import Measure, Settings, Signals
from urgentmos.labellers.onnx import packaged, session

RATE = 16_000
WINDOW_SECONDS = 9.01
WINDOW = 144_160
POLYNOMIALS = {  # raw network output -> opinion score, highest power first
    "dnsmos_sig": (-0.08397278, 1.22083953, 0.0052439),
    "dnsmos_bak": (-0.13166888, 1.60915514, -0.39604546),
    "dnsmos_ovrl": (-0.06766283, 1.11546468, 0.04602535),
}


def load(settings: Settings) -> Measure:
    p835 = session(packaged("speechmos", "dnsmos_models/sig_bak_ovr.onnx"))
    p808 = session(packaged("speechmos", "dnsmos_models/model_v8.onnx"))

    def measure(signals: Signals) -> dict[str, float]:
        wave, _ = signals.at(RATE)
        raw, opinions = [], []
        for window in windows(wave):  # a batch of windows takes as long, and memory without bound
            raw.append(p835.run(None, {"input_1": window[None]})[0][0])
            opinions.append(p808.run(None, {"input_1": log_mel(window[:-160])[None]})[0][0])
        scores = {name: np.polyval(p, np.array(raw)[:, i]).mean() for i, (name, p) in enumerate(POLYNOMIALS.items())}
        return {name: float(value) for name, value in {**scores, "dnsmos_p808": np.mean(opinions)}.items()}

    return measure


def windows(wave: np.ndarray) -> np.ndarray:
    """(T,) -> (n, WINDOW): whole windows, one second apart."""
    if len(wave) == 0:
        raise MeasureError("the clip holds no samples")
    while len(wave) < WINDOW:
        wave = np.concatenate([wave, wave])
    # the count is the original's: a clip whose length is no whole number of seconds may end before a window that fits
    count = int(len(wave) // RATE - WINDOW_SECONDS) + 1
    starts = [s for s in range(0, count * RATE, RATE) if s + WINDOW <= len(wave)]
    return np.stack([wave[s : s + WINDOW] for s in starts]).astype(np.float32)


def log_mel(wave: np.ndarray) -> np.ndarray:
    """(T,) -> (F, 120) float32, in dB below the clip's maximum over 80 dB, shifted to about -1..1."""
    power = np.abs(centred_stft(wave, n_fft=321, hop=160)) ** 2 @ mel_filters(RATE, 321, 120).T.astype(np.float32)
    decibels = 10 * np.log10(np.maximum(power, 1e-10)) - 10 * np.log10(max(power.max(), 1e-10))
    return np.asarray((np.maximum(decibels, decibels.max() - 80) + 40) / 40, dtype=np.float32)
