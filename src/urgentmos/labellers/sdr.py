"""SDR of BSSEval v3 (Vincent et al. 2006): a 512-tap distortion filter is forgiven; clamped to +-50 dB.

Neither SI-SDR nor plain SNR. The URGENT code solves for the filter in float32, whose rounding moves the value of
band-limited 48 kHz files by up to 0.06 dB from one machine to another; here it is solved in float64.
"""

import numpy as np

from urgentmos.errors import MeasureError, need
from urgentmos.labellers import Measure, Settings, Signals

FILTER_LENGTH = 512
CLAMP_DB = 50.0


def load(settings: Settings) -> Measure:
    bss = need("fast_bss_eval.numpy", "label")

    def measure(signals: Signals) -> dict[str, float]:
        reference, wave = (x.astype(np.float64)[None] for x in signals.pair())
        if wave.shape[1] < FILTER_LENGTH:
            raise MeasureError(f"{wave.shape[1]} samples are fewer than the {FILTER_LENGTH} taps of SDR's distortion filter")
        try:
            # pairwise: the package's other path calls numpy.linalg.solve in a way that numpy 2 no longer takes
            loss = bss.sdr_loss(wave, reference, filter_length=FILTER_LENGTH, clamp_db=CLAMP_DB, pairwise=True)
        except np.linalg.LinAlgError as e:
            raise MeasureError("the reference signal is too simple for SDR (its autocorrelation is singular)") from e
        return {"sdr": -float(loss[0, 0])}

    return measure
