"""Agreement of predicted metrics with their labels, clip by clip and system by system."""

from collections.abc import Hashable, Mapping, Set
from typing import Any

import numpy as np

from urgentmos.evaluation import agreement
from urgentmos.evaluation.options import Options
from urgentmos.evaluation.predictions import UNNAMED, Matched
from urgentmos.metrics import is_opinion


def targets_of(matched: Matched, label: str | None) -> dict[str, str]:
    """Predicted metric -> the label it is held against: `label`, its namesake, or human MOS, in this order."""
    if not len(matched):
        return {}
    if label is not None and label not in matched.labels:
        return {}
    targets = {m: label or (m if m in matched.labels else UNNAMED) for m in matched.predicted}
    return {m: target for m, target in targets.items() if target in matched.labels}


def clip_clusters(matched: Matched, options: Options) -> list[Hashable]:
    """The groups that are resampled together; a clip without a content (or system) is on its own."""
    names = matched.contents if options.resample == "contents" else matched.systems
    pairs = zip(matched.corpora, names, matched.uids, strict=True)
    return [(corpus, name) if name is not None else ("uid", uid) for corpus, name, uid in pairs]


def levels(matched: Matched, targets: Mapping[str, str], options: Options) -> dict[str, Any]:
    """{"utterance": {metric: statistics}, "system": {metric: statistics}} of every target, and of random guesses."""
    clusters, whole = clip_clusters(matched, options), options.resample == "systems"
    systems = list(matched.systems)
    utterance: dict[str, Any] = {}
    system: dict[str, Any] = {}
    for metric, target in targets.items():
        p, r = matched.predicted[metric], matched.labels[target]
        utterance[metric] = {"label": target, **agreement.of_clips(p, r, clusters, options.resampling)}
        system[metric] = {"label": target, **agreement.of_systems(p, r, systems, clusters, options.resampling, whole=whole)}
    if options.random and targets:
        target = next(iter(targets.values()))
        r = matched.labels[target]
        p = np.random.default_rng(options.resampling.seed).permutation(r)
        utterance["random"] = {"label": target, **agreement.of_clips(p, r, clusters, options.resampling)}
        system["random"] = {"label": target, **agreement.of_systems(p, r, systems, clusters, options.resampling, whole=whole)}
    return {"utterance": utterance, "system": system}


def with_units(part: dict[str, Any], predicted: Set[str], labelled: Set[str]) -> dict[str, Any]:
    """`part` without mean squared errors of values in different units, and why; sets: metrics that are on another scale."""
    for level in ("utterance", "system"):
        for metric, statistics in part[level].items():
            statistics["mse_reason"] = unit_fault(
                metric, statistics["label"], metric in predicted, statistics["label"] in labelled
            )
            if statistics["mse_reason"]:
                statistics["mse"] = None
                statistics["interval"].pop("mse", None)
    return part


def unit_fault(metric: str, label: str, other_scale: bool, other_label: bool) -> str | None:
    """Why values of a metric and of a label cannot be subtracted; None if they can."""
    if metric not in ("random", label) and not (is_opinion(metric) and is_opinion(label)):
        return f"{metric} and {label} have different units"
    if metric != "random" and other_scale != other_label:
        return (
            f"{'the predictions' if other_scale else 'the labels'} are not on the scale of {metric if other_scale else label}"
        )
    return None


def label_correlations(matched: Matched) -> dict[str, Any] | None:
    """Spearman correlations between all labels, or None if there are fewer than two."""
    if len(matched.labels) < 2:
        return None
    return {"metrics": list(matched.labels), "srcc": agreement.spearman_matrix(matched.labels)}
