"""A network as one ONNX file, checked against the original before it is trusted.

One graph computes all that is per clip: metrics, frame logits for a timeline, and what pairs need of the clip. What remains
for a pair has no weights (`onnx.judged_pair`), so S systems cost S runs of the graph and not one per pair.
"""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from math import inf, isfinite
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from urgentmos.audio.samples import collate
from urgentmos.common.untrusted import shown
from urgentmos.errors import UsageError, need
from urgentmos.files import replacing_path
from urgentmos.judges import int8
from urgentmos.judges.onnx import INPUTS, OnnxBackend, Start, open_model, run_graph
from urgentmos.judges.torch import WINDOW_SECONDS
from urgentmos.models import checksums
from urgentmos.models.folder import CONFIG, ONNX, Loaded, list_file, read_info
from urgentmos.nets import ampm, conv, encoders, layers, ncpm, urgentmos
from urgentmos.nets.conv import ConvEncoder
from urgentmos.nets.layers import layer_sum
from urgentmos.nets.ncpm import Ncpm, Sides
from urgentmos.nets.stacked import Stacked
from urgentmos.nets.urgentmos import Encoded, UrgentMos

OPSET = 17
TOLERANCE = 1e-4
CHECKED_SECONDS = ((1.0,), (2.37, 0.8), (5.0, 3.1, 4.2))  # batches on which both must agree
FRAMED = ("frame_logits", "query", "key", "answer")  # outputs with a number of frames


