"""The categories of an AMPM side by side, for one clip: one product for all of them where each had one of its own.

The same numbers in fewer and larger steps; an exported graph of a small net spends much of its time between steps.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from urgentmos.nets.ampm import Ampm, TransformerLayer


class Stacked(nn.Module):
    """The transformers of C categories and, where metrics are means over frames, their M heads. Without dropout."""

    heads: Tensor
    bias: Tensor

    def __init__(self, ampm: Ampm) -> None:
        super().__init__()
        self.names = tuple(ampm.metrics)
        encoders = [ampm.categories[name].layers for name in self.names]
        self.layers = nn.ModuleList(StackedLayer(same) for same in zip(*encoders, strict=True))
        weights: list[Tensor] = []
        biases: list[Tensor] = []
        for k, metrics in enumerate(ampm.metrics.values()):
            for metric in metrics:
                linear: nn.Linear = ampm.heads[metric].linear  # type: ignore[assignment]
                weights.append(functional.one_hot(torch.tensor(k), len(self.names))[:, None] * linear.weight)
                biases.append(linear.bias)
        self.register_buffer("heads", torch.stack(weights, dim=2).detach())  # (C, D, M), zero for other categories' metrics
        self.register_buffer("bias", torch.cat(biases).detach())

    def forward(self, x: Tensor) -> Tensor:
        """Fused frames of one clip (1, F, D) -> frames of each category (C, F, D)."""
        for layer in self.layers:
            x = layer(x)
        return x

    def frame_logits(self, x: Tensor) -> Tensor:
        """(C, F, D) -> (1, F, M)."""
        return (x @ self.heads).sum(dim=0, keepdim=True) + self.bias


class StackedLayer(nn.Module):
    """C layers of nets.ampm.TransformerLayer, each on frames of its own."""

    def __init__(self, layers: Sequence[TransformerLayer]) -> None:
        super().__init__()
        attention, self.n = layers[0].self_attn, len(layers)
        self.dim, self.n_heads, self.eps = attention.out_proj.in_features, attention.heads, layers[0].norm1.eps
        scale = torch.ones(3 * self.dim)
        scale[: self.dim] = (self.dim // self.n_heads) ** -0.5  # of the queries

        def keep(name: str, of: Callable[[TransformerLayer], Tensor]) -> None:
            parts = torch.stack([of(layer).detach() for layer in layers])
            self.register_buffer(name, parts.mT.contiguous() if parts.ndim == 3 else parts[:, None])

        keep("qkv", lambda layer: layer.self_attn.in_proj_weight * scale[:, None])
        keep("qkv_bias", lambda layer: layer.self_attn.in_proj_bias * scale)
        keep("out", lambda layer: layer.self_attn.out_proj.weight)
        keep("out_bias", lambda layer: layer.self_attn.out_proj.bias)
        for name in ("linear1", "linear2", "norm1", "norm2"):
            keep(name, lambda layer, name=name: getattr(layer, name).weight)  # type: ignore[misc]
            keep(f"{name}_bias", lambda layer, name=name: getattr(layer, name).bias)  # type: ignore[misc]

    def forward(self, x: Tensor) -> Tensor:
        """(C, F, D), or (1, F, D) that all share -> (C, F, D)."""
        mixed = self._linear(self._attend(self._linear(x, "qkv")), "out")
        x = self._norm(x + mixed, "norm1")
        fed = self._linear(self._linear(x, "linear1").relu(), "linear2")
        return self._norm(x + fed, "norm2")

    def _attend(self, qkv: Tensor) -> Tensor:
        """(C, F, 3 * D) -> (C, F, D)."""
        split = qkv.reshape(self.n, -1, 3, self.n_heads, self.dim // self.n_heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (C, heads, F, d)
        seen = (query @ key.transpose(2, 3)).softmax(dim=3) @ value
        joined: Tensor = seen.transpose(1, 2).reshape(self.n, -1, self.dim)
        return joined

    def _linear(self, x: Tensor, name: str) -> Tensor:
        product: Tensor = x @ getattr(self, name) + getattr(self, f"{name}_bias")
        return product

    def _norm(self, x: Tensor, name: str) -> Tensor:
        normed: Tensor = functional.layer_norm(x, (self.dim,), eps=self.eps)
        scaled: Tensor = normed * getattr(self, name) + getattr(self, f"{name}_bias")
        return scaled
