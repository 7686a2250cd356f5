"""Tests of whether one file of predictions agrees better with the labels than another."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from urgentmos.clips.verdicts import Judged
from urgentmos.errors import UsageError
from urgentmos.evaluation import agreement
from urgentmos.evaluation.levels import clip_clusters, targets_of, unit_fault
from urgentmos.evaluation.options import Options
from urgentmos.evaluation.predictions import Matched, Source, match_clips
from urgentmos.evaluation.preferences import PairSet, judges_of

Array = np.ndarray


def versus_tests(
    matched: Matched,
    targets: Mapping[str, str],
    pairs: PairSet | None,
    judges: Mapping[str, Judged],
    versus: Source,
    references: Source,
    options: Options,
) -> dict[str, Any]:
    """Tests of "both are equally good": metric against its namesake, or the only one of each side."""
    other = match_clips(versus, references)
    other_targets = targets_of(other, options.label)
    result: dict[str, Any] = {"predictions": versus.path, "utterance": {}, "system": {}, "preference": {}}
    clusters = clip_clusters(matched, options)
    for mine, theirs in _counterparts(targets, other_targets):
        target = targets[mine]
        second = _aligned(matched, other, other.predicted[theirs])
        first, label = matched.predicted[mine], matched.labels[target]
        name = mine if mine == theirs else f"{mine} - {theirs}"
        units = [unit_fault(m, target, False, False) for m in (mine, theirs)]
        result["utterance"][name] = _without_mse(
            agreement.difference_of_clips(first, second, label, clusters, options.resampling), any(units)
        )
        both = ~np.isnan(first) & ~np.isnan(second) & ~np.isnan(label)
        names, p, r = agreement.system_means(np.where(both, first, np.nan), np.where(both, label, np.nan), matched.systems)
        q = agreement.system_means(np.where(both, second, np.nan), label, matched.systems)[1]
        if len(names) > 1:
            result["system"][name] = _without_mse(agreement.difference_of_clips(p, q, r, names, options.resampling), any(units))
    if pairs is not None:
        theirs_judges = judges_of(versus, pairs, other_targets)
        for mine, theirs in _counterparts(judges, theirs_judges):
            name = mine if mine == theirs else f"{mine} - {theirs}"
            result["preference"][name] = agreement.difference_of_preferences(
                judges[mine], theirs_judges[theirs], pairs.labels, pairs.clusters, options.resampling, options.delta
            )
    if not (result["utterance"] or result["preference"]):
        raise UsageError(
            f"{versus.path}: predicts nothing that {references.path} has labels for. Compare the ids of both files."
        )
    return result


def _without_mse(tests: dict[str, Any], other_unit: bool) -> dict[str, Any]:
    """Tests of two predictors, without that of the error where it has no meaning."""
    return {**tests, "mse": {"difference": None}} if other_unit else tests


def _counterparts(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, str]]:
    shared = [(name, name) for name in mine if name in theirs]
    if not shared and len(mine) == 1 and len(theirs) == 1:
        return [(next(iter(mine)), next(iter(theirs)))]
    return shared


def _aligned(matched: Matched, other: Matched, values: Array) -> Array:
    """The other file's values in the order of `matched`, NaN where it has none."""
    by_uid = dict(zip(other.uids, values, strict=True))
    return np.array([by_uid.get(uid, np.nan) for uid in matched.uids])
