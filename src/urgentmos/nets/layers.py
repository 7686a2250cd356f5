"""Building blocks of all nets: masks, means, stretching in time, sums over layers, bounded heads, poolers.

Frames of a batch are padded on the right; `n` (B,) says how many of each clip are real. Nothing here lets padding change
a clip's numbers: what stands in the padding, NaN included, is never read.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from urgentmos.common.untrusted import shown
from urgentmos.errors import UsageError

MAX_LAYERS = 256  # and numbers in a list of sizes
POOLERS = ("mean", "attentive", "token")


def check_dropout(share: Any) -> None:
    """UsageError for what is no share of a net's values that dropout may take away."""
    if not isinstance(share, int | float) or not 0 <= share < 1:
        raise UsageError(f"dropout is {shown(share, 40)} and should be a share below 1.")


def check_sizes(sizes: Mapping[str, Any], defaults: Mapping[str, Any], most: int) -> None:
    """UsageError unless each size is of its default's kind: a whole number from 1 to `most`, a list of them, or true or false.

    At most MAX_LAYERS of what a net has a list of. Text and shares are not looked at.
    """
    for name, value in sizes.items():
        default = defaults.get(name)
        limit = MAX_LAYERS if "layers" in name else most
        if isinstance(default, bool):
            fits, wanted = isinstance(value, bool), "true or false"
        elif isinstance(default, tuple) or (name == "channels" and isinstance(value, tuple)):
            fits, wanted = _are_sizes(value, limit), f"whole numbers from 1 to {limit}"
        elif isinstance(default, int):
            fits, wanted = _are_sizes((value,), limit), f"a whole number from 1 to {limit}"
        else:
            continue
        if not fits:
            raise UsageError(f"{name} is {shown(value, 40)} and should be {wanted}. Change the config.")


def _are_sizes(values: Any, most: int) -> bool:
    return (
        isinstance(values, tuple) and 1 <= len(values) <= MAX_LAYERS and all(type(x) is int and 1 <= x <= most for x in values)
    )


def valid_mask(n: Tensor, size: int) -> Tensor:
    """(B,) lengths -> (B, size) bool, True where a frame or sample is real."""
    return torch.arange(size, device=n.device) < n[:, None]


def zero_padding(x: Tensor, n: Tensor) -> Tensor:
    """(B, F, ...) with everything beyond `n` (B,) set to 0, whatever it was (NaN and infinity too)."""
    padding = ~valid_mask(n, x.shape[1])
    return x.masked_fill(padding.reshape(*padding.shape, *[1] * (x.ndim - 2)), 0.0)


def masked_mean(x: Tensor, n: Tensor) -> Tensor:
    """(B, F, D), (B,) -> (B, D): the mean over the real frames. A clip without frames has mean 0."""
    return zero_padding(x, n).sum(dim=1) / n.clamp(min=1)[:, None]


def split_heads(x: Tensor, parts: int, heads: int) -> Tensor:
    """(B, F, parts * D) -> (parts, B, heads, F, D / heads)."""
    return x.reshape(*x.shape[:2], parts, heads, -1).permute(2, 0, 3, 1, 4)


def join_heads(x: Tensor) -> Tensor:
    """(B, heads, F, d) -> (B, F, heads * d)."""
    return x.transpose(1, 2).flatten(2)


def stretch(x: Tensor, n: Tensor, to: Tensor) -> Tensor:
    """Linear interpolation of each clip's real frames to its own new length, as if it were alone in the batch.

    x (B, F, D) with `n` (B,) real frames -> (B, max(to), D) with `to` (B,) real frames, zero beyond. The same positions as
    torch.nn.functional.interpolate(mode="linear", align_corners=False) of a float32 clip, whatever the dtype of `x`. Where
    `to == n` the frames come back unchanged.
    """
    size = int(to.max())
    scale = n.float() / to.float()
    # torch multiplies and adds in one step, rounding once to float32; a second rounding would move frame 1000 by 1e-4.
    exact = torch.float32 if x.device.type == "mps" else torch.float64
    place = torch.arange(size, device=x.device, dtype=exact) + 0.5
    place = (place * scale[:, None].to(exact) - 0.5).float().clamp(min=0.0)  # (B, size), in frames of x
    last = (n - 1)[:, None]
    left = torch.minimum(place.floor().long(), last)
    right = torch.minimum(left + 1, last)
    share = (place - left).to(x.dtype)[..., None]
    mixed = (1 - share) * _frames_at(x, left) + share * _frames_at(x, right)
    return zero_padding(mixed, to)


