"""URGENT-PK: two homologous clips -> which sounds better, and an opinion score for each.

Wang et al. 2025, "URGENT-PK: Perceptually-Aligned Ranking Model Designed for Speech Enhancement Competition", section
II-A: each clip becomes a picture (feature rows by frames), the two pictures are the two channels of one, and a ResNet
judges it. The two halves are separate here, `features` once per clip and `compare` once per pair, because ranking S
systems takes S clips but S*(S-1) ordered pairs of each content.

Padding. The released net has no mask: it ranks one pair at a time, and in its training padding was heard. Here every
convolution and the pooling see a padded clip as they see it alone, in training too. `compare` without `n_frames` takes
every frame as real, which is the released behaviour.

Unequal lengths. Both clips of a pair share one time axis, so a pair is judged on the frames that both have: the longer clip
is cut at its end. Homologous clips differ by a last block of a codec or an STFT; where they differ by more than
`LENGTH_GAP` seconds the caller should say so, since what is missing in one clip is then not judged.
"""

import copy
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from urgentmos.common.untrusted import shown
from urgentmos.errors import AudioError, UsageError
from urgentmos.nets.layers import check_dropout, check_sizes, valid_mask
from urgentmos.nets.spectra import LogMel, Stft
from urgentmos.nets.utmos import CONV_STRIDE, Utmos, UtmosConfig

BACKBONES = {"resnet34": (3, 4, 6, 3), "resnet18": (2, 2, 2, 2)}  # blocks in each of the four stages
SHRINK = 8  # of rows and of frames, by the strides of the last three stages
MAX_FILTERS = 1024
LENGTH_GAP = 0.1  # seconds between the lengths of two clips above which a pair deserves a warning
SAMPLES_PER_FRAME = {"mel": 80, "stft": 160, "utmos": math.prod(CONV_STRIDE)}
ROWS = {"mel": 120, "stft": 322}  # of utmos: twice the width of its LSTM
BATCH_FRAMES = 20_000  # of the pairs judged at once on a GPU: about 2 GB of activations
_ONE_POOL = threading.Lock()


@dataclass(frozen=True)
class UrgentPkConfig:
    """Sizes and choices; the defaults are those of the released mel model."""

    encoder: str = "mel"  # "mel", "stft" or "utmos"
    backbone: str = "resnet34"  # or "resnet18"
    filters: int = 32  # of the first stage; doubled in each of the other three
    dropout: float = 0.3  # between the two convolutions of a block, in training
    tune_encoder: bool = False  # the paper's UTMOS(ft); otherwise UTMOS stays as it is, in eval mode
    utmos: UtmosConfig | None = None  # sizes of UTMOS where the encoder is "utmos"; None: those of the public weights

    def __post_init__(self) -> None:
        _one_of("encoder", self.encoder, SAMPLES_PER_FRAME)
        _one_of("backbone", self.backbone, BACKBONES)
        check_dropout(self.dropout)
        sizes = {name: getattr(self, name) for name in ("filters", "tune_encoder")}
        check_sizes(sizes, {"filters": 1, "tune_encoder": False}, MAX_FILTERS)
        if self.encoder == "utmos" and self.utmos is None:
            object.__setattr__(self, "utmos", UtmosConfig())
        if self.encoder != "utmos" and (self.utmos is not None or self.tune_encoder):
            raise UsageError(f"the encoder {self.encoder} has no weights: leave out `utmos` and `tune_encoder`, or use utmos.")

    @property
    def rows(self) -> int:
        """Feature rows of a frame: 120 mel, 322 stft, 1024 utmos in its public size."""
        return ROWS[self.encoder] if self.utmos is None else 2 * self.utmos.lstm

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "UrgentPkConfig":
        """The other way. UsageError names what is unknown."""
        values = dict(data)
        _known(cls, values)
        if values.get("utmos") is not None:
            sizes = dict(values["utmos"])
            _known(UtmosConfig, sizes)
            values["utmos"] = UtmosConfig(**sizes | {k: tuple(v) for k, v in sizes.items() if isinstance(v, list)})
        return cls(**values)


class Features(NamedTuple):
    """The features of a clip, computed once for all its pairs."""

    rows: Tensor  # (B, rows, F), zero beyond n_frames
    n_frames: Tensor  # (B,)


