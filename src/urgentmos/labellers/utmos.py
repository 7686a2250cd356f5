"""UTMOS: naturalness as the strong learner of the VoiceMOS Challenge 2022's winner.

Saeki et al. 2022, "UTMOS: UTokyo-SaruLab System for VoiceMOS Challenge 2022"; the strong learner at step 7459 in the
public plain state dict `utmos22_strong_step7459_v1.pt` (tarepan/SpeechMOS v1.2.0, MIT). The original resamples with
torchaudio and we with soxr HQ, so a file that is not at 16 kHz scores slightly differently.
"""

from urgentmos.errors import need
from urgentmos.labellers import Measure, Settings, Signals, hub

RATE = 16_000


def load(settings: Settings) -> Measure:
    """`measure` with the state dict named by `settings.weights["utmos"]`, a file (or a folder or hub id with one `.pt`).

    The whole clip goes in at once at 16 kHz, not normalised, not padded: any length from 400 samples (25 ms). `measure`
    returns {"utmos": about 1..5, not clamped}.
    """
    torch = need("torch", "models")
    need("transformers", "models")
    from urgentmos.nets.utmos import CONV_STRIDE, load_utmos

    model = load_utmos(hub.one_file("utmos", settings, "*.pt")).to(settings.device)
    shortest = hub.receptive_field(model.config.conv_kernel, CONV_STRIDE)

    def measure(signals: Signals) -> dict[str, float]:
        wave, _ = signals.at(RATE)
        hub.check_length(len(wave), shortest, RATE)
        with torch.inference_mode():
            score = model(torch.tensor(wave, dtype=torch.float32, device=settings.device)[None])
        return {"utmos": hub.finite(float(score))}

    return measure
