"""SpeechBERTScore: how much of the clip's speech, frame by frame, is found in the reference signal.

Saeki et al. 2024, "SpeechBERTScore: Reference-Aware Automatic Evaluation of Speech Generation"; precision, as the URGENT
challenges report it: cosine of HuBERT frames, the best match in the reference signal for each frame of the clip, mean
over the clip's frames. URGENT 2024 used facebook/hubert-base-ls960, URGENT 2025 and 2026 utter-project/mHuBERT-147.
The two give different numbers, so record which one made a label.
"""

from typing import Any

import numpy as np

from urgentmos.errors import UsageError, need
from urgentmos.labellers import Measure, ReferenceCache, Settings, Signals, hub

RATE = 16_000
LAYER = 8  # hidden_states[8]: the output of the 8th transformer block; 0 is the embedding
ROWS = 2048  # frames of the clip compared at a time, so that an hour-long clip needs no F x F matrix


def load(settings: Settings) -> Measure:
    """`measure` with the HuBERT named by `settings.weights["sbert"]`; UsageError if it has fewer than 8 layers.

    The waveform goes in at 16 kHz (soxr HQ), alone and as it is: no normalisation, no padding. `measure` returns
    {"sbert": -1..1} and raises MeasureError for a missing, silent, unequal or too short reference signal.
    """
    hubert = need("transformers", "models").HubertModel
    model = hub.pretrained(hubert, "sbert", hub.pretrained_folder("sbert", settings), settings.device)
    _keep_layers(model, settings)
    shortest = hub.receptive_field(model.config.conv_kernel, model.config.conv_stride)
    of_reference: ReferenceCache[Any] = ReferenceCache(lambda wave: frames(model, wave), size=8)

    def measure(signals: Signals) -> dict[str, float]:
        reference, wave = signals.pair(RATE)
        hub.check_length(len(wave), shortest, RATE)
        return {"sbert": hub.finite(precision(of_reference(reference), frames(model, wave)))}

    return measure


def frames(model: Any, wave: np.ndarray, layer: int = LAYER) -> Any:
    """(T,) at 16 kHz -> (F, D) hidden state `layer` of the HuBERT, 50 frames a second."""
    import torch

    with torch.inference_mode():
        batch = torch.tensor(wave, dtype=torch.float32, device=model.device)[None]
        return model(batch, output_hidden_states=True).hidden_states[layer][0]


def precision(reference: Any, clip: Any) -> float:
    """Mean over the frames of `clip` (F, D) of the largest cosine with any frame of `reference` (F', D); -1..1.

    NaN if a frame is the zero vector, as in the original.
    """
    import torch

    with torch.inference_mode():
        reference = reference / reference.norm(dim=1, keepdim=True)
        clip = clip / clip.norm(dim=1, keepdim=True)
        best = [(rows @ reference.T).amax(dim=1) for rows in clip.split(ROWS)]
        # In double: rounding would otherwise push identical signals past 1.
        return min(float(torch.cat(best).double().mean()), 1.0) if best else float("nan")


def _keep_layers(model: Any, settings: Settings) -> None:
    """Drop the layers that nobody looks at: a quarter of the work. One above LAYER stays, because with a pre-norm encoder
    the library may return the last state after the final norm instead of before it."""
    layers = model.encoder.layers
    if len(layers) < LAYER:
        raise UsageError(
            f"sbert: {settings.weights['sbert']!r} has {len(layers)} layers and the metric needs the output of layer {LAYER}. "
            "Pass --weights sbert=utter-project/mHuBERT-147."
        )
    model.encoder.layers = layers[: LAYER + 1]