class UrgentPk(nn.Module):
    """Waveforms at 16 kHz -> (B, 3): the logit of "the first is better", and the opinion scores of the first and the second.

    The opinion scores are on the 1..5 scale and not clamped.
    """

    rate = 16_000
    window_seconds = 30.0  # longer pairs are judged in windows

    def __init__(self, config: UrgentPkConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or UrgentPkConfig()
        self.encoder: Any = _encoder(c)
        if not c.tune_encoder:
            self.encoder.requires_grad_(False).eval()
        self.resnet = ResNet(BACKBONES[c.backbone], c.filters, c.rows, c.dropout)

    @property
    def min_samples(self) -> int:
        """Below it nothing is left to take a variance of: the pooling needs two frames after the strides."""
        frames = SHRINK + 1
        if self.config.utmos is None:
            return (frames - 1) * SAMPLES_PER_FRAME[self.config.encoder]
        for kernel, stride in reversed(list(zip(self.config.utmos.conv_kernel, CONV_STRIDE, strict=True))):
            frames = (frames - 1) * stride + kernel
        return frames

    def train(self, mode: bool = True) -> "UrgentPk":
        super().train(mode)
        if not self.config.tune_encoder:
            self.encoder.eval()
        return self

    def features(self, wave: Tensor, n_samples: Tensor) -> Features:
        """(B, T) at 16 kHz, (B,) -> rows (B, rows, F) and n_frames (B,).

        A clip's features are those that it has alone, bit for bit where lengths are equal: each length goes through the
        encoder without padding, because all encoders look at the clip's end (by reflection, or by norms over time).
        Raises AudioError if a clip is shorter than `min_samples`.
        """
        lengths = n_samples.tolist()
        if min(lengths) < self.min_samples:
            raise AudioError(
                f"{min(lengths)} samples at {self.rate} Hz are too short to compare: "
                f"at least {self.min_samples} ({1000 * self.min_samples / self.rate:.0f} ms) are needed."
            )
        groups = [[i for i, n in enumerate(lengths) if n == length] for length in sorted(set(lengths))]
        parts = [self._encode(wave[group, : lengths[group[0]]]) for group in groups]
        longest = max(part.shape[2] for part in parts)
        rows = torch.cat([functional.pad(part, (0, longest - part.shape[2])) for part in parts])
        n_frames = torch.tensor([part.shape[2] for part in parts for _ in part], device=wave.device)
        order = torch.tensor([i for group in groups for i in group], device=wave.device).argsort()
        return Features(rows[order], n_frames[order])

    def _encode(self, wave: Tensor) -> Tensor:
        """(B, T) -> (B, rows, F), all samples and frames real."""
        if self.config.encoder == "utmos":
            utmos_frames: Tensor = self.encoder.frames(wave)
            return utmos_frames.transpose(1, 2)
        rows: Tensor = self.encoder(wave)
        return rows

    def compare(self, a: Tensor, b: Tensor, n_frames: Tensor | None = None) -> Tensor:
        """Rows of the first and of the second clips (B, rows, F), the frames that both have (B,) -> (B, 3); one order only.

        Without `n_frames` all F frames are real.
        """
        out: Tensor = self.resnet(torch.stack([a, b], dim=1), n_frames)
        return out

    def forward(self, wave: Tensor, n_samples: Tensor) -> Tensor:
        """Pairs (B, 2, T) at 16 kHz of `n_samples` (B,) each -> (B, 3); one order only."""
        rows, n_frames = self.features(wave.flatten(0, 1), n_samples.repeat_interleave(2))
        rows = rows.reshape(-1, 2, *rows.shape[1:])
        return self.compare(rows[:, 0], rows[:, 1], n_frames[::2])


class ResNet(nn.Module):
    """Pictures (B, 2, rows, F) -> (B, 3). He et al. 2016 without the first max-pool, and with statistics over time.

    filters: of the first stage, whose stride is 1; the other three have stride 2 and twice as many each.
    """

    def __init__(self, blocks: Sequence[int], filters: int, rows: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, filters, 3, padding=1, bias=False)
        self.bn1: nn.Module = MaskedBatchNorm(filters)
        width = filters
        for stage, n_blocks in enumerate(blocks):
            out = filters * 2**stage
            strides = [1 if stage == 0 else 2] + [1] * (n_blocks - 1)
            layer = [Block(width if n == 0 else out, out, stride, dropout) for n, stride in enumerate(strides)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layer))
            width = out
        self.stages = len(blocks)
        self.embedding = nn.Linear(2 * width * math.ceil(rows / SHRINK), 3)

    def forward(self, x: Tensor, n: Tensor | None = None) -> Tensor:
        """(B, 2, rows, F), real frames (B,) or None for all -> (B, 3)."""
        if n is not None and bool((n >= x.shape[3]).all()):
            n = None  # nothing to mask
        x = _hide_padding(x, n)
        x = _hide_padding(_norm(self.bn1, self.conv1(x), n).relu_(), n)
        for stage in range(self.stages):
            for block in self.get_submodule(f"layer{stage + 1}").children():
                x, n = block(x, n)
        mean, deviation = _statistics(x, n)
        scores: Tensor = self.embedding(torch.cat([mean.flatten(1), deviation.flatten(1)], dim=1))
        return scores


