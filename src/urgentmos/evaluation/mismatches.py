"""Ids that predictions and labels do not share, and the messages about them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from urgentmos.clips.verdicts import Judged
from urgentmos.common.untrusted import shown
from urgentmos.evaluation.predictions import Matched, Source
from urgentmos.evaluation.preferences import PairSet

_LISTED = 10  # ids that a report spells out


def unmatched_ids(predictions: Source, references: Source, matched: Matched, targets: Mapping[str, str]) -> dict[str, Any]:
    """{kind: count and first ids} of duplicates, of ids in one file only, and of predictions without a value."""
    without = [
        uid
        for k, uid in enumerate(matched.uids)
        if targets and all(np.isnan(matched.predicted[m][k]) and not np.isnan(matched.labels[t][k]) for m, t in targets.items())
    ]
    kinds = {
        "duplicate_predictions": predictions.duplicates,
        "duplicate_references": references.duplicates,
        "predicted_without_reference": matched.without_label if references.clips else [],
        "reference_without_prediction": matched.without_prediction if predictions.clips else [],
        "prediction_without_value": without,
    }
    return {name: {"n": len(uids), "first": uids[:_LISTED]} for name, uids in kinds.items()}


_SENTENCES = {
    "duplicate_predictions": "{n} predictions repeat an id, the first: {first}",
    "duplicate_references": "{n} references repeat an id, the first: {first}",
    "predicted_without_reference": "{n} predictions have no label and are left out, the first: {first}",
    "reference_without_prediction": "{n} labels have no prediction and are left out, the first: {first}",
    "prediction_without_value": "{n} predictions hold no value, the first: {first}",
}
FAILURES = ("predicted_without_reference", "prediction_without_value")  # exit status 1


def mismatch_warnings(report: Mapping[str, Any], pairs: PairSet | None, judges: Mapping[str, Judged]) -> Iterator[str]:
    """Sentences about the ids, correlations and pairs that a report lacks."""
    for name, sentence in _SENTENCES.items():
        ids = report["ids"][name]
        if ids["n"]:
            yield sentence.format(n=ids["n"], first=ids["first"][0])
    for level in ("utterance", "system"):
        for metric, statistics in report[level].items():
            if statistics["reason"] and not (level == "system" and statistics["n"] == 0):
                yield f"no {level} correlation for {metric}: {statistics['reason']}"
    for name, statistics in report["preference"].items():
        if statistics["missing"]:
            yield f"{name} says nothing of {statistics['missing']} of {len(pairs.rows) if pairs else 0} labelled pairs"
    if pairs is not None and not judges:
        yield "there are labelled pairs, but no prediction that tells which clip of a pair is better"


def nothing_to_compare(predictions: Source, references: Source, matched: Matched, label: str | None) -> str:
    """The error message for two files that share no id or no metric."""
    if len(matched):
        wanted = f"the label {label}" if label else "a label of that name, or mos_overall"
        predicted, labelled = ", ".join(matched.predicted) or "no metric", ", ".join(matched.labels) or "no metric"
        return (
            f"{predictions.path} predicts {predicted}, but {references.path} holds {labelled}: {wanted} is missing. "
            f"Choose one with --label."
        )
    sides = []
    for source in (predictions, references):
        ids = [row.uid for row in source.clips[:1]] + [f"{row.a} / {row.b}" for row in source.pairs[:1]]
        sides.append(f"{source.path} has ids such as {shown(ids[0])}")
    return f"no row of the two files belongs together: {', '.join(sides)}. Give both the same uid per clip."
