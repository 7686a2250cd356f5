"""URGENT-PK checkpoints, as `Twinkzzzzz/URGENT-PK` publishes them: Lightning files of mel, stft and UTMOS models.

What the net is, is read off its tensors; the settings that the authors saved are kept for information, numbers and names
only, since among them are paths of their machine. Settings are an object of a class of theirs, which is never imported: an
inert stand-in takes its values.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from urgentmos.common.untrusted import shown
from urgentmos.errors import UsageError
from urgentmos.models.official import Released
from urgentmos.models.official.utmos import FILE_NAME as UTMOS_FILE
from urgentmos.models.official.utmos import checked, read_tensors
from urgentmos.models.torch_file import load_torch_file
from urgentmos.nets.urgentpk import BACKBONES, ROWS, SHRINK, UrgentPk, UrgentPkConfig
from urgentmos.nets.utmos import UtmosConfig

RESNET = "model.model.resnet."
ENCODER = "model.encoder."
UNUSED = ("nn.weight", "nn.bias")  # a Linear(100, 100) that nothing calls
RATE = 16_000
LAST_STAGE = 8  # times as many filters as the first
SETTINGS = ("encoder", "backbone", "fs", "delta", "tune_utmos")  # of the saved settings, those that define the model

# Public names of UTMOS22: those of the authors' training code (endings, with the row that a table is cut down to), and
# those of the public state dict. Which of the two the released UTMOS models of URGENT-PK use is not documented; what is
# read here is their common content, wherever in the encoder it stands.
UTMOS_PARTS = {
    "ssl_model.": "wav2vec2.",
    "wav2vec2.": "wav2vec2.",
    "decoder_rnn.": "blstm.",
    "blstm.": "blstm.",
}
UTMOS_TABLES = {
    "feature_extractors.1.embedding.weight": ("domain_emb", 0),
    "output_layers.0.judge_embedding.weight": ("judge_emb", 288),
    "domain_emb": ("domain_emb", 0),
    "judge_emb": ("judge_emb", 0),
}


class _Settings:
    """Stands for the authors' class: holds what the file sets, does nothing."""


def stubs(module: str, name: str) -> type | None:
    """The stand-in for a class called `Config` of any module; None for everything else."""
    return _Settings if f"{module}.{name}".endswith(".Config") else None


def matches(raw: Any) -> bool:
    """Whether `raw` is a Lightning checkpoint with this ResNet in it."""
    state = raw.get("state_dict") if isinstance(raw, Mapping) else None
    return isinstance(state, Mapping) and any(isinstance(name, str) and name.startswith(RESNET) for name in state)


