"""Weights from strangers against the net they claim to be for: same names, same shapes, finite numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from urgentmos.common.untrusted import shown
from urgentmos.errors import UsageError
from urgentmos.models.folder import build, compare_shapes

# Weight norm has two spellings in state dicts: torch.nn.utils.weight_norm's and that of its parametrizations.
WEIGHT_NORM = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


def only_tensors(state: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """`state` once it is sure to be names and tensors."""
    strange = [name for name, value in state.items() if not isinstance(value, Tensor) or not isinstance(name, str)]
    if strange:
        raise UsageError(f"{path}: {shown(strange[0], 60)} is not a tensor. Get the file from its authors again.")
    return dict(state)


def checked_weights(architecture: str, config: Mapping[str, Any], state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """`state` with floating point tensors as float32 and weight norm as the net spells it.

    The net is built without memory of its own. Raises UsageError that names `path` if names or shapes differ from those of
    the net of this architecture and configuration, or a number is not finite.
    """
    with torch.device("meta"):
        wanted = build(architecture, config, source=path).state_dict()
    named = weight_norm_names(state, wanted)
    compare_shapes(wanted, named, path)
    return {name: tensor.detach().float() if tensor.is_floating_point() else tensor for name, tensor in named.items()}


def weight_norm_names(state: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    """`state` with each weight norm spelled as in `wanted`, whichever of the two spellings either has."""
    spellings = {**WEIGHT_NORM, **{new: old for old, new in WEIGHT_NORM.items()}}
    renamed = {}
    for name, tensor in state.items():
        for this, other in spellings.items():
            if name not in wanted and name.endswith(f".{this}") and name.removesuffix(this) + other in wanted:
                name = name.removesuffix(this) + other
                break
        renamed[name] = tensor
    return renamed


def transformer_sizes(state: Mapping[str, Tensor], fusion: str, encoder: str, path: Path) -> dict[str, Any]:
    """dim, feedforward and layers, from the weight `fusion` and those below `encoder`."""
    try:
        layers = {name[len(encoder) + 8 :].split(".")[0] for name in state if name.startswith(f"{encoder}.layers.")}
        inner = state[f"{encoder}.layers.0.linear1.weight"].shape[0]
        return {"dim": state[fusion].shape[0], "feedforward": inner, "layers": len(layers)}
    except (KeyError, IndexError) as e:
        raise UsageError(f"{path} lacks the weights {e}. Get the file from its authors again.") from e


def bounds_of(state: Mapping[str, Tensor], prefix: str, path: Path) -> tuple[float, float]:
    """The two bounds below `prefix`, each one number, +-inf where there is none."""
    low, high = (state.get(f"{prefix}.{end}_value") for end in ("min", "max"))
    if low is None or high is None or low.numel() != 1 or high.numel() != 1:
        raise UsageError(f"{path} lacks the bounds {prefix}.min_value and max_value. Get the file from its authors again.")
    if low.isnan() or high.isnan() or not low < high:
        raise UsageError(f"{path} has {prefix} from {low.item()} to {high.item()}, which is no range.")
    return low.item(), high.item()
