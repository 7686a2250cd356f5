"""AMPM, the Absolute Metric Prediction Module: one transformer per category of metrics, one bounded head per metric.

UrgentMOS section 3.1 and `metrics-and-corpora` C.2 rows 5 and 6: post-norm layers with ReLU, no positions (the encoders
carry them), no final norm; masked mean, Linear, range-constraining activation.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from urgentmos.errors import UsageError
from urgentmos.nets.layers import bounded, build_pooler, join_heads, split_heads, valid_mask, zero_padding

Ranges = Mapping[str, tuple[float, float]]  # metric -> (low, high)


class SelfAttention(nn.Module):
    """Multi-head self-attention with the parameter names of torch.nn.MultiheadAttention.

    Written out because torch's own class takes another route in eval mode without gradients (nested tensors), and a score
    must not depend on the mode in which it is computed.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        if dim % heads:
            raise UsageError(
                f"{heads} attention heads cannot share {dim} features. Choose a number of heads that divides them."
            )
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, F, D) -> queries, keys and values, each (B, heads, F, D/heads)."""
        query, key, value = split_heads(functional.linear(x, self.in_proj_weight, self.in_proj_bias), 3, self.heads)
        return query, key, value

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """(B, F, D), `visible` (B, F) bool -> (B, F, D): every frame looks at the visible frames of its clip."""
        query, key, value = self.split(x)
        seen = attend(query, key, value, visible, self.dropout if self.training else 0.0)
        mixed: Tensor = self.out_proj(join_heads(seen))
        return mixed


def attend(query: Tensor, key: Tensor, value: Tensor, visible: Tensor, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention. (B, H, F, d), twice (B, H, G, d), `visible` (B, G) bool -> (B, H, F, d)."""
    return functional.scaled_dot_product_attention(query, key, value, visible[:, None, None, :], dropout)


class TransformerLayer(nn.Module):
    """One post-norm layer, equal to torch.nn.TransformerEncoderLayer(batch_first=True), with its parameter names."""

    def __init__(self, dim: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = SelfAttention(dim, heads, dropout)
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """(B, F, D), `visible` (B, F) bool -> (B, F, D)."""
        x = self.norm1(x + self.dropout(self.self_attn(x, visible)))
        inner = self.dropout(self.linear1(x).relu())
        out: Tensor = self.norm2(x + self.dropout(self.linear2(inner)))
        return out


class CategoryEncoder(nn.Module):
    """The shared metric encoder of one category."""

    def __init__(self, dim: int, heads: int, feedforward: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(dim, heads, feedforward, dropout) for _ in range(layers))

    def forward(self, x: Tensor, n: Tensor) -> Tensor:
        """(B, F, D), (B,) -> (B, F, D), zero beyond each clip's frames."""
        x = zero_padding(x, n)
        visible = valid_mask(n, x.shape[1])
        for layer in self.layers:
            x = layer(x, visible)
        return zero_padding(x, n)


class MetricHead(nn.Module):
    """One metric: pool, Linear, activation into the metric's range."""

    def __init__(self, dim: int, low: float, high: float, pooler: str, heads: int) -> None:
        super().__init__()
        self.pool = build_pooler(pooler, dim, heads)
        self.linear = nn.Linear(dim, 1)
        self.bound = bounded(low, high)

    def forward(self, x: Tensor, n: Tensor) -> Tensor:
        """(B, F, D), (B,) -> (B,) in the metric's range; NaN for a clip without frames, which has no score."""
        scores: Tensor = self.bound(self.logit(x, n))
        return scores

    def logit(self, x: Tensor, n: Tensor) -> Tensor:
        """(B, F, D), (B,) -> (B,) before the activation."""
        logits: Tensor = self.linear(self.pool(x, n)).squeeze(1)
        return logits.masked_fill(n == 0, torch.nan)

    def frame_logits(self, x: Tensor, n: Tensor) -> Tensor:
        """(B, F, D), (B,) -> (B, F), zero beyond each clip's frames; with the pooler `mean`, their mean is the logit."""
        return zero_padding(self.linear(x).squeeze(2), n)

    def frame_scores(self, x: Tensor, n: Tensor) -> Tensor:
        """(B, F, D), (B,) -> (B, F) in the metric's range, zero beyond each clip's frames."""
        return zero_padding(self.bound(self.frame_logits(x, n)), n)


class Ampm(nn.Module):
    """Fused frames -> frames of every category -> one number per metric."""

    def __init__(
        self,
        categories: Mapping[str, Ranges],
        *,
        dim: int,
        heads: int,
        feedforward: int,
        layers: int,
        dropout: float,
        pooler: str,
    ) -> None:
        """UsageError if sizes do not fit, or a name cannot name a module."""
        super().__init__()
        self.pooler = pooler
        self.metrics = {category: tuple(ranges) for category, ranges in categories.items()}
        self.categories = nn.ModuleDict(
            {category: CategoryEncoder(dim, heads, feedforward, layers, dropout) for category in categories}
        )
        self.heads = nn.ModuleDict(
            {
                metric: MetricHead(dim, low, high, pooler, heads)
                for ranges in categories.values()
                for metric, (low, high) in ranges.items()
            }
        )

    def encode(self, x: Tensor, n: Tensor) -> dict[str, Tensor]:
        """(B, F, D), (B,) -> {category: (B, F, D)}."""
        return {category: encoder(x, n) for category, encoder in self.categories.items()}

    def forward(self, features: Mapping[str, Tensor], n: Tensor) -> dict[str, Tensor]:
        """{category: (B, F, D)}, (B,) -> {metric: (B,)}, in the order of the configuration."""
        return self._each("forward", features, n)

    def logits(self, features: Mapping[str, Tensor], n: Tensor) -> dict[str, Tensor]:
        """{category: (B, F, D)}, (B,) -> {metric: (B,)} before the activations."""
        return self._each("logit", features, n)

    def frame_logits(self, features: Mapping[str, Tensor], n: Tensor) -> dict[str, Tensor]:
        """{category: (B, F, D)}, (B,) -> {metric: (B, F)} whose mean over real frames is the clip's logit."""
        self._need_mean()
        return self._each("frame_logits", features, n)

    def frame_scores(self, features: Mapping[str, Tensor], n: Tensor) -> dict[str, Tensor]:
        """{category: (B, F, D)}, (B,) -> {metric: (B, F)}: the score that the clip would have were all its frames this one."""
        self._need_mean()
        return self._each("frame_scores", features, n)

    def _each(self, method: str, features: Mapping[str, Tensor], n: Tensor) -> dict[str, Tensor]:
        return {
            metric: getattr(self.heads[metric], method)(features[category], n)
            for category, metrics in self.metrics.items()
            for metric in metrics
        }

    def _need_mean(self) -> None:
        if self.pooler != "mean":
            raise UsageError(f"frame scores exist for models that pool by the mean, and this one pools by {self.pooler}.")