class Graph(nn.Module):
    """All that is per clip, for B clips. What stands beyond a clip's frames means nothing."""

    def __init__(self, net: UrgentMos, start: Start = "waves") -> None:
        super().__init__()
        self.net, self.start = net, start
        ranges = net.config.ranges.values()
        one_clip = start == "log-mel"
        self.stacked = Stacked(net.ampm) if one_clip else None
        self.heads = nn.ModuleList(_together(net, m) for m in net.ampm.metrics.values() if not one_clip)
        self.bound = Bounds(list(ranges))
        self.answers = None if net.ncpm is None else Answers(net.ncpm)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `forward` returns."""
        frames = ("n_frames",) if self.start == "waves" else ()
        timeline = ("frame_logits",) if self.net.ampm.pooler == "mean" else ()
        return ("metrics", *frames, *timeline, *(() if self.answers is None else ("query", "key", "answer")))

    def forward(self, x: Tensor, n: Tensor | None = None) -> tuple[Tensor, ...]:
        """Waves (B, T) and samples (B,), or the log-mel of one clip (1, F, bands) -> what `outputs` names:

        metrics (B, M); n_frames (B,); frame_logits (B, M, F), whose mean over n_frames gives a metric through its bound;
        query and key (B, heads, F, d), answer (B, heads, F, 4), of which `onnx.judged_pair` makes a pair's answer.
        """
        fused, frames = self.net.fusion(self._branches(x, n))
        outputs: list[Tensor] = []
        features, logits = self._categories(fused, frames)
        if logits is not None:
            # a mean of frame logits is the logit of the mean: one product instead of a mean over D per metric
            metrics = self.bound(layers.masked_mean(logits, frames))
            logits = layers.zero_padding(logits, frames)
            outputs.append(logits.transpose(1, 2))
        else:
            metrics = torch.stack(list(self.net.ampm(features, frames).values()), dim=1)
        if self.answers is not None and self.net.ncpm is not None:
            outputs += self.answers(self.net.ncpm.sides(features[str(self.net.config.preference)], frames))
        return (metrics, frames, *outputs) if self.start == "waves" else (metrics, *outputs)

    def _categories(self, fused: Tensor, n: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """Frames of each category, each (B, F, D), and the frame logits (B, F, M) if metrics are means of them."""
        mean = self.net.ampm.pooler == "mean"
        if self.stacked is not None:
            side_by_side = self.stacked(fused)  # (C, F, D)
            features = {name: side_by_side[k : k + 1] for k, name in enumerate(self.stacked.names)}
            return features, self.stacked.frame_logits(side_by_side) if mean else None
        features = self.net.ampm.encode(fused, n)
        parts = [head(features[name]) for name, head in zip(self.net.ampm.metrics, self.heads, strict=True)]
        return features, torch.cat(parts, dim=2) if mean else None

    def _branches(self, x: Tensor, n: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        if self.start == "waves":
            return [encoder(x, n) for encoder in self.net.encoders]
        encoder = self.net.encoders[0]
        assert isinstance(encoder, ConvEncoder)
        states = encoder.states_of(x, torch.ones(1))  # all frames are real; their number is not used
        return [(states[-1] if encoder.weights is None else layer_sum(states, encoder.weights), torch.ones(1))]


def _together(net: UrgentMos, metrics: Sequence[str]) -> nn.Linear:
    """The heads of one category as one: (.., D) -> (.., metrics)."""
    heads = [net.ampm.heads[name].linear for name in metrics]
    layer = nn.Linear(heads[0].in_features, len(heads))  # type: ignore[union-attr, arg-type]
    with torch.no_grad():
        layer.weight.copy_(torch.cat([head.weight for head in heads]))  # type: ignore[union-attr, misc]
        layer.bias.copy_(torch.cat([head.bias for head in heads]))  # type: ignore[union-attr, misc]
    return layer


class Bounds(nn.Module):
    """The range-constraining activations of M metrics at once; `nets.layers.Bounded` for each of them."""

    low: Tensor
    high: Tensor
    kind: Tensor

    def __init__(self, ranges: Sequence[tuple[float, float]]) -> None:
        super().__init__()
        self.kinds = [2 * isfinite(low) + isfinite(high) for low, high in ranges]
        ends = [[bound if isfinite(bound) else 0.0 for bound in bounds] for bounds in ranges]
        self.register_buffer("low", torch.tensor([low for low, _ in ends]))
        self.register_buffer("high", torch.tensor([high for _, high in ends]))
        self.register_buffer("kind", torch.tensor(self.kinds))

    def forward(self, x: Tensor) -> Tensor:
        """(B, M) -> (B, M)."""
        kinds = {
            3: lambda: self.low + (self.high - self.low) * x.sigmoid(),
            2: lambda: self.low + functional.softplus(x - self.low),
            1: lambda: self.high - functional.softplus(self.high - x),
            0: lambda: x,
        }
        first, *others = sorted(set(self.kinds))
        bounded: Tensor = kinds[first]()
        for kind in others:
            bounded = torch.where(self.kind == kind, kinds[kind](), bounded)
        return bounded


class Answers(nn.Module):
    """The preference module as far as it is per clip, its weights all folded in.

    The output projection and both heads are linear, and attention is a mean with weights that add up to 1 in every head. So a
    value vector may go through them before the attention: four numbers a frame and head are left of it, biases included.
    """

    fold: Tensor
    bias: Tensor

    def __init__(self, ncpm: Ncpm) -> None:
        super().__init__()
        attention = ncpm.attention
        heads = torch.cat([ncpm.verdict.weight[[0, 2, 1]], ncpm.cmos.weight]).double()  # a, tie, b; CMOS
        bias = torch.cat([ncpm.verdict.bias[[0, 2, 1]], ncpm.cmos.bias]).double() + heads @ attention.out_proj.bias.double()
        fold = (heads @ attention.out_proj.weight.double()).mT.reshape(attention.heads, -1, len(heads))
        self.scale = fold.shape[1] ** -0.5
        self.register_buffer("fold", fold.float().detach())  # (heads, d, 4)
        self.register_buffer("bias", (bias / attention.heads).float().detach())

    def forward(self, sides: Sides) -> list[Tensor]:
        """(B, heads, F, d) each -> query (scaled), key, answer (B, heads, F, 4)."""
        return [sides.query * self.scale, sides.key, sides.value @ self.fold + self.bias]


def to_onnx(model: Loaded, path: Path, start: Start = "waves") -> float:
    """Write `path` and return the largest difference from the original on noise of several lengths and batch sizes.

    start: "waves" for a file that takes samples; "log-mel" for one that takes what `logmel.LogMel` computes, which is faster.
    The differences are those of metrics, of frame logits and of the verdicts on pairs in both orders. The metadata say all that
    `onnx_judge.OnnxBackend` needs. UsageError if the architecture cannot be exported, or if onnxruntime does not give the same
    numbers within TOLERANCE; then no file is left.
    """
    net = _exportable(model)
    if path.suffix.lower() != ".onnx":
        raise UsageError(f"{path}: name the file with .onnx at its end.")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist. Create it first.")
    onnx = need("onnx", "models")
    beside = _belongs(path, model)
    with replacing_path(path) as scratch:
        _write(Graph(net, start).eval(), scratch)
        graph = onnx.load(str(scratch))
        onnx.helper.set_model_props(graph, {**facts(model, net, start), **checksums.empty_entry()})
        int8.pack(graph)
        content = checksums.sealed_onnx(graph.SerializeToString())
        scratch.write_bytes(content)
        error = largest_difference(net, scratch)
        if not error <= TOLERANCE:
            raise UsageError(
                f"onnxruntime differs from {model.info['name']} by {error:.1e}. Please report this; nothing was written."
            )
        if beside:
            list_file(path.parent, ONNX, None)  # after a kill, config.json names no other file
    if beside:
        list_file(path.parent, ONNX, checksums.sha256_of(content))
    return error


def _belongs(path: Path, model: Loaded) -> bool:
    """Whether `path` is the ONNX file of a model folder, whose config.json lists it. UsageError if that is another model's."""
    if path.name != ONNX or not (path.parent / CONFIG).is_file():
        return False
    about = read_info(path.parent)
    if any(about[key] != model.info[key] for key in ("name", "version")):
        other = f"{shown(about['name'], 60)} {about['version']:.40}"
        raise UsageError(f"{path.parent} holds another model, {other}. Choose another place for -o.")
    return True


