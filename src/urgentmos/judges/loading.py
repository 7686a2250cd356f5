"""Loading networks: by onnxruntime where there is an ONNX file, else by torch."""

from pathlib import Path
from typing import Any

from urgentmos.errors import UsageError, need
from urgentmos.judges.network import Network
from urgentmos.judges.onnx import light_file, open_backend


def load_network(model: str | Path, *, device: str = "auto", symmetric: bool = True, allow_download: bool = True) -> Network:
    """The predictor of a release, a model folder, a released checkpoint file or an exported one. UsageError if there is none.

    A model with an ONNX file is run by onnxruntime, without torch, unless another device than the CPU is requested.
    """
    light = light_file(model)
    if light is not None and device in ("auto", "cpu"):
        judge, info = open_backend(light)
        notes = judge.model.notes
    elif light is not None and light == Path(model):
        raise UsageError(f"{model} is computed on the CPU only. Use --device cpu, or the folder of the model.")
    else:
        judge, info, notes = torch_backend(model, device, allow_download)
    offered = tuple(name for name in judge.metrics if name in (info.get("metrics") or judge.metrics))
    if not offered:
        raise UsageError(f"{model}: the model was taught no metric that its net has. Get the model again.")
    ranks_by = "mos_overall" if "mos_overall" in offered else offered[0]
    named = str(info["name"]), str(info["version"]), offered
    return Network(judge, *named, ranks_by=ranks_by, symmetric=symmetric, calibration=info.get("intervals"), notes=notes)


def torch_backend(model: str | Path, device: str, allow_download: bool) -> tuple[Any, dict[str, Any], tuple[str, ...]]:
    """The backend, the content of config.json, and the warnings of every result of the model."""
    need("torch", "models")
    from urgentmos.judges.torch import backend_of
    from urgentmos.models.folder import load_any, verdict_temperature

    loaded = load_any(model, allow_download=allow_download)
    judge = backend_of(loaded.net, device, temperature=verdict_temperature(loaded.info, Path(model)))
    return judge, loaded.info, loaded.notes
