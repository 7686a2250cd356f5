"""How sure a correlation or an accuracy is, and whether two predictors differ; numpy/scipy only.

Clips of one content share its sentence, pairs of one content share its clips. So whole contents (or whole systems) are
resampled, never single rows.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm
from scipy.stats import t as student

from urgentmos.ranking.resampling import open_interval, standard_errors

Array = np.ndarray  # float64
Statistic = Callable[[Array], Array]  # row numbers, with repeats -> (K,) values, NaN where undefined

SAMPLES = 200  # enough for a standard error (Efron and Tibshirani 1993, "An introduction to the bootstrap", section 6.4)
_EDGE = 1e-6  # a correlation of exactly 1 has no finite Fisher z


class Test(NamedTuple):
    """A test statistic with the two-sided p-value of "there is no difference"; NaN if it is not defined."""

    statistic: float
    p: float


def clusters_of(names: Sequence[Hashable]) -> list[Array]:
    """Row numbers of each name, names in the order in which they come."""
    rows: dict[Hashable, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    return [np.array(members) for members in rows.values()]


def draws(statistic: Statistic, clusters: Sequence[Array], samples: int = SAMPLES, seed: int = 0) -> Array:
    """(B, K): the statistic on B bootstrap samples of as many clusters, drawn with replacement."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(samples):
        chosen = rng.integers(0, len(clusters), len(clusters))
        drawn.append(statistic(np.concatenate([clusters[k] for k in chosen])))
    return np.array(drawn)


def ratio_draws(above: Array, below: Array, samples: int = SAMPLES, seed: int = 0) -> Array:
    """(B, K): sum of above / sum of below, (U, K) each, on B bootstrap samples of the U clusters; NaN where below is 0."""
    rng = np.random.default_rng(seed)
    n = len(above)
    weights = (np.bincount(rng.integers(0, n, n), minlength=n).astype(float) for _ in range(samples))
    sums = [(w @ above, w @ below) for w in weights]
    ratios = [np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0) for a, b in sums]
    return np.array(ratios) if ratios else np.zeros((0, above.shape[1]))


def interval(
    value: float, drawn: Array, n_clusters: int, scale: str, confidence: float = 0.95, *, edge: float = _EDGE
) -> tuple[float, float] | None:
    """low, high around a statistic from its bootstrap draws (B,); None if there are too few clusters or draws.

    Student's t with the bootstrap's standard error, on a scale on which the sampling distribution is nearly symmetric, so
    that the interval cannot leave the range of the statistic: Fisher's z for a "correlation", which is kept `edge` away
    from +-1; logarithms for an "error"; for a "share" logits, one success and one failure per U clusters being added
    (Laplace), with at least the error of a coin that falls so, as a share that never failed is still not known to be 1.
    Why not percentiles: with few contents they are too short (`resampling.open_interval`).
    """
    drawn = drawn[np.isfinite(drawn)]
    if n_clusters < 2 or len(drawn) < 20 or not np.isfinite(value):
        return None
    there, back = _scale(scale, n_clusters, edge)
    n = np.array([n_clusters])
    centre, error = there(np.array([value])), standard_errors(there(drawn)[:, None], n)
    if error[0] < 1e-12:
        if scale != "share":
            return None  # every draw is alike: no spread to derive an error from
        likely = expit(centre)
        error = 1 / np.sqrt(likely * (1 - likely) * n_clusters)  # of a logit
    low, high = open_interval(centre, error, n, confidence)
    return min(float(back(low)[0]), value), max(float(back(high)[0]), value)


def _scale(name: str, n_clusters: int, edge: float) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """There and back."""
    if name == "correlation":
        return lambda r: np.arctanh(np.clip(r, edge - 1, 1 - edge)), np.tanh
    if name == "error":
        return lambda e: np.log(np.maximum(e, 1e-12)), np.exp
    if name == "share":
        more = n_clusters + 2
        return lambda p: logit((p * n_clusters + 1) / more), lambda x: np.clip((expit(x) * more - 1) / n_clusters, 0, 1)
    return lambda x: x, lambda x: x


def bootstrap_test(value: float, drawn: Array, n_clusters: int) -> Test:
    """Is a difference (of two predictors, on the same resampled rows) zero? Student's t with the bootstrap's error."""
    drawn = drawn[np.isfinite(drawn)]
    if n_clusters < 2 or len(drawn) < 20 or not np.isfinite(value):
        return Test(np.nan, np.nan)
    error = float(standard_errors(drawn[:, None], np.array([n_clusters]))[0])
    if error == 0:
        return Test(0.0, 1.0) if value == 0 else Test(np.nan, np.nan)
    t = value / error
    return Test(t, float(2 * student.sf(abs(t), n_clusters - 1)))


def williams(r_a: float, r_b: float, r_ab: float, n: int) -> Test:
    """Do two predictors correlate equally with the same label? Williams 1959; T2, equation 7 of Steiger 1980.

    r_a, r_b: correlation of each with the label; r_ab: with each other; n observations, taken to be independent. Student's
    t with n - 3 degrees of freedom (Steiger, "Tests for comparing elements of a correlation matrix", Psychological
    Bulletin 87). Positive where a correlates better.
    """
    if n < 4 or not np.all(np.isfinite([r_a, r_b, r_ab])):
        return Test(np.nan, np.nan)
    determinant = max(0.0, 1 - r_a**2 - r_b**2 - r_ab**2 + 2 * r_a * r_b * r_ab)
    mean = (r_a + r_b) / 2
    below = 2 * determinant * (n - 1) / (n - 3) + mean**2 * (1 - r_ab) ** 3
    above = (n - 1) * (1 + r_ab)
    if r_a == r_b:
        return Test(0.0, 1.0)
    if below <= 0:
        return Test(np.nan, np.nan)
    t = (r_a - r_b) * float(np.sqrt(above / below))
    return Test(t, float(2 * student.sf(abs(t), n - 3)))


def steiger(r_a: float, r_b: float, r_ab: float, n: int) -> Test:
    """The same question on Fisher's z: Z1*, equation 14 of Steiger 1980, with the pooled correlation in the covariance."""
    if n < 4 or not np.all(np.isfinite([r_a, r_b, r_ab])) or max(abs(r_a), abs(r_b)) >= 1:
        return Test(np.nan, np.nan)
    if r_a == r_b:
        return Test(0.0, 1.0)
    mean = (r_a + r_b) / 2
    psi = r_ab * (1 - 2 * mean**2) - 0.5 * mean**2 * (1 - 2 * mean**2 - r_ab**2)
    covariance = psi / (1 - mean**2) ** 2
    if covariance >= 1:
        return Test(np.nan, np.nan)
    z = float((np.arctanh(r_a) - np.arctanh(r_b)) * np.sqrt(n - 3) / np.sqrt(2 - 2 * covariance))
    return Test(z, float(2 * norm.sf(abs(z))))
