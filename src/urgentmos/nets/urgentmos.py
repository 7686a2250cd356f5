"""UrgentMOS: encoders, fusion, AMPM and NCPM, built from plain data.

A clip is encoded once (`encode`); everything else works on what that returns, so S systems cost S encodings and not one
per pair. Sizes and choices are those of UrgentMOS section 3.1 and `metrics-and-corpora` C.2.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from urgentmos.common.untrusted import reason, shown
from urgentmos.errors import UsageError
from urgentmos.nets.ampm import Ampm
from urgentmos.nets.encoder import MAX_FRONT_END, EncoderConfig
from urgentmos.nets.encoders import build_encoder
from urgentmos.nets.layers import MAX_LAYERS, POOLERS, check_dropout, stretch, zero_padding
from urgentmos.nets.ncpm import Comparison, Ncpm, Sides

MAX_SIZE = 1 << 16  # of any dimension in a configuration: none is near it, and a larger one is a mistake or an attack
MAX_ENCODER_SIZE = 1 << 18  # vocabularies and the like, which are not built but stand in the configuration
MAX_NAMES = 256  # categories, metrics, encoders


@dataclass(frozen=True)
class UrgentMosConfig:
    """The configuration of an UrgentMOS model, as plain data."""

    encoders: tuple[EncoderConfig, ...]
    categories: Mapping[str, Mapping[str, tuple[float, float]]]  # category -> metric -> (low, high), +-inf for no bound
    preference: str | None = None  # the category whose frames the pairs are judged by; None: the model judges no pairs
    dim: int = 768
    heads: int = 8
    feedforward: int = 2048
    layers: int = 6
    dropout: float = 0.1
    preference_heads: int = 4
    pooler: str = "mean"  # one of nets.layers.POOLERS

    def __post_init__(self) -> None:
        """UsageError if the parts do not fit together."""
        for name in ("dim", "heads", "feedforward", "layers", "preference_heads"):
            _check_size(name, getattr(self, name))
        check_dropout(self.dropout)
        if self.pooler not in POOLERS:
            raise UsageError(f"there is no pooler {shown(self.pooler, 40)}. Choose one of: {', '.join(POOLERS)}.")
        if not 1 <= len(self.encoders) <= MAX_NAMES:
            raise UsageError("a model needs at least one encoder.")
        self._check_categories()

    def _check_categories(self) -> None:
        names = [name for category, ranges in self.categories.items() for name in (category, *ranges)]
        if not self.metrics or not all(self.categories.values()):
            raise UsageError("a model needs at least one category, and every category at least one metric.")
        if len(names) > MAX_NAMES:
            raise UsageError(f"a model with {len(names)} metrics and categories is refused; {MAX_NAMES} is the limit.")
        for name in names:
            if not _is_module_name(name):
                raise UsageError(f"{shown(name, 60)} cannot name a metric or a category. Use letters, digits and underscores.")
        if len(set(self.metrics)) < len(self.metrics):
            raise UsageError("a metric stands in two categories. Keep it in one.")
        for metric, (low, high) in self.ranges.items():
            if not low < high:  # NaN neither
                raise UsageError(f"{metric} cannot range from {low} to {high}. Give a lower bound below the upper one.")
        if self.preference is not None and self.preference not in self.categories:
            raise UsageError(
                f"pairs are to be judged by the category {shown(self.preference, 60)}, which the model does not have. "
                f"Choose one of: {', '.join(self.categories)}."
            )

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics, category by category."""
        return tuple(metric for ranges in self.categories.values() for metric in ranges)

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """metric -> (low, high)."""
        return {metric: bounds for ranges in self.categories.values() for metric, bounds in ranges.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, which has no infinity: a bound that is absent is null."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["encoders"] = [encoder.to_dict() for encoder in self.encoders]
        plain["categories"] = {
            category: {metric: [None if abs(bound) == inf else bound for bound in bounds] for metric, bounds in ranges.items()}
            for category, ranges in self.categories.items()
        }
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "UrgentMosConfig":
        """The reverse of `to_dict`. UsageError if a field is unknown, missing or of the wrong kind."""
        try:
            encoders = tuple(_encoder_config(encoder) for encoder in plain["encoders"])
            categories = {
                str(category): {str(metric): _bounds(bounds) for metric, bounds in ranges.items()}
                for category, ranges in plain["categories"].items()
            }
            return cls(**{**plain, "encoders": encoders, "categories": categories})
        except (AttributeError, KeyError, TypeError, ValueError) as e:
            raise UsageError(f"the model's configuration cannot be understood ({reason(e)}).") from e


def _encoder_config(plain: Mapping[str, Any]) -> EncoderConfig:
    front_end = plain.get("kind") in ("mel", "stft", "conv")
    _check_plain(plain.get("model", {}), MAX_FRONT_END if front_end else MAX_ENCODER_SIZE)
    return EncoderConfig.from_dict(plain)


def _check_plain(plain: Any, limit: int, name: str = "model", depth: int = 0) -> None:
    """UsageError unless an encoder's configuration holds numbers of a sane size and single words.

    A hostile file must neither make us build for hours nor name a path or a hub id, which libraries follow.
    """
    if depth > 4:
        raise UsageError("an encoder's configuration is nested too deeply.")
    if isinstance(plain, Mapping):
        for key, value in plain.items():
            _check_plain(value, limit, str(key), depth + 1)
    elif isinstance(plain, list | tuple):
        for value in plain:
            _check_plain(value, limit, name, depth + 1)
    elif isinstance(plain, int | float):
        limit = MAX_LAYERS if "layers" in name else MAX_FRONT_END if "mel" in name else limit
        if not abs(plain) <= limit:
            raise UsageError(f"an encoder's configuration has {name:.60} = {shown(plain, 40)}, beyond the limit of {limit}.")
    elif plain is not None and not re.fullmatch(r"[\w-]{1,40}", str(plain)):
        raise UsageError(f"an encoder's configuration has {name} = {shown(plain, 60)}, which is not a number or a word.")


def _check_size(name: str, value: Any) -> None:
    limit = MAX_LAYERS if name == "layers" else MAX_SIZE
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= limit:
        raise UsageError(f"{name} is {shown(value, 40)} and should be a whole number from 1 to {limit}.")


def _is_module_name(name: str) -> bool:
    """Whether torch takes it as a key of a ModuleDict: no dots, and no name that such a dict has already."""
    return bool(re.fullmatch(r"[^.\x00-\x1f]{1,100}", name)) and not hasattr(nn.ModuleDict(), name)


def _bounds(bounds: Sequence[float | None]) -> tuple[float, float]:
    low, high = bounds
    return (-inf if low is None else float(low), inf if high is None else float(high))


class Encoded(NamedTuple):
    """All that is per clip, for B clips: made once, then scored and compared in any combination."""

    features: dict[str, Tensor]  # category -> (B, F, D), zero beyond each clip's frames
    n_frames: Tensor  # (B,)
    sides: Sides | None  # of the preference category; None if the model judges no pairs

    def pick(self, index: Tensor | Sequence[int]) -> "Encoded":
        """The clips at `index` (K,), in that order and as often as asked. No frames are cut off."""
        index = torch.as_tensor(index, dtype=torch.long, device=self.n_frames.device)
        sides = None if self.sides is None else Sides(*(part[index] for part in self.sides))
        return Encoded({name: x[index] for name, x in self.features.items()}, self.n_frames[index], sides)


class UrgentMos(nn.Module):
    """The whole net. `rate` in Hz and `min_samples` are those of its encoders."""

    def __init__(self, config: UrgentMosConfig) -> None:
        """Random weights; nothing is downloaded. UsageError if the sizes do not fit together."""
        super().__init__()
        self.config = config
        encoders = [build_encoder(encoder) for encoder in config.encoders]
        rates = {encoder.rate for encoder in encoders}
        if len(rates) > 1:
            raise UsageError(f"the encoders of one model must share a rate, and these have {sorted(rates)} Hz.")
        self.encoders = nn.ModuleList(encoders)
        self.rate = rates.pop()
        self.min_samples = max(encoder.min_samples for encoder in encoders)
        # The longest input that every encoder takes in one piece; None if no encoder has a limit.
        windows = [encoder.window_seconds for encoder in encoders if encoder.window_seconds is not None]
        self.window_seconds = min(windows, default=None)
        self.fusion = Fusion([encoder.dim for encoder in encoders], config.dim)
        self.ampm = Ampm(
            config.categories,
            dim=config.dim,
            heads=config.heads,
            feedforward=config.feedforward,
            layers=config.layers,
            dropout=config.dropout,
            pooler=config.pooler,
        )
        self.ncpm = None if config.preference is None else Ncpm(config.dim, config.preference_heads)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that `absolute` returns, in order."""
        return self.config.metrics

    def encode(self, wave: Tensor, n_samples: Tensor) -> Encoded:
        """(B, T) float32 at `rate`, (B,) lengths of at least `min_samples` -> all that is per clip."""
        return self.encode_frames([encoder(wave, n_samples) for encoder in self.encoders])

    def encode_frames(self, branches: Sequence[tuple[Tensor, Tensor]]) -> Encoded:
        """The same from what the encoders returned: one (frames (B, F, D), n_frames (B,)) per encoder."""
        fused, n = self.fusion(branches)
        features = self.ampm.encode(fused, n)
        sides = None
        if self.ncpm is not None and self.config.preference is not None:
            sides = self.ncpm.sides(features[self.config.preference], n)
        return Encoded(features, n, sides)

    def absolute(self, encoded: Encoded) -> dict[str, Tensor]:
        """{metric: (B,)}, each in its range; NaN for a clip without frames."""
        return self.ampm(encoded.features, encoded.n_frames)  # type: ignore[no-any-return]

    def logits(self, encoded: Encoded) -> dict[str, Tensor]:
        """{metric: (B,)} before the range-constraining activations."""
        return self.ampm.logits(encoded.features, encoded.n_frames)

    def frame_logits(self, encoded: Encoded) -> dict[str, Tensor]:
        """{metric: (B, F)}: their mean over a clip's frames is its logit. UsageError unless the pooler is `mean`."""
        return self.ampm.frame_logits(encoded.features, encoded.n_frames)

    def frame_scores(self, encoded: Encoded) -> dict[str, Tensor]:
        """{metric: (B, F)} in each metric's range, zero beyond a clip's frames. UsageError unless the pooler is `mean`."""
        return self.ampm.frame_scores(encoded.features, encoded.n_frames)

    def compare(self, a: Encoded, b: Encoded) -> Comparison:
        """The b-th clip of `a` against the b-th of `b`, in this order only: cmos (B,), logits (B, 3) of a, b, tie."""
        if self.ncpm is None or a.sides is None or b.sides is None:
            raise UsageError("this model judges no pairs. Compare by the difference of its scores, or use another model.")
        return self.ncpm(a.sides, a.n_frames, b.sides, b.n_frames)  # type: ignore[no-any-return]


class Fusion(nn.Module):
    """Branches of any rate -> one: stretch to the longest, concatenate, Linear, LayerNorm (UrgentMOS section 3.1.1)."""

    def __init__(self, dims: Sequence[int], dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(sum(dims), dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, branches: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """One (frames (B, F, D), n_frames (B,)) per encoder -> (B, F, dim) zero beyond each clip's frames, (B,).

        Longest is meant clip by clip, so that a clip's frames do not depend on its neighbours.
        """
        if len(branches) == 1:
            frames, n = branches[0]
        else:
            n = torch.stack([n for _, n in branches]).amax(dim=0)
            frames = torch.cat([stretch(x, n_own, n) for x, n_own in branches], dim=2)
        fused = self.norm(self.linear(zero_padding(frames, n)))
        return zero_padding(fused, n), n
