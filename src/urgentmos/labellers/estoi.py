"""ESTOI (Jensen and Taal 2016) through pystoi, extended, resampled to 10 kHz inside."""

import warnings

import numpy as np

from urgentmos.errors import MeasureError, need
from urgentmos.labellers import Measure, Settings, Signals

SENTINEL = 1e-5  # what pystoi returns when fewer than 30 frames (384 ms) of speech are left


def load(settings: Settings) -> Measure:
    stoi = need("pystoi", "label").stoi

    def measure(signals: Signals) -> dict[str, float]:
        reference, wave = signals.pair()
        # pystoi draws noise of 1e-16 from the global generator. Seeded as in the URGENT code, and put back.
        state = np.random.get_state()
        try:
            np.random.seed(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                value = float(stoi(reference, wave, signals.rate, extended=True))
        finally:
            np.random.set_state(state)
        if value == SENTINEL:
            raise MeasureError("less than 0.4 s of speech is left without its pauses; ESTOI needs more")
        return {"estoi": value}

    return measure