def _exportable(model: Loaded) -> UrgentMos:
    """UsageError unless the encoder conv is the only one: a trace cannot stretch several to one length."""
    net = model.net
    if not isinstance(net, UrgentMos) or [encoder.kind for encoder in net.config.encoders] != ["conv"]:
        raise UsageError(f"{model.info['name']} cannot be exported: only UrgentMOS models with the encoder conv can.")
    return net


def facts(model: Loaded, net: UrgentMos, start: Start) -> dict[str, str]:
    """The metadata of the file."""
    rows: dict[str, Any] = {
        "name": model.info["name"],
        "version": model.info["version"],
        "rate": net.rate,
        "metrics": ",".join(net.metrics),
        "min_samples": net.min_samples,
        "window_seconds": min(net.window_seconds or WINDOW_SECONDS, WINDOW_SECONDS),
        "ranges": json.dumps([[None if abs(bound) == inf else bound for bound in pair] for pair in net.config.ranges.values()]),
        "info": json.dumps({k: v for k, v in checksums.unsealed(model.info).items() if k != "config"}, ensure_ascii=False),
    }
    if start == "log-mel":
        encoder = net.encoders[0]
        assert isinstance(encoder, ConvEncoder)
        sizes = {key: getattr(encoder.sizes, key) for key in ("n_fft", "hop", "bands")}
        rows["log_mel"] = json.dumps({**sizes, "rate": net.rate, "normalise": encoder.config.normalise})
    return {key: str(value) for key, value in rows.items()}


def _write(graph: Graph, path: Path) -> None:
    axes: dict[str, dict[int, str]] = {name: {2: "frames"} for name in FRAMED}
    example: tuple[Tensor, ...]
    if graph.start == "waves":
        example = torch.randn(2, 32_000), torch.tensor([32_000, 20_000])
        axes |= {"wave": {1: "samples"}, "n_samples": {}, "metrics": {}, "n_frames": {}}
        axes = {name: {0: "batch", **axis} for name, axis in axes.items()}
    else:
        example = (torch.randn(1, 200, graph.net.encoders[0].sizes.bands),)  # type: ignore[union-attr, arg-type]
        axes["log_mel"] = {1: "mel_frames"}
    names = INPUTS[graph.start]
    with torch.inference_mode(), warnings.catch_warnings(), nullcontext() if graph.start == "waves" else as_if_alone():
        warnings.simplefilter("ignore")  # the exporter warns of what it traces; what it made is checked afterwards
        torch.onnx.export(
            graph,
            example,
            str(path),
            input_names=list(names),
            output_names=list(graph.outputs),
            dynamic_axes={name: axis for name, axis in axes.items() if name in (*names, *graph.outputs)},
            opset_version=OPSET,
            dynamo=False,
        )


