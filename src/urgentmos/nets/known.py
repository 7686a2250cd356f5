"""Configurations of well-known pretrained encoders, so that neither a preset nor a released file needs the hub for them.

Written from the transformers classes (whose defaults are the base models) and the published model cards. What could be
held against a file or the library says so; the rest is marked unverified, and a strict load of the weights would show a
mistake in any size.
"""

from collections.abc import Mapping
from typing import Any

from urgentmos.nets.encoder import EncoderConfig

WAVLM_BASE_PLUS = "microsoft/wavlm-base-plus"
WAVLM_LARGE = "microsoft/wavlm-large"
KIMI_AUDIO = "Atotti/Kimi-Audio-Whisper-Encoder"
QWEN3_OMNI = "giangndm/qwen3-30b-omni-audio-encoder"
AF_WHISPER = "Atotti/AFWhisper"

_LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}
_WHISPER_LARGE: dict[str, Any] = {
    "num_mel_bins": 128,
    "d_model": 1280,
    "encoder_layers": 32,
    "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "max_source_positions": 1500,
}

# name -> (kind, layers, normalise, configuration on top of the class defaults)
_TABLE: dict[str, tuple[str, str, bool, Mapping[str, Any]]] = {
    # Stated in official-checkpoints section 1: group norm, 12 layers of 768, layerdrop 0.05, no normalisation.
    WAVLM_BASE_PLUS: ("ssl", "weighted", False, {"model_type": "wavlm", "layerdrop": 0.05}),
    "microsoft/wavlm-base": ("ssl", "weighted", False, {"model_type": "wavlm", "layerdrop": 0.05}),
    # The large one's convolutions have no bias, unlike those of the other large models (unverified).
    WAVLM_LARGE: ("ssl", "weighted", True, {"model_type": "wavlm", **_LARGE}),
    # The class defaults of transformers are these two; normalisation is from their model cards (unverified).
    "facebook/hubert-base-ls960": ("ssl", "weighted", True, {"model_type": "hubert"}),
    "facebook/wav2vec2-base": ("ssl", "weighted", True, {"model_type": "wav2vec2"}),
    # Whisper large-v3, further trained (metrics-and-corpora C.4; sizes verified there, the file itself not).
    KIMI_AUDIO: ("whisper", "weighted", False, {"model_type": "whisper", **_WHISPER_LARGE}),
    # Width 2048 of the output is that of the checkpoint, the class default is 3584 (C.4); n_window unverified.
    QWEN3_OMNI: (
        "qwen_omni",
        "last",
        False,
        {
            "model_type": "qwen3_omni_moe_audio_encoder",
            **_WHISPER_LARGE,
            "output_dim": 2048,
            "n_window": 50,
            "n_window_infer": 800,
            "downsample_hidden_size": 480,
        },
    ),
    AF_WHISPER: ("af_whisper", "last", False, {"model_type": "qwen2_audio_encoder", **_WHISPER_LARGE}),
}

KNOWN: dict[str, EncoderConfig] = {
    name: EncoderConfig(kind=kind, name=name, layers=layers, normalise=normalise, model=dict(model))
    for name, (kind, layers, normalise, model) in _TABLE.items()
}
F1 = (WAVLM_BASE_PLUS,)
F4 = (WAVLM_BASE_PLUS, KIMI_AUDIO, QWEN3_OMNI, AF_WHISPER)  # UrgentMOS section 3.1.1, in the order of the release
