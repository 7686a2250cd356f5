"""The net that a run starts from: a preset with fresh weights and pretrained encoders, URGENT-PK, or a model to go on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from urgentmos.common.packaged import PACKAGED
from urgentmos.errors import UsageError, need
from urgentmos.models.folder import load_any
from urgentmos.nets.encoder import Encoder, EncoderConfig
from urgentmos.nets.presets import read_preset
from urgentmos.nets.urgentmos import UrgentMos, UrgentMosConfig
from urgentmos.nets.urgentpk import UrgentPk, UrgentPkConfig
from urgentmos.nets.utmos import Utmos, load_utmos
from urgentmos.training.config import TrainConfig

DROPOUT = "dropout"  # the one key of net and encoder that weights do not depend on
RANDOM = "random"  # instead of a path: a pretrained kind of encoder that starts from nothing
PREFIXES = ("", "wavlm.", "hubert.", "wav2vec2.", "encoder.", "model.encoder.", "audio_tower.", "model.", "module.")
UNUSED = "masked_spec_embed"  # of SpecAugment, which is off: it never has a gradient


@dataclass(frozen=True)
class Start:
    """A net, and what is known of the model that it was before this run."""

    net: nn.Module
    scope: str  # of derived pairs, as the preset has it
    before: Mapping[str, Any]  # info of the model that is fine-tuned; empty for a new one


def start(config: TrainConfig, metrics: Sequence[str], pairs: bool) -> Start:
    """The net of a run. `metrics`: those with labels; `pairs`: whether there are any to learn from.

    Weights are drawn from torch's global random state, seeded with config.seed. UsageError if there is no such net.
    """
    torch.manual_seed(config.seed)
    if config.goes_on:
        loaded = _go_on(config)
    elif config.is_urgentpk:
        loaded = Start(_urgentpk(config), "reference", {})
    else:
        loaded = _preset(config, pairs)
    for name, parameter in loaded.net.named_parameters():
        if name.endswith(UNUSED):
            parameter.requires_grad_(False)
    if isinstance(loaded.net, UrgentMos) and not set(metrics) & set(loaded.net.metrics) and not pairs:
        raise UsageError(
            f"none of the model's metrics has a label. It has: {', '.join(loaded.net.metrics)}; "
            f"the data has: {', '.join(metrics) or 'none'}. Choose another preset, or label the clips."
        )
    return loaded


def _go_on(config: TrainConfig) -> Start:
    sizes = (config.net.keys() | config.encoder.keys()) - {DROPOUT}
    if sizes or config.encoder_weights or config.size != "base":
        raise UsageError(
            "size, encoder_weights, net and encoder belong to new models, all but net.dropout and encoder.dropout. Leave them "
            "out to fine-tune one."
        )
    loaded = load_any(PACKAGED.get(config.model, config.model), allow_download=True)
    return Start(_with_dropout(loaded.net, config), "reference", loaded.info)


def _with_dropout(net: nn.Module, config: TrainConfig) -> nn.Module:
    """The same weights under the dropout of the run; the net itself where it has none."""
    if not (config.net or config.encoder):
        return net
    if not isinstance(net, UrgentMos | UrgentPk):
        raise UsageError(f"{config.model} has no dropout to set. Leave out net.dropout and encoder.dropout.")
    changed: dict[str, Any] = {**net.config.to_dict(), **config.net}
    if config.encoder:
        first = changed["encoders"][0] if isinstance(net, UrgentMos) else {}
        if first.get("kind") != "conv":
            raise UsageError("encoder.dropout belongs to the conv encoder, which this model does not have. Leave it out.")
        first["model"] = {**first["model"], **config.encoder}
    again = type(net)(type(net.config).from_dict(changed))  # type: ignore[arg-type]
    again.load_state_dict(net.state_dict())
    return again


def _preset(config: TrainConfig, pairs: bool) -> Start:
    preset = read_preset(config.model)
    preset_config = preset.config(config.size)
    category = next((c for c, ranges in preset_config.categories.items() if config.judge in ranges), preset_config.preference)
    first, *others = preset_config.encoders
    if config.encoder:
        first = EncoderConfig.from_dict(first.to_dict() | {"model": {**first.model, **_plain(config.encoder)}})
    encoders = [first, *others]
    folders = [part.strip() for part in config.encoder_weights.split(",") if part.strip()]
    pretrained = [k for k, encoder in enumerate(encoders) if encoder.kind not in ("conv", "mel", "stft")]
    if pretrained and len(folders) != len(pretrained):
        names = ", ".join(encoders[k].name for k in pretrained)
        raise UsageError(
            f"{config.model} starts from pretrained encoders ({names}): give encoder_weights=FOLDER, one for each and joined "
            f"by commas, with config.json and the weights in it. size=pocket needs none; {RANDOM} starts from nothing."
        )
    for k, folder in zip(pretrained, folders, strict=True):
        encoders[k] = _configured(encoders[k], folder)
    plain = {**preset_config.to_dict(), **_plain(config.net), "encoders": [encoder.to_dict() for encoder in encoders]}
    net = UrgentMos(UrgentMosConfig.from_dict({**plain, "preference": category if pairs else None}))
    for k, folder in zip(pretrained, folders, strict=True):
        if folder != RANDOM:
            load_encoder(net.encoders[k], folder)  # type: ignore[arg-type]
    return Start(net, preset.scope, {})


def _configured(encoder: EncoderConfig, folder: str) -> EncoderConfig:
    """The preset's choices (frozen, layers) with the sizes of the model in the folder."""
    if folder == RANDOM or not (Path(folder) / "config.json").is_file():
        return replace(encoder, frozen=encoder.frozen and folder != RANDOM)
    from urgentmos.models.official.encoders import read_folder

    loaded = read_folder(Path(folder))
    return replace(loaded, frozen=encoder.frozen, layers=encoder.layers)


