"""Training losses: masked losses of many metrics (UrgentMOS Eqs. 4 and 5), and of pairs (section 3.2).

A label that is missing is NaN (or NO_VERDICT) and changes neither value nor gradient. Weights default to those of the
release, averaging and ties to the paper; `RELEASED` reproduces the numbers of the release
(`official-checkpoints` trap e, `metrics-and-corpora` C.2 row 9).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from urgentmos.nets.ncpm import VERDICTS, Comparison

A_WINS, B_WINS, TIE = range(len(VERDICTS))
NO_VERDICT = -100  # what torch's cross entropy ignores


@dataclass(frozen=True)
class LossConfig:
    """How the parts are weighed."""

    absolute: float = 0.5
    comparative: float = 0.5
    regression: float = 0.5  # of the CMOS, within the comparative part
    verdict: float = 0.5  # of the three classes, within the comparative part
    # "metrics" is Eq. 5: all metrics with labels count the same. "categories", the release: first within a category.
    average: Literal["metrics", "categories"] = "metrics"
    delta: float = 0.5  # the tie threshold of Eq. 6
    # The release calls a CMOS of exactly +-delta "A wins", whatever its sign; the paper calls it a tie.
    ties: Literal["paper", "released"] = "paper"
    metric_weights: Mapping[str, float] = field(default_factory=dict)  # w_k of Eq. 4; 1 where not given


RELEASED = LossConfig(average="categories", ties="released")


class PairLabels(NamedTuple):
    """Labels of P pairs; each may be missing where the other is there."""

    cmos: Tensor  # (P,) metric of the first minus metric of the second, NaN where missing
    verdict: Tensor  # (P,) long: A_WINS, B_WINS, TIE or NO_VERDICT


class Losses(NamedTuple):
    """The total and what it is made of, all 0-dim."""

    total: Tensor
    absolute: Tensor
    comparative: Tensor
    regression: Tensor
    verdict: Tensor
    metrics: dict[str, Tensor]  # of the metrics with a label in this batch, before w_k


def verdict_of(cmos: Tensor, config: LossConfig = LossConfig()) -> Tensor:
    """Eq. 6: (P,) CMOS -> (P,) long verdicts, NO_VERDICT where the CMOS is NaN."""
    b_wins = torch.where(cmos < -config.delta, B_WINS, TIE)
    verdict = torch.where(cmos > config.delta, A_WINS, b_wins)
    if config.ties == "released":
        verdict = torch.where(cmos.abs() == config.delta, A_WINS, verdict)
    return torch.where(cmos.isnan(), NO_VERDICT, verdict)


def mirrored(labels: PairLabels) -> PairLabels:
    """The labels of the same pairs in the other order."""
    verdict = torch.where(labels.verdict == A_WINS, B_WINS, torch.where(labels.verdict == B_WINS, A_WINS, labels.verdict))
    return PairLabels(-labels.cmos, verdict)


def symmetric_pairs(first: Tensor, second: Tensor, labels: PairLabels) -> tuple[Tensor, Tensor, PairLabels]:
    """Each pair in both orders (section 3.2.3): indices (P,), (P,) and labels -> the same of 2P pairs, mirrored ones last."""
    other = mirrored(labels)
    both = PairLabels(torch.cat([labels.cmos, other.cmos]), torch.cat([labels.verdict, other.verdict]))
    return torch.cat([first, second]), torch.cat([second, first]), both


def masked_mse(predicted: Tensor, label: Tensor) -> Tensor:
    """(B,), (B,) -> mean squared error over the labels that are not NaN; 0, still with a gradient, if all are."""
    there = ~label.isnan()
    # Chosen before the difference is squared: NaN times zero is NaN, in the gradient too.
    difference = torch.where(there, predicted - label.nan_to_num(), 0.0)
    return difference.square().sum() / there.sum().clamp(min=1)


def masked_cross_entropy(logits: Tensor, verdict: Tensor) -> Tensor:
    """(P, 3), (P,) -> mean cross entropy over the verdicts that are there; 0, still with a gradient, if none is."""
    there = (verdict != NO_VERDICT).sum().clamp(min=1)
    return functional.cross_entropy(logits, verdict, ignore_index=NO_VERDICT, reduction="sum") / there


def average_over_metrics(
    losses: Mapping[str, Tensor], categories: Mapping[str, tuple[str, ...]], config: LossConfig = LossConfig()
) -> Tensor | None:
    """Eq. 5: {metric: 0-dim} -> 0-dim, over the metrics that are there; None if there are none.

    categories: category -> its metrics. They matter under `average="categories"` only.
    """
    weighed = {metric: config.metric_weights.get(metric, 1.0) * loss for metric, loss in losses.items()}
    if not weighed:
        return None
    if config.average == "metrics":
        return torch.stack(list(weighed.values())).mean()
    groups = [[weighed[metric] for metric in metrics if metric in weighed] for metrics in categories.values()]
    return torch.stack([torch.stack(group).mean() for group in groups if group]).mean()


def label_counts(labels: Mapping[str, Tensor], pairs: PairLabels | None) -> list[int]:
    """The numbers of labels: of each metric, of CMOS and of verdicts."""
    metrics = [int((~label.isnan()).sum()) for label in labels.values()]
    return metrics + ([0, 0] if pairs is None else [int((~pairs.cmos.isnan()).sum()), int((pairs.verdict != NO_VERDICT).sum())])


def urgentmos_losses(
    predicted: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    categories: Mapping[str, tuple[str, ...]],
    comparison: Comparison | None = None,
    pairs: PairLabels | None = None,
    config: LossConfig = LossConfig(),
    mean_counts: Sequence[float] | None = None,
) -> Losses:
    """The loss of one batch (UrgentMOS Eqs. 4 and 5, section 3.2).

    A part without any label is 0. The total always has a gradient in every prediction, so that a batch without labels is a step
    of size 0 and processes agree on the gradients to exchange.

    Args:
        predicted: {metric: (B,)} scores.
        labels: {metric: (B,)}, NaN where missing; all of them are predicted.
        categories: Category -> its metrics.
        comparison: Output of the net for P pairs; None in a batch without pairs.
        pairs: Labels of these pairs.
        config: Weights of the parts.
        mean_counts: `label_counts` as means over all processes, by which sums are divided; None for a single process.
    """
    counts = label_counts(labels, pairs)
    shares = [n / mean if mean else 0.0 for n, mean in zip(counts, counts if mean_counts is None else mean_counts, strict=True)]
    of_metrics = {
        metric: masked_mse(predicted[metric], label) * share
        for (metric, label), share, mean in zip(labels.items(), shares, mean_counts or counts, strict=False)
        if mean
    }
    nothing = torch.stack([value.nan_to_num().sum() for value in predicted.values()]).sum() * 0.0
    average = average_over_metrics(of_metrics, categories, config)
    absolute = nothing if average is None else average + nothing
    regression = verdict = nothing
    if comparison is not None and pairs is not None:
        regression = masked_mse(comparison.cmos, pairs.cmos) * shares[-2]
        verdict = masked_cross_entropy(comparison.logits, pairs.verdict) * shares[-1]
    comparative = config.regression * regression + config.verdict * verdict
    total = config.absolute * absolute + config.comparative * comparative
    return Losses(total, absolute, comparative, regression, verdict, of_metrics)


def without_pairs(config: LossConfig) -> LossConfig:
    """The same for a model that judges no pairs: the absolute part alone, with weight 1."""
    return replace(config, absolute=1.0, comparative=0.0)
