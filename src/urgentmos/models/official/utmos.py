"""UTMOS22 strong, as tarepan/SpeechMOS v1.2.0 publishes it: a plain state dict. Saeki et al. 2022.

A model of its own here: it scores one metric, `utmos`, about 1..5 and not clamped.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from urgentmos.common.untrusted import reason, shown
from urgentmos.errors import UsageError
from urgentmos.models.official import Released
from urgentmos.models.torch_file import fill
from urgentmos.nets.utmos import Utmos, UtmosConfig, from_public

FILE_NAME = "utmos22_strong_step7459_v1.pt"


def matches(raw: Any) -> bool:
    """Whether `raw` has at its top the three names that no other state dict has there."""
    return isinstance(raw, Mapping) and {"domain_emb", "judge_emb", "blstm.weight_ih_l0"} <= raw.keys()


def read(raw: Mapping[str, Any], path: Path) -> Released:
    """The public state dict under our names, its sizes read off its shapes.

    Raises UsageError if anything is missing, left over, of another shape, or not finite.
    """
    config, state = read_tensors(raw, path)
    return Released(
        architecture="utmos",
        config=asdict(config),
        state=checked(lambda: Utmos(config), state, path),
        info={
            "name": "utmos22_strong",
            "format": "UTMOS22 strong state dict",
            "metrics": ["utmos"],
            "sample_rate": 16_000,
            "licence": "MIT",
            "source": f"tarepan/SpeechMOS v1.2.0, {FILE_NAME}",
            "trained_on": "BVCC (VoiceMOS Challenge 2022, main track)",
        },
    )


def read_tensors(raw: Mapping[str, Any], path: Path) -> tuple[UtmosConfig, dict[str, Tensor]]:
    """Sizes, and tensors under our names. UsageError that names `path` if names are missing or left over."""
    strange = [name for name, value in raw.items() if not isinstance(value, Tensor)]
    if strange:
        raise UsageError(f"{path}: {shown(strange[0], 60)} is not a tensor. Use {FILE_NAME} of tarepan/SpeechMOS v1.2.0.")
    try:
        return from_public(dict(raw))
    except (UsageError, ArithmeticError) as e:  # a size of 0 divides nothing
        raise UsageError(f"{path}: {e}") from e


def checked(build: Callable[[], nn.Module], state: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The state of the net that `build` makes, with the tensors of `state`, floating point ones as float32.

    The net is built without memory of its own. Raises UsageError that names `path` if names or shapes differ, or a number is
    not finite.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            net = build()
    except (ValueError, ArithmeticError, RuntimeError) as e:
        raise UsageError(
            f"{path} describes a net that cannot be built ({reason(e)}). Get the file from its authors again."
        ) from e
    fill(net, state, path)
    broken = [name for name, tensor in net.state_dict().items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise UsageError(f"{path}: {broken[0]} holds numbers that are not finite. Get the file from its authors again.")
    return dict(net.state_dict())