def _frames_at(x: Tensor, index: Tensor) -> Tensor:
    """x (B, F, D), index (B, K) -> (B, K, D)."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))


def layer_sum(states: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Sum over layers, not over frames: L+1 tensors (B, F, D) and their L+1 raw weights -> (B, F, D).

    The weights go through softmax first (UrgentMOS section 3.1.1; zero weights are a plain mean). Summed one by one, so
    that no (L+1, B, F, D) copy is made.
    """
    if len(states) != len(weights):
        raise ValueError(f"{len(weights)} layer weights for {len(states)} layers: one weight per layer is needed")
    shares = weights.softmax(dim=0).to(states[0].dtype)
    total = states[0] * shares[0]
    for state, share in zip(states[1:], shares[1:], strict=True):
        total = total + state * share
    return total


class Bounded(nn.Module):
    """The range-constraining activation: any number -> a number within `low`..`high` (UrgentMOS, Eqs. 1-3).

    Both finite: a scaled sigmoid. One finite: a softplus that leaves from it. None: the identity. The bounds are buffers,
    and those of a loaded state dict win over those given here.
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        # Kept as floats as well: `forward` must not look into a tensor, which may live on another device.
        self.bounds = _checked_bounds(low, high)
        self.register_buffer("low", torch.tensor(float(low)))
        self.register_buffer("high", torch.tensor(float(high)))
        self.register_load_state_dict_post_hook(_take_loaded_bounds)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        low_ends, high_ends = (math.isfinite(bound) for bound in self.bounds)
        if low_ends and high_ends:
            return self.low + (self.high - self.low) * x.sigmoid()
        if low_ends:
            return self.low + functional.softplus(x - self.low)
        if high_ends:
            return self.high - functional.softplus(self.high - x)
        return x

    def extra_repr(self) -> str:
        """The range, for print(net)."""
        return "{}, {}".format(*self.bounds)


def bounded(low: float, high: float) -> Bounded:
    """The activation for values within `low`..`high`, either of which may be infinite. UsageError if low >= high or NaN."""
    return Bounded(low, high)


def _checked_bounds(low: float, high: float) -> tuple[float, float]:
    if not low < high:  # also when one is NaN
        raise UsageError(f"a metric cannot range from {low} to {high}. Give a lower bound below the upper one.")
    return float(low), float(high)


def _take_loaded_bounds(module: nn.Module, _incompatible: Any) -> None:
    assert isinstance(module, Bounded)
    if not module.low.is_meta:
        module.bounds = _checked_bounds(module.low.item(), module.high.item())


class MeanPool(nn.Module):
    """The mean over the real frames; the default, and the only one under which frame scores add up to the clip's logit."""

    def forward(self, x: Tensor, n: Tensor) -> Tensor:
        """(B, F, D), (B,) -> (B, D)."""
        return masked_mean(x, n)


class AttentivePool(nn.Module):
    """A mean whose weights are learned from each frame: Linear, tanh, Linear, softmax over the real frames."""

    def __init__(self, dim: int, hidden: int = 128) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, x: Tensor, n: Tensor) -> Tensor:
        """(B, F, D), (B,) -> (B, D)."""
        x = zero_padding(x, n)
        scores = self.score(x).squeeze(2).masked_fill(~valid_mask(n, x.shape[1]), -math.inf)
        return torch.einsum("bf,bfd->bd", scores.softmax(dim=1), x)


class TokenPool(nn.Module):
    """A learned token, one per metric, that asks the frames by multi-head attention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, dim) * dim**-0.5)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, x: Tensor, n: Tensor) -> Tensor:
        """(B, F, D), (B,) -> (B, D)."""
        x = zero_padding(x, n)
        query = self.token.expand(len(x), -1, -1)
        answer: Tensor = self.attention(query, x, x, key_padding_mask=~valid_mask(n, x.shape[1]), need_weights=False)[0]
        return answer.squeeze(1)


def build_pooler(name: str, dim: int, heads: int) -> nn.Module:
    """The pooler of this name, (B, F, D), (B,) -> (B, D). UsageError for a name that is not in POOLERS."""
    if name == "mean":
        return MeanPool()
    if name == "attentive":
        return AttentivePool(dim)
    if name == "token":
        return TokenPool(dim, heads)
    raise UsageError(f"there is no pooler {name}. Choose one of: {', '.join(POOLERS)}.")
