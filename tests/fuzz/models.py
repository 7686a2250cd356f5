"""Tiny models as seeds: a folder of ours, an exported file, a released file. Each seed is one file of a whole folder."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fuzz.seeds import Missing, Seed

SIZES = {"bands": 16, "channels": 4, "width": 16, "layers": 1, "heads": 2, "feedforward": 16, "kernel": 5}


@cache
def folders() -> Mapping[str, Mapping[str, bytes]]:
    """Name of a model -> name of a file in its folder -> bytes. The same on every machine with this torch."""
    try:
        import torch
    except ModuleNotFoundError as e:
        raise Missing("torch is not installed") from e
    from urgentmos.judges.export import to_onnx
    from urgentmos.models.folder import load, save

    with tempfile.TemporaryDirectory() as place, torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        torch_folder, onnx_folder = Path(place, "torch"), Path(place, "onnx")
        save(torch_folder, _net(), {"name": "tiny", "licence": "MIT", "trained_on": "nothing"})
        onnx_folder.mkdir()
        to_onnx(load(torch_folder), onnx_folder / "model.onnx", "log-mel")
        return {
            "torch": {path.name: path.read_bytes() for path in sorted(torch_folder.iterdir()) if path.suffix != ".md"},
            "onnx": {"model.onnx": (onnx_folder / "model.onnx").read_bytes()},
            "released": {"model.pt": _released()},
            "shared": {"model.pt": _released(activation=_shared())},
            "shared-metrics": {"model.pt": _released(metric=[_shared()])},
            "utmos": {"model.ckpt": _saved({"state_dict": {"ssl.x": torch.zeros(2)}, "epoch": 3})},
        }


def _net() -> Any:
    import torch

    from urgentmos.nets.encoder import EncoderConfig
    from urgentmos.nets.urgentmos import UrgentMos, UrgentMosConfig

    config = UrgentMosConfig(
        (EncoderConfig("conv", frozen=False, model=SIZES),),
        {"naturalness": {"mos_overall": (1.0, 5.0), "utmos": (float("-inf"), float("inf"))}},
        preference="naturalness",
        dim=16,
        heads=2,
        feedforward=16,
        layers=1,
        preference_heads=2,
    )
    net = UrgentMos(config)
    for weight in net.parameters():
        weight.add_(0.2 * torch.randn_like(weight))
    return net.eval()


def _saved(value: object) -> bytes:
    import torch

    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def _shared(depth: int = 30) -> object:
    """Small in memory, endless as text: tuples that hold the one before ten times."""
    value: object = "x"
    for _ in range(depth):
        value = (value,) * 10
    return value


def _released(activation: object = "relu", metric: object = None) -> bytes:
    """The names of the released format around weights that are not a whole model."""
    import torch

    state = {
        "metric2absolute_score_predictor.mos_overall.prediction_head.weight": torch.zeros(1, 16),
        "category2encoder.naturalness.layers.0.linear1.weight": torch.zeros(16, 16),
    }
    arch = {"encoder_nhead": 2, "category_encoder": {"encoder_layer": {"nhead": 2, "activation": activation}}}
    return _saved(
        {
            "model": state,
            "config": {"arch": arch, "category2metrics": {"naturalness": metric or {"mos_overall": {"min": 1, "max": 5}}}},
        }
    )


FILES = {
    "torch": ("config.json", "model.safetensors"),
    "onnx": ("model.onnx",),
    "released": ("model.pt",),
    "shared": ("model.pt",),
    "shared-metrics": ("model.pt",),
    "utmos": ("model.ckpt",),
}


def checkpoints() -> Iterator[Seed]:
    for model, names in FILES.items():
        for name in names:
            yield Seed(
                f"checkpoint/{model}/{name}",
                lambda m=model, n=name: folders()[m][n],
                text=name.endswith(".json"),
                searched="shared" not in model,
            )  # type: ignore[misc]


def plant(seed: str, data: bytes, folder: Path) -> Path:
    """Writes the whole folder of a model with one file replaced; returns what -m would name."""
    _, model, name = seed.split("/")
    folder.mkdir(parents=True, exist_ok=True)
    for other, content in folders()[model].items():
        (folder / other).write_bytes(data if other == name else content)
    return folder if model == "torch" else folder / name