def read(raw: Mapping[str, Any], path: Path) -> Released:
    """The checkpoint under our names.

    Raises UsageError that names `path` if anything is missing, left over, of another shape, not finite, or not at 16 kHz.
    """
    path = Path(path)
    state = {name: value for name, value in raw["state_dict"].items() if name not in UNUSED}
    strange = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise UsageError(f"{path}: {shown(strange[0], 60)} is not a tensor. Get the file from its authors again.")
    settings = _settings(raw)
    if settings.get("fs", RATE) != RATE:
        raise UsageError(f"{path} is a model for {shown(settings['fs'], 20)} Hz; only those for {RATE} Hz can be read.")
    resnet = {name.removeprefix(RESNET): value for name, value in state.items() if name.startswith(RESNET)}
    encoder = {name.removeprefix(ENCODER): value for name, value in state.items() if name.startswith(ENCODER)}
    left_over = [name for name in state if not name.startswith((RESNET, ENCODER))]
    if left_over:
        raise UsageError(f"{path}: {shown(left_over[0], 60)} belongs to no known part of URGENT-PK. Is it the authors' file?")
    backbone, filters, width = _sizes(resnet, path)
    rows = width // (2 * LAST_STAGE * filters)  # after the strides; mean and deviation of each
    kind = _kind(encoder, rows)
    if kind in ROWS and rows != -(-ROWS[kind] // SHRINK):
        raise UsageError(f"{path}: {kind} has {ROWS[kind]} rows, which the last layer of {width} inputs does not fit.")
    utmos, ours = _utmos(encoder, path) if kind == "utmos" else (None, _numbered_away(encoder))
    config = UrgentPkConfig(
        encoder=kind,
        backbone=backbone,
        filters=filters,
        utmos=utmos,
        tune_encoder=kind == "utmos" and settings.get("tune_utmos") is True,
    )
    named = {f"resnet.{name}": value for name, value in resnet.items()} | {f"encoder.{k}": v for k, v in ours.items()}
    return Released(
        architecture="urgentpk",
        config=config.to_dict(),
        state=checked(lambda: UrgentPk(config), named, path),
        info={
            "name": f"urgentpk_{kind}_{backbone}",
            "format": "URGENT-PK Lightning checkpoint",
            "metrics": [],
            "sample_rate": RATE,
            "licence": "Apache-2.0 (code; that of the weights is not stated)",
            "source": "Twinkzzzzz/URGENT-PK",
            "settings": settings,
        },
    )


def _settings(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Of the authors' settings those in SETTINGS, as far as they are plain numbers and short names."""
    saved = raw.get("hyper_parameters")
    saved = saved.get("cfg") if isinstance(saved, Mapping) else None
    settings = vars(saved) if isinstance(saved, _Settings) else {}
    plain = {name: settings[name] for name in SETTINGS if isinstance(settings.get(name), str | int | float)}
    return {name: value for name, value in plain.items() if not isinstance(value, str) or value.isidentifier()}


def _sizes(resnet: Mapping[str, Tensor], path: Path) -> tuple[str, int, int]:
    """Backbone, filters of its first stage, and inputs of its last layer."""
    first, last = resnet.get("conv1.weight"), resnet.get("embedding.weight")
    if first is None or last is None or first.ndim != 4 or last.ndim != 2 or 0 in first.shape:
        raise UsageError(f"{path}: the first or last layer of the ResNet is missing. Get the file from its authors again.")
    blocks = tuple(len({n.split(".")[1] for n in resnet if n.startswith(f"layer{stage}.")}) for stage in range(1, 5))
    backbone = next((name for name, sizes in BACKBONES.items() if sizes == blocks), None)
    if backbone is None:
        raise UsageError(f"{path} has a ResNet of {blocks} blocks; known are {BACKBONES}. Is it the authors' file?")
    return backbone, first.shape[0], last.shape[1]


def _kind(encoder: Mapping[str, Tensor], rows: int) -> str:
    """mel has buffers of its own, stft none; everything else is UTMOS. `rows`: after the strides."""
    if any(name.endswith("mel_scale.fb") for name in encoder):
        return "mel"
    return "stft" if not encoder and rows == -(-ROWS["stft"] // SHRINK) else "utmos"


def _numbered_away(encoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`0.mel_scale.fb` -> `mel_scale.fb`: the released front end is the first of a Sequential."""
    return {name.removeprefix("0."): value for name, value in encoder.items()}


def _utmos(encoder: Mapping[str, Tensor], path: Path) -> tuple[UtmosConfig, dict[str, Tensor]]:
    """Sizes and tensors of UTMOS without its last layers, from the checkpoint or from the public file beside it."""
    public = _public_utmos(encoder)
    beside = path.parent / UTMOS_FILE
    if not public and beside.is_file():
        public = load_torch_file(beside)
        path = beside
    if not isinstance(public, Mapping) or not public:
        raise UsageError(f"{path} judges frames of UTMOS, which is not in the file. Put {UTMOS_FILE} into the same folder.")
    config, ours = read_tensors(_with_all_names(dict(public)), path)
    return config, {name: tensor for name, tensor in ours.items() if not name.startswith("projection.")}


def _public_utmos(encoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of UTMOS under the names of the public state dict, as far as they make frames."""
    public = {}
    for name, tensor in encoder.items():
        for ending, (ours, row) in UTMOS_TABLES.items():
            if f".{name}".endswith(f".{ending}") and tensor.ndim == 2 and len(tensor) > row:
                public[ours] = tensor[row : row + 1]
        for part, ours in UTMOS_PARTS.items():
            _, separator, rest = f".{name}".partition(f".{part}")
            if separator:
                public[ours + rest] = tensor
    return public


def _with_all_names(public: dict[str, Any]) -> dict[str, Any]:
    """With zeros for what makes no frames and may be absent: the head, and the vector that training hides frames behind."""
    lstm, inputs = public.get("blstm.weight_hh_l0"), public.get("wav2vec2.post_extract_proj.weight")
    if not isinstance(lstm, Tensor) or not isinstance(inputs, Tensor) or lstm.ndim != 2 or inputs.ndim != 2:
        return public  # something that matters is absent: the reader raises
    zeros = {"0.weight": (1, 2 * lstm.shape[1]), "0.bias": (1,), "2.weight": (1, 1), "2.bias": (1,)}
    head = {f"projection.{name}": torch.zeros(shape) for name, shape in zeros.items()}
    return {"wav2vec2.mask_emb": torch.zeros(inputs.shape[0]), **public, **head}
