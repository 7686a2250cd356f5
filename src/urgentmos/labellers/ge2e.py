"""spksim_ge2e: cosine of the GE2E speaker embeddings (Wan et al. 2018) of clip and reference signal, by `resemblyzer`.

The offline stand-in for `spksim`; not comparable with it. The package's own preparation is kept: levels below -30 dBFS
are raised to it, and long pauses are shortened by a voice activity detector.
"""

import warnings

import numpy as np

from urgentmos.errors import MeasureError, need
from urgentmos.labellers import Measure, ReferenceCache, Settings, Signals

RATE = 16_000


def load(settings: Settings) -> Measure:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports names that scipy has moved
        resemblyzer = need("resemblyzer", "label")
    encoder = resemblyzer.VoiceEncoder(settings.device, verbose=False)

    def embed(wave: np.ndarray, what: str) -> np.ndarray:
        """(T,) at 16 kHz -> (256,) of unit length"""
        if not wave.any():
            raise MeasureError(f"{what} is silent, so it has no speaker")
        peak = max(1.0, float(np.abs(wave).max()))  # the detector takes 16 bit samples
        voiced = resemblyzer.preprocess_wav(wave / peak)
        if len(voiced) == 0:
            raise MeasureError(f"no voice is found in {what}, so it has no speaker")
        embedding: np.ndarray = encoder.embed_utterance(voiced)
        return embedding

    references = ReferenceCache(lambda wave: embed(wave, "the reference signal"))

    def measure(signals: Signals) -> dict[str, float]:
        reference, wave = signals.pair(RATE)
        return {"spksim_ge2e": float(np.dot(references(reference), embed(wave, "the clip")))}

    return measure
