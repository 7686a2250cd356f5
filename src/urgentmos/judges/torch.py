"""Backends of UrgentMOS, URGENT-PK and UTMOS: architectures behind the one interface that `network.Network` uses.

Features are per clip and made once. All computing happens without gradients, in eval mode, on the judge's own device, and
leaves the caller's torch as it was.
"""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from urgentmos.audio.samples import collate
from urgentmos.errors import UsageError
from urgentmos.nets.ncpm import Sides
from urgentmos.nets.urgentmos import Encoded, UrgentMos
from urgentmos.nets.urgentpk import LENGTH_GAP, Features, UrgentPk, fused_for_inference, judge_pairs
from urgentmos.nets.utmos import Utmos

ANY_GAP = float("inf")
WINDOW_SECONDS = 30.0  # where a net has no limit of its own: attention over more costs memory and was never trained
PAIR_FRAMES = 32_000  # of the first clips of the pairs judged at once: their queries and values are copied for each pair


def choose_device(name: str) -> str:
    """'auto' -> the fastest available device. UsageError if the requested one is not available."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as e:
        raise UsageError(f"device {name!r} is not available here. Use --device auto or cpu") from e
    return name


def backend_of(net: nn.Module, device: str = "auto", *, temperature: float = 1.0) -> Any:
    """The judge for a net, which it takes over: the net is in eval mode and on `device` afterwards.

    temperature: the logits of an UrgentMOS model's verdicts are divided by it.
    """
    device = choose_device(device)
    if isinstance(net, UrgentMos):
        return UrgentMosBackend(net, device, temperature)
    if isinstance(net, UrgentPk):
        return UrgentPkBackend(net, device)
    if isinstance(net, Utmos):
        return UtmosBackend(net, device)
    raise UsageError(f"{type(net).__name__} is no architecture that can score or compare.")


class TorchFeatures(NamedTuple):
    """An encoded clip of UrgentMOS: its metrics, and the tensors that pairs need."""

    metrics: dict[str, float]
    sides: Sides | None  # (1, heads, F, D / heads) each
    n_frames: int


class UrgentMosBackend:
    """UrgentMOS and Uni-VERSA-Ext: one pass through the encoders gives all metrics of a clip."""

    metrics_with_encoding = True
    batch_invariant = False  # matrices of other sizes are multiplied in another order
    padding_costs = True
    max_length_difference = ANY_GAP  # frames of both clips attend to each other, wherever they are

    def __init__(self, net: UrgentMos, device: str, temperature: float = 1.0) -> None:
        self._net = net.to(device).eval()
        self._device = device
        self._temperature = temperature
        self.rate, self.min_samples = net.rate, net.min_samples
        self.window_seconds = min(net.window_seconds or WINDOW_SECONDS, WINDOW_SECONDS)
        # a CPU gains nothing from larger batches and pays for their padding (small conv encoder: 60 s cost 8 % more than 30 s)
        self.batch_seconds = 30.0 if torch.device(device).type == "cpu" else 600.0
        self.metrics = net.metrics
        self.ranges = net.config.ranges
        self.compares = net.ncpm is not None

    def encode(self, waves: Sequence[np.ndarray]) -> list[TorchFeatures]:
        batch = collate(waves, [""] * len(waves))
        with torch.inference_mode(), self._precision():
            wave = torch.from_numpy(batch.wave).to(self._device)
            encoded = self._net.encode(wave, torch.from_numpy(batch.n_samples).to(self._device))
            scores = {name: value.float().cpu().tolist() for name, value in self._net.absolute(encoded).items()}
        spoken = []
        for i, n in enumerate(encoded.n_frames.tolist()):
            sides = None if encoded.sides is None else Sides(*(part[i : i + 1, :, :n].clone() for part in encoded.sides))
            spoken.append(TorchFeatures({name: values[i] for name, values in scores.items()}, sides, n))
        return spoken

    def frame_logits(self, wave: np.ndarray) -> dict[str, np.ndarray] | None:
        """(T,) -> {metric: (F,)} whose mean is the clip's logit; None unless the net pools by the mean."""
        if self._net.config.pooler != "mean":
            return None
        batch = collate([wave], [""])
        with torch.inference_mode(), self._precision():
            samples, n_samples = (torch.from_numpy(x).to(self._device) for x in (batch.wave, batch.n_samples))
            logits = self._net.frame_logits(self._net.encode(samples, n_samples))
            return {name: row[0].double().cpu().numpy() for name, row in logits.items()}

    def absolute(self, features: Sequence[TorchFeatures]) -> list[dict[str, float]]:
        return [clip.metrics for clip in features]

    def judge(self, features: Sequence[TorchFeatures], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        longest = max((features[i].n_frames for pair in pairs for i in pair), default=1)
        at_once = max(1, PAIR_FRAMES // max(1, longest))
        judged = [self._judge(features, pairs[k : k + at_once]) for k in range(0, len(pairs), at_once)]
        return np.concatenate(judged) if judged else np.zeros((0, 4))

    def _judge(self, features: Sequence[TorchFeatures], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        used = sorted({i for pair in pairs for i in pair})
        place = {i: k for k, i in enumerate(used)}
        together = _side_by_side([features[i] for i in used])
        with torch.inference_mode(), self._precision():
            verdicts = self._net.compare(*(together.pick([place[pair[side]] for pair in pairs]) for side in (0, 1)))
            p_a, p_b, p_tie = (verdicts.logits.double() / self._temperature).softmax(dim=1).unbind(dim=1)
            return np.asarray(torch.stack([p_a, p_tie, p_b, verdicts.cmos.double()], dim=1).cpu().numpy())

    def _precision(self) -> Any:
        return _precision(self._device, torch.bfloat16)


def _precision(device: str, dtype: torch.dtype = torch.float32) -> Any:
    """float32 on a CPU, regardless of the caller's autocast; `dtype` where a GPU computes in it."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda" and dtype == torch.bfloat16)


def _side_by_side(clips: Sequence[TorchFeatures]) -> Encoded:
    """Clips of any number of frames as one batch, zero beyond each clip's frames."""
    longest = max(clip.n_frames for clip in clips)
    parts = []
    for k in range(3):
        tensors = [clip.sides[k] for clip in clips if clip.sides is not None]
        parts.append(torch.cat([nn.functional.pad(x, (0, 0, 0, longest - x.shape[2])) for x in tensors]))
    device = parts[0].device
    return Encoded({}, torch.tensor([clip.n_frames for clip in clips], device=device), Sides(*parts))


class UrgentPkBackend:
    """URGENT-PK: pairs in the two channels of one picture. A clip alone is judged against itself (Replication Strategy)."""

    metrics_with_encoding = False  # a pass through the ResNet per clip, which a ranking by votes does not need
    padding_costs = True

    def __init__(self, net: UrgentPk, device: str) -> None:
        # folding batch norms moves opinion scores by up to 4e-5 for a fifth of the time: not worth it where float32 is exact
        self._net = net.eval() if device == "cpu" else fused_for_inference(net.to(device))
        self._device = device
        self._threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.rate, self.min_samples, self.window_seconds = net.rate, net.min_samples, net.window_seconds
        self.batch_seconds = 60.0
        self.batch_invariant = torch.device(device).type == "cpu"  # there each pair is computed alone
        self.max_length_difference = LENGTH_GAP
        self.metrics = ("mos_overall",)
        self.compares = True

    def encode(self, waves: Sequence[np.ndarray]) -> list[Tensor]:
        batch = collate(waves, [""] * len(waves))
        with torch.inference_mode(), _precision(self._device):
            wave = torch.from_numpy(batch.wave).to(self._device)
            rows, n_frames = self._net.features(wave, torch.from_numpy(batch.n_samples).to(self._device))
        return [row[:, :n].clone() for row, n in zip(rows, n_frames.tolist(), strict=True)]

    def absolute(self, features: Sequence[Tensor]) -> list[dict[str, float]]:
        mos = self.opinions(features, [(i, i) for i in range(len(features))])
        return [{"mos_overall": float(value)} for value in mos.mean(axis=1)]

    def judge(self, features: Sequence[Tensor], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        out = self._raw(features, pairs)
        win = 1 / (1 + np.exp(-out[:, 0]))
        return np.stack([win, np.zeros_like(win), 1 - win, out[:, 1] - out[:, 2]], axis=1)

    def opinions(self, features: Sequence[Tensor], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """(P, 2): the opinion scores of the first and the second clip of each ordered pair."""
        return self._raw(features, pairs)[:, 1:]

    def _raw(self, features: Sequence[Tensor], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        if not pairs:
            return np.zeros((0, 3))
        used = sorted({i for pair in pairs for i in pair})
        place = {i: k for k, i in enumerate(used)}
        clips = [features[i] for i in used]
        longest = max(x.shape[1] for x in clips)
        rows = torch.stack([nn.functional.pad(x, (0, longest - x.shape[1])) for x in clips])
        n_frames = torch.tensor([x.shape[1] for x in clips], device=rows.device)
        chosen = [(place[a], place[b]) for a, b in pairs]
        with _precision(self._device):
            return judge_pairs(self._net, Features(rows, n_frames), chosen, self._threads).double().cpu().numpy()


class UtmosBackend:
    """UTMOS22 strong: one score per clip, each length alone since the net knows no padding."""

    metrics_with_encoding = True
    compares = False
    batch_invariant = True
    padding_costs = False
    max_length_difference = ANY_GAP
    metrics = ("utmos",)
    rate = 16_000
    window_seconds = WINDOW_SECONDS
    batch_seconds = 60.0

    def __init__(self, net: Utmos, device: str) -> None:
        self._net = net.to(device).eval()
        self._device = device
        self.min_samples = 1600

    def encode(self, waves: Sequence[np.ndarray]) -> list[float]:
        scores = []
        with torch.inference_mode(), _precision(self._device):
            for wave in waves:
                scores.append(float(self._net(torch.from_numpy(wave).to(self._device)[None])))
        return scores

    def absolute(self, features: Sequence[float]) -> list[dict[str, float]]:
        return [{"utmos": value} for value in features]

    def judge(self, features: Sequence[float], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        raise UsageError("UTMOS does not judge pairs. Rank by its scores.")
