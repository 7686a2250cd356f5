"""Means of S systems over U contents that not all systems have: least squares of score = system + content; numpy/scipy only.

A system that has only easy contents has a high plain mean. With an effect for each content its mean is what it would be on
all contents, as far as the shared contents determine. Without gaps it is the plain mean.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from urgentmos.ranking.bradley_terry import linked

Array = np.ndarray  # float64 unless a docstring states another type

_NOISE = 1e-12  # of the largest deviation from the mean: less is rounding


@dataclass(frozen=True)
class Additive:
    """A fit of the additive model to scores of S systems on U contents."""

    mean: Array  # (S,) of each system, over all contents of its group
    influence: Array  # (S, U) how fast each mean grows with the weight of a content
    group: Array  # (S,) int, equal for systems that a chain of shared contents links; others cannot be compared
    present: Array  # (S, U) 1.0 where there is a score
    residual: Array  # (S, U) score - system - content; 0 where there is none
    inverse: Array  # (S, S) pseudo-inverse of the information on the systems
    noise: float  # differences below it are rounding

    def differences(self, first: Array, second: Array, rows: int) -> Iterator[Array]:
        """(P, U) in chunks of `rows` pairs: what each content adds to mean[first] - mean[second]; first, second (P,) int.

        The two are fitted as equal, and a content adds its part of the one Newton step from there: a term of mean 0 if they
        are equal. Without gaps it is the difference of their scores, divided by U. Pairs of different groups get 0.
        """
        per_content = self.present.sum(0)
        for start in range(0, len(first), rows):
            i, j = first[start : start + rows], second[start : start + rows]
            pair = np.arange(len(i))
            direction = self.inverse[i] - self.inverse[j]
            variance = direction[pair, i] - direction[pair, j]
            same = self.group[i] == self.group[j]
            gap = np.where(same, self.mean[i] - self.mean[j], 0.0) / np.where(variance > 0, variance, 1.0)
            spread = direction**2 @ self.present - (direction @ self.present) ** 2 / per_content
            added = direction @ self.residual + gap[:, None] * np.maximum(spread, 0.0)
            added[~same | (variance <= 0)] = 0.0
            yield np.where(np.abs(added) < self.noise, 0.0, added)


def fit(scores: Array) -> Additive:
    """scores (S, U), NaN where missing; every system and every content has one at least."""
    is_known = ~np.isnan(scores)
    weight = is_known.astype(float)
    shift = float(scores[is_known].mean())  # keeps rounding small where scores are large and alike
    values = np.where(is_known, scores - shift, 0.0)
    per_content, per_system = weight.sum(0), weight.sum(1)
    group = linked(weight @ weight.T > 0)
    same = group[:, None] == group[None, :]
    level = same / same.sum(1)
    information = np.diag(per_system) - (weight / per_content) @ weight.T
    inverse = np.linalg.inv(information + level) - level
    system = inverse @ (values.sum(1) - (weight / per_content) @ values.sum(0))
    content = ((values - system[:, None]) * weight).sum(0) / per_content
    residual = (values - system[:, None] - content) * weight

    group_of_content = group[is_known.argmax(0)]
    member = (group[:, None] == group_of_content[None, :]).astype(float)  # (S, U)
    n_contents = member.sum(1)
    centre = member @ content / n_contents
    mean = scores.mean(1) if is_known.all() else system + centre + shift
    of_system = inverse @ residual
    # The mean content moves against what a content's own systems gain.
    share = (weight / per_content).sum(1) / n_contents
    influence = of_system + member * ((content - centre[:, None]) / n_contents[:, None] - share @ of_system)
    noise = max(_NOISE * float(np.abs(values).max()), np.finfo(float).eps * abs(shift))
    return Additive(mean, influence, group, weight, residual, inverse, noise)