class Block(nn.Module):
    """Two 3x3 convolutions and a way around them."""

    def __init__(self, width: int, out: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(width, out, 3, stride=stride, padding=1, bias=False)
        self.bn1: nn.Module = MaskedBatchNorm(out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2: nn.Module = MaskedBatchNorm(out)
        self.shortcut = nn.Sequential()
        if stride != 1 or width != out:
            self.shortcut = nn.Sequential(nn.Conv2d(width, out, 1, stride=stride, bias=False), MaskedBatchNorm(out))

    def forward(self, x: Tensor, n: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, width, rows, F), zero beyond `n` (B,) -> (B, out, rows/stride, F/stride), zero beyond the new n, and that."""
        if n is not None:
            n = (n + self.stride - 1) // self.stride
        y = _hide_padding(_norm(self.bn1, self.conv1(x), n).relu_(), n)
        y = _norm(self.bn2, self.conv2(self.dropout(y)), n)
        if len(self.shortcut):
            x = self.shortcut[0](x)
            x = _norm(self.shortcut[1], x, n) if len(self.shortcut) > 1 else x
        return _hide_padding((y + x).relu_(), n), n


class MaskedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation whose statistics in training leave padding out."""

    def forward(self, x: Tensor, n: Tensor | None = None) -> Tensor:
        """(B, C, rows, F), real frames (B,) or None for all -> the same shape; what stands in the padding has no meaning."""
        if n is None or not self.training:
            return super().forward(x)
        real = valid_mask(n, x.shape[3])[:, None, None, :].to(x.dtype)  # (B, 1, 1, F)
        count = n.sum() * x.shape[2]
        mean = (x * real).sum((0, 2, 3), keepdim=True) / count
        variance = ((x - mean).square() * real).sum((0, 2, 3), keepdim=True) / count
        self._remember(mean.detach().flatten(), variance.detach().flatten() * count / (count - 1))
        scale = self.weight[:, None, None] * (variance + self.eps).rsqrt()
        return (x - mean) * scale + self.bias[:, None, None]

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Running statistics, as nn.BatchNorm2d keeps them with its default momentum of 0.1."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum or 0.1)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum or 0.1)


def _norm(norm: nn.Module, x: Tensor, n: Tensor | None) -> Tensor:
    """Batch normalisation, or nothing where it was folded into the convolution."""
    out: Tensor = norm(x, n) if isinstance(norm, MaskedBatchNorm) else x
    return out


def _hide_padding(x: Tensor, n: Tensor | None) -> Tensor:
    """(B, C, rows, F) with zeros beyond `n`: what a convolution meets at the end of a clip that is alone."""
    return x if n is None else x.masked_fill(~valid_mask(n, x.shape[3])[:, None, None, :], 0.0)


def _statistics(x: Tensor, n: Tensor | None) -> tuple[Tensor, Tensor]:
    """(B, C, rows, F), zero beyond `n` -> mean and standard deviation over the real frames, (B, C, rows) each.

    The variance is the unbiased one, of a single frame 0.
    """
    if n is None:
        n = torch.full((x.shape[0],), x.shape[3], device=x.device)
    count = n[:, None, None].to(x.dtype)
    mean = x.sum(3) / count
    squares = _hide_padding((x - mean[..., None]).square(), n).sum(3)
    return mean, (squares / (count - 1).clamp(min=1) + 1e-10).sqrt()


# --- fast inference --------------------------------------------------------------------------------------------------


def fused_for_inference(net: UrgentPk) -> UrgentPk:
    """A copy of `net` in eval mode, without gradients, batch norms folded into convolutions, channels last in memory.

    `net` is left as it is. The same numbers within the rounding of float32, which the depth of the net amplifies: the
    reference vectors of the released model are up to 2e-5 from exact numbers (7e-5 for silence), and so are these, but not
    in the same direction. Where released numbers are to be met within 2e-5, judge with the net itself.
    """
    fused = copy.deepcopy(net).eval().requires_grad_(False)
    _fold(fused.resnet, "conv1", "bn1")
    for block in fused.resnet.modules():
        if isinstance(block, Block):
            _fold(block, "conv1", "bn1")
            _fold(block, "conv2", "bn2")
            if len(block.shortcut) > 1:
                _fold(block.shortcut, "0", "1")
                del block.shortcut[1]
    fused.resnet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return fused


def _fold(parent: nn.Module, conv: str, norm: str) -> None:
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    fused: nn.Module = fuse_conv_bn_eval(parent.get_submodule(conv), parent.get_submodule(norm))  # type: ignore[type-var,arg-type]
    setattr(parent, conv, fused.requires_grad_(False))
    setattr(parent, norm, nn.Identity())


def judge_pairs(net: UrgentPk, features: Features, pairs: Sequence[tuple[int, int]], threads: int = 1) -> Tensor:
    """Judge ordered pairs of clips, given by their places in `features`: (P, 3), as `UrgentPk.compare` gives them.

    threads: CPU cores to use. On a CPU the pairs go one at a time, each on one core: the activations of a batch are so large
        that the allocator fetches them again from the system in every layer, and cores that share one convolution wait for
        each other (benchmarks/urgentpk.py). So the numbers depend neither on a pair's company nor on `threads`. On another
        device pairs of equal length go in batches.

    `net` as it is reproduces released numbers; one of `fused_for_inference` is faster. Pairs longer than
    `net.window_seconds` are cut into windows of equal length, and their numbers are means over the windows. Nothing of the
    caller's torch state is changed. Raises ValueError if the net is in training mode.
    """
    if net.resnet.training:
        raise ValueError("judge_pairs needs a net in eval mode: pass fused_for_inference(net).")
    if not pairs:
        return features.rows.new_zeros(0, 3)
    rows, n_frames = features.rows, features.n_frames.tolist()
    lengths = [min(n_frames[a], n_frames[b]) for a, b in pairs]
    batches = [[place] for place in range(len(pairs))] if rows.device.type == "cpu" else _equal_lengths(lengths)

    def judge(batch: list[int]) -> Tensor:
        n = lengths[batch[0]]
        first, second = ([pairs[place][side] for place in batch] for side in (0, 1))
        with torch.inference_mode():
            return _judge(net, rows[first, :, :n], rows[second, :, :n])

    if rows.device.type == "cpu":
        with _one_core_each(threads) as pool:
            judged = list(pool.map(judge, batches))
    else:
        judged = [judge(batch) for batch in batches]
    order = torch.tensor([place for batch in batches for place in batch], device=rows.device).argsort()
    return torch.cat(judged)[order]


def _judge(net: UrgentPk, a: Tensor, b: Tensor) -> Tensor:
    """Rows of equal length (B, rows, F) -> (B, 3), the mean over windows."""
    longest = int(net.window_seconds * net.rate / SAMPLES_PER_FRAME[net.config.encoder])
    windows = math.ceil(a.shape[2] / longest)
    parts = zip(a.tensor_split(windows, dim=2), b.tensor_split(windows, dim=2), strict=True)
    return torch.stack([net.compare(*part) for part in parts]).mean(dim=0)


def _equal_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Places of equal lengths together, in batches of at most BATCH_FRAMES frames."""
    batches = []
    for length in sorted(set(lengths)):
        places = [place for place, n in enumerate(lengths) if n == length]
        size = max(1, BATCH_FRAMES // length)
        batches += [places[start : start + size] for start in range(0, len(places), size)]
    return batches


@contextmanager
def _one_core_each(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of `threads` threads in which torch uses one core each.

    torch hands the number that was set last, in whatever thread, to threads that are new to it: so it is set back
    afterwards, and two pools never overlap.
    """
    with _ONE_POOL:
        before = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                yield pool
        finally:
            torch.set_num_threads(before)


# --- choices by name -------------------------------------------------------------------------------------------------


def _encoder(config: UrgentPkConfig) -> nn.Module:
    if config.utmos is not None:
        utmos = Utmos(config.utmos)
        utmos.projection = nn.Sequential()  # its frames are used, never its score
        return utmos
    return LogMel() if config.encoder == "mel" else Stft()


def _one_of(what: str, name: str, table: Mapping[str, Any]) -> None:
    if name not in table:
        raise UsageError(f"{shown(name, 40)} is no {what} of URGENT-PK. Choose one of {', '.join(table)}.")


def _known(kind: type, data: Mapping[str, Any]) -> None:
    """UsageError if `data` has a key that is no field of the dataclass `kind`."""
    names = [field.name for field in fields(kind)]
    unknown = sorted(data.keys() - set(names))
    if unknown:
        raise UsageError(f"{shown(unknown[0], 40)} is unknown to {kind.__name__}. It has {', '.join(names)}.")
