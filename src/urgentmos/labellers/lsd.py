"""Log-spectral distance as the URGENT challenges compute it: natural log of power, at the file's own rate.

Smaller by 10 / ln 10 = 4.34 than the distance in dB of Gray and Markel (1976).
"""

import numpy as np

from urgentmos.audio.spectra import centred_stft, projection_gain
from urgentmos.labellers import Measure, Settings

EPS = 1e-8


def lsd(reference: np.ndarray, wave: np.ndarray, rate: int) -> float:
    """(T,), (T,) -> 0..about 29; 0 is best.

    Frames of 32 ms every 16 ms. `wave` is first scaled onto `reference`, so level and polarity do not count. EPS is
    added after squaring, so frames of digital silence weigh heavily: kept, since published labels have it.
    """
    n_fft, hop = int(0.032 * rate), int(0.016 * rate)
    clean = np.abs(centred_stft(reference, n_fft, hop)) ** 2
    other = np.abs(centred_stft(np.float32(projection_gain(reference, wave)) * wave, n_fft, hop))
    log_ratio = np.log(clean / (other + EPS) ** 2 + EPS)
    return float(np.sqrt((log_ratio**2).mean(axis=1)).mean())


def load(settings: Settings) -> Measure:
    return lambda signals: {"lsd": lsd(*signals.pair(), signals.rate)}
