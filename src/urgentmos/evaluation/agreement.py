"""How well predictions agree with labels: MSE, LCC, SRCC, KTAU of clips and of systems, accuracy of preferences.

On arrays, numpy/scipy only; `predictions` brings files to this form. The statistics are those of Track 2 of the URGENT 2026
challenge: clip by clip ("utterance"), and on the means of each system ("system").
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import kendalltau, pearsonr, rankdata

from urgentmos.clips.verdicts import DELTA, THRESHOLDS, TIE, Judged, PairLabels, correct, share, sweep, verdicts
from urgentmos.evaluation.significance import (
    SAMPLES,
    Test,
    bootstrap_test,
    clusters_of,
    draws,
    interval,
    ratio_draws,
    steiger,
    williams,
)

Array = np.ndarray  # float64

STATISTICS = ("mse", "lcc", "srcc", "ktau")
ACCURACIES = ("acc_delta", "acc_0")
SCALES = {"mse": "error", "lcc": "correlation", "srcc": "correlation", "ktau": "correlation"}


@dataclass(frozen=True)
class Resampling:
    """How intervals are made; no samples, no intervals."""

    samples: int = SAMPLES
    seed: int = 0
    confidence: float = 0.95


class Agreement(NamedTuple):
    """Of N predictions with N labels; None, with the reason, where a statistic is not defined."""

    mse: float | None
    lcc: float | None
    srcc: float | None
    ktau: float | None
    n: int
    reason: str | None = None


def agreement(predicted: Array, label: Array) -> Agreement:
    """(N,), (N,) -> mean squared error, Pearson's, Spearman's and Kendall's (tau-b) correlation.

    Where either value is NaN the row is left out. A correlation with a constant is not defined, and is None.
    """
    both = ~(np.isnan(predicted) | np.isnan(label))
    p, r = np.asarray(predicted[both], dtype=float), np.asarray(label[both], dtype=float)
    if not len(p):
        return Agreement(None, None, None, None, 0, "nothing has both a prediction and a label")
    mse = float(np.mean((p - r) ** 2))
    reason = _no_correlation(p, r)
    if reason:
        return Agreement(mse, None, None, None, len(p), reason)
    lcc, srcc, ktau = _correlations(p, r)
    return Agreement(mse, float(lcc), float(srcc), float(ktau), len(p))


def _no_correlation(p: Array, r: Array) -> str | None:
    if len(p) < 2:
        return "a single row has no correlation"
    for what, values in (("predictions", p), ("labels", r)):
        if values.min() == values.max():
            return f"all {what} are equal ({values[0]:g}), and a constant correlates with nothing"
    return None


def _correlations(p: Array, r: Array) -> tuple[float, float, float]:
    with np.errstate(all="ignore"):
        lcc = pearsonr(p, r).statistic if max(np.ptp(p), np.ptp(r)) < 1e150 else np.corrcoef(p / np.ptp(p), r / np.ptp(r))[0, 1]
    return lcc, pearsonr(rankdata(p), rankdata(r)).statistic, kendalltau(p, r).statistic


def _values(predicted: Array, label: Array) -> Array:
    """(4,) the statistics, NaN where undefined."""
    statistics = agreement(predicted, label)
    return np.array([np.nan if x is None else x for x in statistics[:4]])


# ---- systems


def system_means(predicted: Array, label: Array, systems: Sequence[Hashable]) -> tuple[list[Hashable], Array, Array]:
    """Names, mean predictions and mean labels (S,) of the systems, sorted by name.

    Each mean is over what its column has, as in Track 2: a clip without a prediction still counts in the mean label. Rows
    without a system are left out; a system without any prediction or label has NaN.
    """
    names, code = _coded(systems)
    return names, _means(predicted, code, len(names)), _means(label, code, len(names))


def _coded(systems: Sequence[Hashable]) -> tuple[list[Hashable], Array]:
    names = sorted({name for name in systems if name is not None}, key=str)
    place = {name: k for k, name in enumerate(names)}
    return names, np.array([place.get(name, -1) for name in systems], dtype=np.int64)


def _means(values: Array, code: Array, n_systems: int) -> Array:
    is_known = ~np.isnan(values) & (code >= 0)
    total = np.bincount(code[is_known], values[is_known], n_systems)
    count = np.bincount(code[is_known], minlength=n_systems)
    means: Array = np.divide(total, count, out=np.full(n_systems, np.nan), where=count > 0)
    return means


# ---- results with intervals


def of_clips(predicted: Array, label: Array, clusters: Sequence[Hashable], resampling: Resampling) -> dict[str, Any]:
    """Agreement of clips. clusters (N,): what is resampled together, the content or the system of each clip."""
    both = ~(np.isnan(predicted) | np.isnan(label))
    p, r = predicted[both], label[both]
    groups = clusters_of([c for c, k in zip(clusters, both, strict=True) if k])
    return _with_intervals(agreement(p, r), lambda rows: _values(p[rows], r[rows]), groups, resampling)


def of_systems(
    predicted: Array,
    label: Array,
    systems: Sequence[Hashable],
    clusters: Sequence[Hashable],
    resampling: Resampling,
    *,
    whole: bool,
) -> dict[str, Any]:
    """Agreement of the means of systems. `whole`: systems themselves are resampled, else the contents in `clusters` (N,)."""
    names, p, r = system_means(predicted, label, systems)
    if not names:
        return {**Agreement(None, None, None, None, 0, "no row names a system")._asdict(), "interval": {}}
    if whole:
        groups = [np.array([k]) for k in range(len(names))]
        return _with_intervals(agreement(p, r), lambda rows: _values(p[rows], r[rows]), groups, resampling)
    _, code = _coded(systems)

    def again(rows: Array) -> Array:
        return _values(*(_means(column[rows], code[rows], len(names)) for column in (predicted, label)))

    return _with_intervals(agreement(p, r), again, clusters_of(clusters), resampling)


def _with_intervals(values: Agreement, statistic: Any, groups: list[Array], resampling: Resampling) -> dict[str, Any]:
    result: dict[str, Any] = values._asdict()
    result["interval"] = {}
    if resampling.samples and values.n and len(groups) > 1:
        drawn = draws(statistic, groups, resampling.samples, resampling.seed)
        for k, name in enumerate(STATISTICS):
            value = result[name]
            edge = _half_step(name, values.n)
            limits = value is not None and interval(
                value, drawn[:, k], len(groups), SCALES[name], resampling.confidence, edge=edge
            )
            if limits:
                result["interval"][name] = list(limits)
    return result


def _half_step(name: str, n: int) -> float:
    """Half of the smallest step that a rank correlation of n values can be away from 1."""
    if n < 3 or name not in ("srcc", "ktau"):
        return 1e-6
    return 6 / (n * (n**2 - 1)) if name == "srcc" else 2 / (n * (n - 1))


def of_preferences(
    judged: Judged, labels: PairLabels, clusters: Sequence[Hashable], resampling: Resampling, delta: float = DELTA
) -> dict[str, Any]:
    """Accuracies of P pairs (`clips.verdicts.correct`), with what was counted.

    n, n_0: pairs behind acc_delta and acc_0; label_ties: pairs that acc_0 leaves out because listeners call them equal;
    missing: pairs without a prediction. The sweep moves the predictor's threshold, not the labels'.
    """
    right = correct(judged, labels, delta)
    strict = labels.verdicts(0.0)
    columns = np.stack([right.delta, right.zero], axis=1)  # (P, 2)
    values = [share(right.delta), share(right.zero)]
    verdicts_given = judged.three_way(delta)
    result: dict[str, Any] = {
        "acc_delta": _known(values[0]),
        "acc_0": _known(values[1]),
        "n": int(np.sum(~np.isnan(right.delta))),
        "n_0": int(np.sum(~np.isnan(right.zero))),
        "label_ties": int(np.sum(strict == TIE)),
        "missing": int(np.sum(np.isnan(verdicts_given) & ~np.isnan(labels.verdicts(delta)))),
        "predicted_ties": _known(share(np.where(np.isnan(right.delta), np.nan, verdicts_given == TIE))),
        "interval": _share_intervals(columns, values, clusters, resampling),
        "reason": None,
    }
    if result["n_0"] == 0 or result["n"] == 0:
        result["reason"] = "no pair has both a prediction and a label" if result["n"] == 0 else "all labels are ties"
    if judged.verdict is None and result["n"]:
        accuracy = sweep(judged, labels, delta)
        best = int(np.nanargmax(accuracy))
        result["sweep"] = {"threshold": list(THRESHOLDS), "accuracy": [_known(x) for x in accuracy]}
        result["best"] = {"threshold": THRESHOLDS[best], "accuracy": float(accuracy[best])}
    return result


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _share_intervals(
    columns: Array, values: Sequence[float], clusters: Sequence[Hashable], resampling: Resampling
) -> dict[str, list[float]]:
    """Intervals of the means of columns (P, K) of 1, 0 and NaN; contents are reweighted, which is what resampling does."""
    groups = clusters_of(clusters)
    if not resampling.samples or len(groups) < 2:
        return {}
    won = np.array([np.nansum(columns[rows], axis=0) for rows in groups])  # (U, K)
    seen = np.array([np.sum(~np.isnan(columns[rows]), axis=0) for rows in groups])

    drawn = ratio_draws(won, seen, resampling.samples, resampling.seed)
    ends = {}
    for k, name in enumerate(ACCURACIES):
        limits = interval(values[k], drawn[:, k], int(np.sum(seen[:, k] > 0)), "share", resampling.confidence)
        if limits:
            ends[name] = list(limits)
    return ends


# ---- metric by metric


def spearman_matrix(values: Mapping[str, Array]) -> list[list[float | None]]:
    """(M, M) Spearman correlations of metrics on the clips that have both (Fig. 3); None where it is not defined."""
    names = list(values)
    matrix: list[list[float | None]] = [[None] * len(names) for _ in names]
    for i, a in enumerate(names):
        for j, b in enumerate(names[: i + 1]):
            matrix[i][j] = matrix[j][i] = agreement(values[a], values[b]).srcc
    return matrix


# ---- two predictors


def difference_of_clips(
    first: Array, second: Array, label: Array, clusters: Sequence[Hashable], resampling: Resampling
) -> dict[str, Any]:
    """Is the first predictor better than the second, on the rows that both predict?

    Per statistic the difference (first - second) and the p-value of a paired bootstrap of clusters; for LCC and SRCC also
    Williams' and Steiger's tests of dependent correlations, which take rows to be independent (on SRCC they work on ranks).
    """
    all_three = ~(np.isnan(first) | np.isnan(second) | np.isnan(label))
    a, b, r = first[all_three], second[all_three], label[all_three]
    groups = clusters_of([c for c, k in zip(clusters, all_three, strict=True) if k])
    value = _values(a, r) - _values(b, r)
    drawn = np.full((0, len(STATISTICS)), np.nan)
    if resampling.samples and len(groups) > 1:
        drawn = draws(
            lambda rows: _values(a[rows], r[rows]) - _values(b[rows], r[rows]), groups, resampling.samples, resampling.seed
        )
    result: dict[str, Any] = {"n": len(a)}
    for k, name in enumerate(STATISTICS):
        result[name] = {"difference": _known(value[k]), "bootstrap": _test(bootstrap_test(value[k], drawn[:, k], len(groups)))}
    mutual, one, two = agreement(a, b), agreement(a, r), agreement(b, r)
    for name in ("lcc", "srcc"):
        trio = [getattr(own, name) for own in (one, two, mutual)]
        if None not in trio:
            r_a, r_b, r_ab = trio
            tests = {"williams": williams(r_a, r_b, r_ab, len(a)), "steiger": steiger(r_a, r_b, r_ab, len(a))}
            result[name] |= {test: _test(own) for test, own in tests.items()}
    return result


def difference_of_preferences(
    first: Judged,
    second: Judged,
    labels: PairLabels,
    clusters: Sequence[Hashable],
    resampling: Resampling,
    delta: float = DELTA,
) -> dict[str, Any]:
    """Difference of accuracies on the pairs that both judge, with a paired bootstrap of contents."""
    one, two = correct(first, labels, delta), correct(second, labels, delta)
    gaps = np.stack([one.delta - two.delta, one.zero - two.zero], axis=1)  # (P, 2), NaN where either is not counted
    groups = clusters_of(clusters)
    total = np.array([np.nansum(gaps[rows], axis=0) for rows in groups])
    seen = np.array([np.sum(~np.isnan(gaps[rows]), axis=0) for rows in groups])

    drawn = ratio_draws(total, seen, resampling.samples if len(groups) > 1 else 0, resampling.seed)
    result: dict[str, Any] = {"n": int(np.sum(~np.isnan(gaps[:, 0])))}
    for k, name in enumerate(ACCURACIES):
        value = share(gaps[:, k])
        counted = int(np.sum(seen[:, k] > 0))
        result[name] = {"difference": _known(value), "bootstrap": _test(bootstrap_test(value, drawn[:, k], counted))}
    return result


def _test(test: Test) -> dict[str, float | None]:
    return {"statistic": _known(test.statistic), "p": _known(test.p)}


def verdict_counts(labels: PairLabels, delta: float = DELTA) -> dict[str, int]:
    """How many labels are a, tie and b."""
    codes = labels.verdicts(delta) if len(labels.cmos) else verdicts(np.zeros(0), delta)
    return {"a": int(np.sum(codes == 1)), "tie": int(np.sum(codes == TIE)), "b": int(np.sum(codes == -1))}
