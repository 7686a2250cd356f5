"""lps_pocketsphinx: Levenshtein similarity of the phones that PocketSphinx recognises in clip and reference signal.

The offline stand-in for `lps` (Pirklbauer et al. 2023); not comparable with it: other recogniser, whole phones instead of
characters, English only. 1 - distance / length of the reference's phones, so insertions can make it negative.
"""

import os

import numpy as np

from urgentmos.errors import MeasureError, need
from urgentmos.labellers import Measure, ReferenceCache, Settings, Signals

RATE = 16_000


def load(settings: Settings) -> Measure:
    sphinx = need("pocketsphinx", "label")
    distance = need("rapidfuzz.distance", "label").Levenshtein.distance
    model = sphinx.get_model_path("en-us")

    def phones(wave: np.ndarray) -> tuple[str, ...]:
        """(T,) at 16 kHz -> phones without silence and noise marks."""
        # a decoder of its own for each clip: it adapts to earlier clips, and a score must not
        config = sphinx.Config(
            hmm=os.path.join(model, "en-us"),
            allphone=os.path.join(model, "en-us-phone.lm.bin"),
            lm=None,
            dict=None,
            beam=1e-20,
            pbeam=1e-20,
            lw=2.0,
            dither=False,
            loglevel="FATAL",
        )
        decoder = sphinx.Decoder(config)
        samples = np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)
        decoder.start_utt()
        decoder.process_raw(samples.tobytes(), no_search=False, full_utt=True)
        decoder.end_utt()
        return tuple(s.word for s in decoder.seg() if s.word != "SIL" and not s.word.startswith(("+", "<", "[")))

    references = ReferenceCache(phones)

    def measure(signals: Signals) -> dict[str, float]:
        reference, wave = signals.pair(RATE)
        recognised = references(reference)
        if not recognised:
            raise MeasureError("PocketSphinx hears no phone in the reference signal")
        return {"lps_pocketsphinx": 1 - distance(phones(wave), recognised) / len(recognised)}

    return measure