@contextmanager
def as_if_alone() -> Iterator[None]:
    """Trace nets without padding masks, which cost a tenth of the time and which a single clip does not need.

    A graph traced so is right for one clip only.
    """

    def attend(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        mixed: Tensor = (query * int(query.shape[3]) ** -0.5 @ key.transpose(2, 3)).softmax(dim=3) @ value
        return mixed

    def split_heads(x: Tensor, parts: int, heads: int) -> Tensor:
        return x.reshape(1, -1, parts, heads, int(x.shape[2]) // parts // heads).permute(2, 0, 3, 1, 4)

    replaced: dict[str, Any] = {
        "zero_padding": lambda x, n: x,
        "valid_mask": lambda n, size: torch.ones(1, 1, dtype=torch.bool),  # ORT drops a product with 1
        "masked_mean": lambda x, n: x.mean(dim=1),
        # with all but one size given, the graph need not compute any
        "split_heads": split_heads,
        "join_heads": lambda x: x.transpose(1, 2).reshape(1, -1, int(x.shape[1]) * int(x.shape[3])),
    }
    with ExitStack() as stack:
        for module in (ampm, conv, encoders, layers, ncpm, urgentmos):
            for name in replaced.keys() & vars(module).keys():
                stack.enter_context(mock.patch.object(module, name, replaced[name]))
        stack.enter_context(mock.patch.object(functional, "scaled_dot_product_attention", attend))
        yield


def largest_difference(net: UrgentMos, path: Path) -> float:
    """Largest absolute difference between a network and its file: in metrics, frame logits and answers to pairs."""
    model = open_model(path)
    judge = OnnxBackend(model, threads=1)
    rng = np.random.default_rng(0)
    worst = 0.0
    for seconds in CHECKED_SECONDS:
        waves = [(0.1 * rng.standard_normal(int(s * net.rate))).astype(np.float32) for s in seconds]
        batch = collate(waves, [""] * len(waves))
        with torch.inference_mode():
            encoded = net.encode(torch.from_numpy(batch.wave), torch.from_numpy(batch.n_samples))
            want = _per_clip(net, encoded)
            for values, wanted in zip(run_graph(model, waves), want, strict=True):
                worst = max(worst, *(_distance(values[name], wanted[name]) for name in wanted))
            if judge.compares:
                pairs = [(a, b) for a in range(len(waves)) for b in range(len(waves))]
                worst = max(worst, _distance(judge.raw(judge.encode(waves), pairs), _per_pair(net, encoded, pairs)))
    return worst


def _per_clip(net: UrgentMos, encoded: Encoded) -> list[dict[str, np.ndarray]]:
    """The network's own metrics (M,) and frame logits (M, F) of each clip."""
    outputs = {"metrics": torch.stack(list(net.absolute(encoded).values()), dim=1).numpy()}
    if net.ampm.pooler == "mean":
        outputs["frame_logits"] = torch.stack(list(net.frame_logits(encoded).values()), dim=1).numpy()
    return [
        {name: values[i] if name == "metrics" else values[i, :, :n] for name, values in outputs.items()}
        for i, n in enumerate(encoded.n_frames.tolist())
    ]


def _per_pair(net: UrgentMos, encoded: Encoded, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """(P, 4): the network's own logits of a, tie, b, and CMOS."""
    verdicts = net.compare(*(encoded.pick([pair[side] for pair in pairs]) for side in (0, 1)))
    return torch.cat([verdicts.logits[:, [0, 2, 1]], verdicts.cmos[:, None]], dim=1).numpy()


def _distance(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.abs(got - want).max()) if got.shape == want.shape else inf
