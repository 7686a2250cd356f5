"""NCPM, the Naturalness-Conditioned Preference Module: which of two clips sounds better, and by how much.

UrgentMOS section 3.1; what the paper leaves open is taken from the release (`metrics-and-corpora` C.2 rows 7 and 8): one
cross-attention with A asking and B answering, no residual, masked mean over A, a Linear for the CMOS (unbounded) and one
for the verdict. One order only: who averages both orders does so outside.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from urgentmos.nets.ampm import SelfAttention, attend
from urgentmos.nets.layers import valid_mask, zero_padding

VERDICTS = ("a", "b", "tie")  # the classes, in the order of the logits


class Comparison(NamedTuple):
    """The net's output for B pairs, in the given order."""

    cmos: Tensor  # (B,) how much better the first is; the scale of the training labels, unbounded
    logits: Tensor  # (B, 3) of VERDICTS


class Sides(NamedTuple):
    """A clip as it asks and as it answers, each (B, heads, F, D/heads); made once, however many pairs the clip is in."""

    query: Tensor
    key: Tensor
    value: Tensor


class Ncpm(nn.Module):
    """Cross-attention between two clips' frames, then two heads."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = SelfAttention(dim, heads, dropout=0.0)
        self.cmos = nn.Linear(dim, 1)
        self.verdict = nn.Linear(dim, len(VERDICTS))

    def sides(self, x: Tensor, n: Tensor) -> Sides:
        """(B, F, D), (B,) -> what pairs need of each clip."""
        return Sides(*self.attention.split(zero_padding(x, n)))

    def forward(self, a: Sides, n_a: Tensor, b: Sides, n_b: Tensor) -> Comparison:
        """B pairs: the first clips with `n_a` (B,) frames, the second with `n_b` (B,). NaN where a clip has no frames."""
        answers = attend(a.query, b.key, b.value, valid_mask(n_b, b.key.shape[2]))  # (B, H, F of A, d)
        # The mean over A comes before the output projection, which is linear: one vector a pair instead of F.
        real = valid_mask(n_a, answers.shape[2])[:, None, :, None]
        mean = answers.masked_fill(~real, 0.0).sum(dim=2) / n_a.clamp(min=1)[:, None, None]
        joint = self.attention.out_proj(mean.flatten(1))
        joint = joint.masked_fill(((n_a == 0) | (n_b == 0))[:, None], torch.nan)
        return Comparison(self.cmos(joint).squeeze(1), self.verdict(joint))
