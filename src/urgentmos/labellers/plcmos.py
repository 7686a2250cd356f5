"""PLCMOS v2 (Diener et al. 2023): how packet loss concealment sounds, with the model that `speechmos` carries.

The network takes the embedding of an imagined rater; the score is the mean over 15 of them. The package draws new ones
for each clip, so its scores change from run to run by about 0.01; here the 15 raters are always the same.
"""

import numpy as np

from urgentmos.labellers import Measure, Settings, Signals
from urgentmos.labellers.onnx import packaged, session

RATE = 16_000
SIZE, HOP = 512, 256
RATERS = 15
FLOOR = 120 * np.log(10) / 10  # nepers of power below the smallest value that is not zero


def load(settings: Settings) -> Measure:
    network = session(packaged("speechmos", "plcmos_models/plcmos_v2.onnx"))
    raters = np.random.default_rng(0).standard_normal((RATERS, 1, 64)).astype(np.float32)

    def measure(signals: Signals) -> dict[str, float]:
        spectrum = features(signals.at(RATE)[0])[None, None]
        votes = [network.run(None, {"degraded_audio": spectrum, "rater_embed": rater})[0] for rater in raters]
        return {"plcmos": float(np.mean(votes))}

    return measure


def features(wave: np.ndarray) -> np.ndarray:
    """(T,) -> (F, 257) float32: log of the squared magnitude over 20; Hamming frames, the first half outside the clip."""
    n_frames = -(-(len(wave) + SIZE - HOP) // HOP)
    padded = np.zeros((n_frames - 1) * HOP + SIZE, dtype=np.float32)
    padded[SIZE - HOP : SIZE - HOP + len(wave)] = wave
    framed = np.lib.stride_tricks.sliding_window_view(padded, SIZE)[::HOP]
    power = np.abs(np.fft.rfft(framed * np.hamming(SIZE + 1)[:-1])) ** 2
    if not power.any():
        return np.full(power.shape, -80 * np.log(10) / 10 / 20, dtype=np.float32)
    smallest = power[power > 0].min()
    log_power = np.log(np.where(power > 0, power, smallest)) - np.where(power > 0, 0.0, FLOOR)
    return (log_power / 20).astype(np.float32)