def load_encoder(encoder: Encoder, source: str) -> None:
    """Weights of a published encoder, model.safetensors or pytorch_model.bin in a folder or a file, into ours.

    Nothing in the file is executed. UsageError if a weight is missing or has another shape.
    """
    from urgentmos.models.official.weights import weight_norm_names

    state = _read_state(Path(source))
    model: nn.Module = encoder.model  # type: ignore[assignment]
    wanted = model.state_dict()
    fits = {}
    for prefix in PREFIXES:
        named = {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
        named = weight_norm_names(named, wanted)
        fits[prefix] = {name: x for name, x in named.items() if name in wanted and x.shape == wanted[name].shape}
    best = max(fits.values(), key=len)
    missing = [name for name in wanted if name not in best and not name.endswith(UNUSED)]
    if missing:
        raise UsageError(f"{source} is not this encoder: {len(missing)} weights are missing or differ, such as {missing[0]}.")
    model.load_state_dict({name: x.float() if x.is_floating_point() else x for name, x in best.items()}, strict=False)


def _read_state(path: Path) -> dict[str, Tensor]:
    files = [path] if path.is_file() else [path / "model.safetensors", path / "pytorch_model.bin"]
    file = next((f for f in files if f.is_file()), None)
    if file is None:
        raise UsageError(f"{path} holds no model.safetensors and no pytorch_model.bin. Get the encoder, or correct the path.")
    try:
        if file.suffix == ".safetensors":
            loaded: dict[str, Tensor] = need("safetensors.torch", "models").load_file(file)
            return loaded
        raw = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as e:  # a refused or damaged file shows itself as any of half a dozen classes
        raise UsageError(f"{file} cannot be read as weights ({type(e).__name__}). Get it again.") from e
    return {str(name): x for name, x in raw.items() if isinstance(x, Tensor)}


def _urgentpk(config: TrainConfig) -> UrgentPk:
    if config.encoder:
        raise UsageError("urgent-pk has no encoder sizes. Choose the encoder with net.encoder=mel, stft or utmos.")
    plain = _plain(config.net)
    if plain.get("encoder", "mel") != "utmos":
        if config.encoder_weights:
            raise UsageError("encoder_weights belongs to net.encoder=utmos. Leave it out.")
        return UrgentPk(UrgentPkConfig.from_dict(plain))
    if not config.encoder_weights:
        raise UsageError(f"net.encoder=utmos needs encoder_weights=FILE with the public weights of UTMOS22 (or {RANDOM}).")
    if config.encoder_weights == RANDOM:
        return UrgentPk(UrgentPkConfig.from_dict(plain))
    source = load_any(config.encoder_weights).net if Path(config.encoder_weights).is_dir() else None
    utmos = source if isinstance(source, Utmos) else load_utmos(Path(config.encoder_weights))
    net = UrgentPk(UrgentPkConfig.from_dict({**plain, "utmos": vars(utmos.config)}))
    state = {name: x for name, x in utmos.state_dict().items() if not name.startswith("projection")}
    net.encoder.load_state_dict(state)
    return net


def _plain(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Whole numbers that YAML or KEY=VALUE made floats of become whole again."""
    return {k: int(v) if isinstance(v, float) and v.is_integer() and v >= 1 else v for k, v in sizes.items()}
