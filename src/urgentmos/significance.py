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

from urgentmos.resampling import open_interval, standard_errors

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
    return [np.array(found) for found in rows.values()]


def draws(statistic: Statistic, clusters: Sequence[Array], samples: int = SAMPLES, seed: int = 0) -> Array:
    """(B, K): the statistic on B bootstrap samples of as many clusters, drawn with replacement."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(samples):
        chosen = rng.integers(0, len(clusters), len(clusters))
        found.append(statistic(np.concatenate([clusters[k] for k in chosen])))
    return np.array(found)


# A scale on which the sampling distribution is nearly symmetric: an interval on it cannot leave the range of the statistic.
_SCALES: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "correlation": (lambda r: np.arctanh(np.clip(r, _EDGE - 1, 1 - _EDGE)), np.tanh),
    "share": (lambda p: logit(np.clip(p, 1e-3, 1 - 1e-3)), expit),
    "error": (lambda e: np.log(np.maximum(e, 1e-12)), np.exp),
    "plain": (lambda x: x, lambda x: x),
}


def interval(value: float, drawn: Array, n_clusters: int, scale: str, confidence: float = 0.95) -> tuple[float, float] | None:
    """low, high around a statistic from its bootstrap draws (B,); None if there are too few clusters or draws to tell.

    Student's t with the bootstrap's standard error, on Fisher's z for a correlation, in logits for a share, in logarithms
    for a squared error. `benchmarks/rank_statistics.py` has why not percentiles: with few contents they are too short.
    """
    there, back = _SCALES[scale]
    drawn = drawn[np.isfinite(drawn)]
    if n_clusters < 2 or len(drawn) < 20 or not np.isfinite(value):
        return None
    n = np.array([n_clusters])
    centre = there(np.array([value]))
    low, high = open_interval(centre, standard_errors(there(drawn)[:, None], n), n, confidence)
    return min(float(back(low)[0]), value), max(float(back(high)[0]), value)


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
