"""SCOREQ: naturalness by contrastive regression, natural-speech domain, without a reference signal.

Ragano et al. 2024, "SCOREQ: Speech Quality Assessment with Contrastive Regression"; the authors' ONNX export
`adapt_nr_telephone.onnx` (Zenodo record 15739280). It was trained on NISQA_TRAIN_SIM, so scores on NISQA are in-domain,
and on clips of up to 4 s: its authors advise to trim long ones to 10-15 s. The URGENT labels do not trim, and neither do
we. The original resamples with torchaudio and we with soxr HQ, so a file that is not at 16 kHz scores slightly
differently.
"""

import numpy as np

from urgentmos.labellers import Measure, Settings, Signals, hub

RATE = 16_000
HOP = 320  # the encoder's stride; input is padded to a multiple of it
SHORTEST = 400  # samples of which the encoder makes its first frame


def load(settings: Settings) -> Measure:
    """`measure` with the ONNX file named by `settings.weights["scoreq"]`; it runs on the CPU, on one thread.

    The whole clip goes in at once at 16 kHz. `measure` returns {"scoreq": about 1..5, not clamped} and raises MeasureError
    for a clip of 320 samples (20 ms) or fewer.
    """
    session = hub.onnx_session("scoreq", settings)
    hub.check_onnx("scoreq", session, padded(np.zeros(RATE, np.float32))[None], outputs=1)

    def measure(signals: Signals) -> dict[str, float]:
        wave, _ = signals.at(RATE)
        batch = padded(wave)[None]  # (1, T)
        hub.check_length(batch.shape[1], SHORTEST, RATE)
        return {"scoreq": hub.finite(float(hub.run_onnx(session, batch)[0]))}

    return measure


def padded(wave: np.ndarray) -> np.ndarray:
    """(T,) float32 with zeros on the right up to a multiple of 320 samples."""
    return np.pad(wave.astype(np.float32, copy=False), (0, -len(wave) % HOP))
