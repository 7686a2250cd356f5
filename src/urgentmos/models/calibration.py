"""How far a predicted score may be from the measured one: intervals that hold with a stated probability; numpy only.

Split-conformal prediction: the residuals (measured - predicted) of held-out clips, in bins of similar predicted scores, are
themselves the distribution of the next residual. Both tails get half of 1 - level. The quantiles are those for a finite sample
(Vovk et al. 2005; Lei et al. 2018): of n exchangeable residuals the ceil((n + 1)(1 - tail))-th is exceeded by the next one with
probability `tail` at most.

Clips of one content are not exchangeable with clips of another: the same voice and sentence err alike. Where the contents are
known (`groups`), each content counts once, shared equally among its clips, and n is the number of contents in the bin: the
quantiles are those of hierarchical conformal prediction (Lee, Barber and Willett 2023, "Distribution-free inference with
hierarchical data", section 3), valid for a clip of an unseen content. Without groups each clip is a content.

Between the middles of two bins the quantiles are interpolated, beyond the outermost ones they are constant; the guarantee,
which holds within a bin, is approximate there.

A calibration is plain data, kept in a model's config.json:
{"level": 0.9, "metrics": {"mos_overall": {"knots": [scores], "low": [residual quantile at each knot], "high": [...]}}}.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import ceil, inf, isfinite
from pathlib import Path
from typing import Any

import numpy as np

from urgentmos.common.untrusted import reason
from urgentmos.errors import UsageError
from urgentmos.metrics import METRICS

PARTS = ("knots", "low", "high")
LEVEL = 0.9
BINS = 10
MAX_KNOTS = 10_000


def calibrate(
    predicted: Mapping[str, Sequence[float] | np.ndarray],
    measured: Mapping[str, Sequence[float] | np.ndarray],
    *,
    level: float = LEVEL,
    bins: int = BINS,
    groups: Sequence[Any] | None = None,
) -> dict[str, Any]:
    """{metric: (N,)} twice, NaN where a label is missing -> what config.json holds under "intervals"."""
    metrics = {}
    for metric in predicted:
        if metric not in measured:
            raise UsageError(f"there are no measured values of {metric}. Leave the metric out, or measure it.")
        try:
            metrics[metric] = fit_intervals(predicted[metric], measured[metric], level, bins, groups)
        except UsageError as e:
            raise UsageError(f"{metric}: {e}") from e
    return {"level": level, "metrics": metrics}


def fit_intervals(
    predicted: Sequence[float] | np.ndarray,
    measured: Sequence[float] | np.ndarray,
    level: float = LEVEL,
    bins: int = BINS,
    groups: Sequence[Any] | None = None,
) -> dict[str, list[float]]:
    """(N,) scores of held-out clips and what was measured -> knots, low, high of one metric, K <= `bins` numbers each.

    Clips where either is missing (NaN) are left out. groups: (N,) the contents. Bins hold equally many clips each, and there
    are fewer of them where a bin would hold too few contents for its tails. UsageError if even all contents are too few.
    """
    x, y = np.asarray(predicted, dtype=np.float64), np.asarray(measured, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or (groups is not None and len(groups) != len(x)):
        raise UsageError("predicted and measured scores, and contents, must be equally many. Give one of each per clip.")
    if not 0 < level < 1 or bins < 1:
        raise UsageError(f"level is {level} and bins is {bins}. Give a level between 0 and 1, and at least one bin.")
    is_finite = np.isfinite(x) & np.isfinite(y)
    contents = np.unique([str(g) for g in groups], return_inverse=True)[1] if groups is not None else np.arange(len(x))
    x, y, contents = x[is_finite], y[is_finite], contents[is_finite]
    needed = contents_needed(level)
    if len(np.unique(contents)) < needed:
        raise UsageError(
            f"intervals of level {level} need {needed} contents, and there are {len(np.unique(contents))}. "
            "Measure more, or choose a lower level."
        )
    parts = _bins(x, contents, bins, needed)
    tail = (1 - level) / 2
    rows = [(float(np.median(x[part])), *_tails((y - x)[part], contents[part], tail)) for part in parts]
    return {name: [row[i] for row in rows] for i, name in enumerate(PARTS)}


def contents_needed(level: float) -> int:
    """The fewest contents that determine both tails of an interval: below it, the next residual may exceed all of them."""
    return ceil(round(2 / (1 - level), 9)) - 1


def _bins(x: np.ndarray, contents: np.ndarray, bins: int, needed: int) -> list[np.ndarray]:
    """Indices of the clips of each bin, by rising score; equal scores share a bin, and each bin has enough contents."""
    for count in range(bins, 1, -1):
        edges = np.unique(np.quantile(x, np.arange(1, count) / count))
        place = np.searchsorted(edges, x, side="right")
        parts = [np.flatnonzero(place == k) for k in range(len(edges) + 1)]
        parts = [part for part in parts if len(part)]
        if all(len(np.unique(contents[part])) >= needed for part in parts):
            return parts
    return [np.arange(len(x))]


def _tails(residuals: np.ndarray, contents: np.ndarray, tail: float) -> tuple[float, float]:
    """The quantiles that the residual of a new content falls below, or exceeds, with probability `tail` at most."""
    return -_upper(-residuals, contents, tail), _upper(residuals, contents, tail)


def _upper(values: np.ndarray, contents: np.ndarray, tail: float) -> float:
    """The smallest value with at least (n + 1)(1 - tail) contents at or below it, a content being spread over its clips."""
    _, place, counts = np.unique(contents, return_inverse=True, return_counts=True)
    order = np.argsort(values, kind="stable")
    below = np.cumsum((1 / counts[place])[order])
    wanted = (len(counts) + 1) * (1 - tail)
    first = int(np.searchsorted(below, wanted - 1e-9))
    return float(values[order][min(first, len(values) - 1)])


def interval(calibration: Mapping[str, Any], metric: str, score: float) -> tuple[float, float]:
    """The interval that holds the measured value with the calibration's level, within the metric's range.

    KeyError if the metric is not calibrated.
    """
    row = calibration["metrics"][metric]
    least, most = METRICS[metric].range("practice") if metric in METRICS else (-inf, inf)
    low, high = (score + _between(score, row["knots"], row[side]) for side in ("low", "high"))
    return min(max(low, least), most), min(max(high, least), most)


def _between(x: float, knots: Sequence[float], values: Sequence[float]) -> float:
    """np.interp for one number, at a tenth of its price: a score has dozens of ends, and costs a few milliseconds."""
    place = bisect_right(knots, x)
    if place in (0, len(knots)):
        return values[0 if place == 0 else -1]
    left, right = knots[place - 1], knots[place]
    return values[place - 1] + (values[place] - values[place - 1]) * (x - left) / (right - left)


def intervals(calibration: Mapping[str, Any], scores: Mapping[str, float | None]) -> dict[str, list[float]]:
    """{metric: score} -> {metric: [low, high]} of those that are calibrated and have a score."""
    values = {name: score for name, score in scores.items() if score is not None and name in calibration["metrics"]}
    return {name: list(interval(calibration, name, score)) for name, score in values.items()}


def coverage(
    calibration: Mapping[str, Any],
    metric: str,
    predicted: Sequence[float] | np.ndarray,
    measured: Sequence[float] | np.ndarray,
) -> float:
    """(N,) scores and what was measured -> the share that the intervals hold, NaN left out; NaN if nothing is left."""
    x, y = np.asarray(predicted, dtype=np.float64), np.asarray(measured, dtype=np.float64)
    is_finite = np.isfinite(x) & np.isfinite(y)
    ends = [interval(calibration, metric, float(score)) for score in x[is_finite]]
    held = [low <= value <= high for (low, high), value in zip(ends, y[is_finite], strict=True)]
    return float(np.mean(held)) if held else float("nan")


def check_calibration(calibration: Any, source: str | Path) -> None:
    """UsageError that names `source` unless it is what `calibrate` makes."""
    try:
        _check(calibration)
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise UsageError(f"{source}: its intervals cannot be understood ({reason(e)}). Calibrate it again.") from e


def _check(calibration: Any) -> None:
    if not 0 < calibration["level"] < 1:
        raise ValueError(f"level {calibration['level']} is not between 0 and 1")
    for metric, row in calibration["metrics"].items():
        knots, low, high = (row[part] for part in PARTS)
        if not 1 <= len(knots) == len(low) == len(high) <= MAX_KNOTS:
            raise ValueError(f"{metric} has {len(knots)} knots, {len(low)} low and {len(high)} high ends")
        numbers = [*knots, *low, *high]
        if not all(isinstance(x, int | float) and not isinstance(x, bool) and isfinite(x) for x in numbers):
            raise ValueError(f"{metric} has ends that are not finite numbers")
        if any(b <= a for a, b in pairwise(knots)):
            raise ValueError(f"the knots of {metric} do not rise")
        if any(b < a for a, b in zip(low, high, strict=True)):
            raise ValueError(f"a low end of {metric} is above its high end")
