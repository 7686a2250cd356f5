"""A network as one ONNX file, checked against the original before it is trusted."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from urgentmos.checkpoints import Loaded
from urgentmos.errors import UsageError, need
from urgentmos.nets.urgentmos import UrgentMos

OPSET = 17
TOLERANCE = 1e-4
CHECKED_SECONDS = ((1.0,), (2.37, 0.8), (5.0, 3.1, 4.2))  # batches on which both must agree


class _Metrics(nn.Module):
    """Waves and lengths in, one tensor of metrics out."""

    def __init__(self, net: UrgentMos) -> None:
        super().__init__()
        self.net = net

    def forward(self, wave: Tensor, n_samples: Tensor) -> Tensor:
        """(B, T), (B,) -> (B, M), the metrics in the model's order."""
        return torch.stack(list(self.net.absolute(self.net.encode(wave, n_samples)).values()), dim=1)


def to_onnx(model: Loaded, path: Path) -> float:
    """Write `path` and return the largest difference from the original on noise of several lengths and batch sizes.

    The file's metadata say the name, the version, the rate and the order of the metrics. UsageError if the architecture
    cannot be exported, or if onnxruntime does not give the same numbers within TOLERANCE; then no file is left.
    """
    net = model.net
    if not isinstance(net, UrgentMos) or any(encoder.kind != "conv" for encoder in net.config.encoders):
        raise UsageError(f"{model.info['name']} cannot be exported: only UrgentMOS models with the encoder conv can.")
    if path.suffix.lower() != ".onnx":
        raise UsageError(f"{path}: name the file with .onnx at its end.")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist. Create it first.")
    onnx = need("onnx", "models")
    wrapped = _Metrics(net).eval()  # the whole of it: the exporter puts the mode of the outermost module back everywhere
    example = (torch.randn(2, 32_000), torch.tensor([32_000, 20_000]))
    axes = {"wave": {0: "batch", 1: "samples"}, "n_samples": {0: "batch"}, "metrics": {0: "batch"}}
    scratch = path.with_name(f".{path.name}.new")
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns of what it traces; what it made is checked below
            torch.onnx.export(
                wrapped,
                example,
                str(scratch),
                input_names=["wave", "n_samples"],
                output_names=["metrics"],
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
        graph = onnx.load(str(scratch))
        facts = {
            "name": model.info["name"],
            "version": model.info["version"],
            "rate": net.rate,
            "metrics": ",".join(net.metrics),
        }
        onnx.helper.set_model_props(graph, {key: str(value) for key, value in facts.items()})
        onnx.save(graph, str(scratch))
        error = largest_difference(wrapped, scratch, net.rate)
        if not error <= TOLERANCE:
            raise UsageError(
                f"onnxruntime differs from {model.info['name']} by {error:.1e}. Please report this; nothing was written."
            )
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    return error


def largest_difference(net: nn.Module, path: Path, rate: int) -> float:
    """Largest absolute difference between a network and its file, over all metrics."""
    session = _session(path)
    rng = np.random.default_rng(0)
    worst = 0.0
    for seconds in CHECKED_SECONDS:
        n = np.array([int(s * rate) for s in seconds], dtype=np.int64)
        wave = (0.1 * rng.standard_normal((len(n), n.max()))).astype(np.float32)
        got = session.run(None, {"wave": wave, "n_samples": n})[0]
        with torch.inference_mode():
            want = net(torch.from_numpy(wave), torch.from_numpy(n)).numpy()
        worst = max(worst, float(np.abs(got - want).max()))
    return worst


def _session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
