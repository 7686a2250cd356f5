"""Sources of both sides of an evaluation: predictions and labels by source, and warnings about odd ones."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from urgentmos.clips.sources import UNKNOWN, kind_of, phrase_of
from urgentmos.common.clip_warnings import Flagged, grouped
from urgentmos.evaluation.predictions import Matched, Source, predicted_source
from urgentmos.metrics import HUMAN
from urgentmos.ranking.comparison import SIDES, on_side


class Origin(NamedTuple):
    """The sources of one judge's predictions and of the labels that they are held against, one per value."""

    label: str  # the metric of the labels
    predictions: Sequence[str]
    labels: Sequence[str]

    def to_dict(self) -> dict[str, str]:
        """For JSON: the sources as phrases."""
        return {"prediction": phrase_of(self.predictions, self.label), "label": phrase_of(self.labels, self.label)}


def origins_of(
    predictions: Source,
    matched: Matched,
    targets: Mapping[str, str],
    judges: Iterable[str],
    pairs: tuple[str, Sequence[str]] | None,
) -> dict[str, Origin]:
    """Judge -> its origin, for `targets` and for judges of pairs alone. pairs: the metric of their labels, and its sources."""
    origins = {
        metric: Origin(target, matched.predicted_sources[metric], matched.label_sources[target])
        for metric, target in targets.items()
    }
    for judge in judges:
        if judge not in origins and pairs is not None:
            origins[judge] = Origin(pairs[0], _judge_sources(predictions, judge, pairs[0]), pairs[1])
    return origins


def _judge_sources(predictions: Source, judge: str, metric: str) -> list[str]:
    of_clips = [source for row in predictions.clips if (source := predicted_source(row, judge))]
    return of_clips or [row.sources.get(metric, UNKNOWN) for row in predictions.pairs]


def origin_warnings(origins: Mapping[str, Origin]) -> Iterator[str]:
    """Labels that are predictions or of several sources, and predictions that are held against themselves."""
    groups: dict[tuple[str, str], list[str]] = {}
    for judge, origin in origins.items():
        for sentence in _odd_sources(judge, origin):
            groups.setdefault(sentence, []).append(judge)
    for (before, after), judges in groups.items():
        yield f"{before}{', '.join(judges)}{after}"


def _odd_sources(judge: str, origin: Origin) -> Iterator[tuple[str, str]]:
    """The oddities of one judge's sources, as the words before and after its name."""
    prediction, label = origin.to_dict().values()
    kinds = _kinds(origin.labels, origin.label)
    if prediction == label and kinds - {"unknown"}:
        yield f"predictions and references have one source ({label}), so their agreement shows nothing: ", ""
    elif len(set(origin.predictions)) > 1:
        yield "the predictions of ", f" come from several sources: {prediction}"
    others = "listeners" if origin.label in HUMAN else "measurements"
    what = "" if origin.label == judge else f" ({origin.label})"
    if "predicted" in kinds:
        yield "", f" is held against labels{what} {label}, not against {others}"
    elif origin.label in HUMAN and kinds - {"human"}:
        yield "", f" is held against labels{what} {label}, not against listeners alone"
    elif len(set(origin.labels)) > 1:
        yield "", f" is held against labels{what} of several sources: {label}"


def _kinds(sources: Iterable[str], metric: str) -> set[str]:
    return {kind_of(source, metric) for source in sources}


def label_warnings(given: Source, references: Source, matched: Matched, alike: Sequence[str]) -> Iterator[str]:
    """Sentences on what was left out: metrics with the same labels in both files, predictions among the labels of a metric."""
    for name in alike:
        yield f"{name}: both files hold the same labels ({phrase_of(matched.label_sources[name], name)}); left out"
    counts: dict[str, int] = {}
    for before, after in zip(given.clips, references.clips, strict=True):
        for name, value in before.values.items():
            if value is not None and after.values.get(name) is None:
                counts[name] = counts.get(name, 0) + 1
    for name, n in counts.items():
        yield f"the {name} of {n} of {len(given.clips)} references is a prediction and is left out, as others have labels"


def same_labels(matched: Matched, targets: Mapping[str, str]) -> list[str]:
    """Metrics whose values are the same labels in both files, none of them predicted; none if nothing else is evaluated."""
    alike = [metric for metric, target in targets.items() if metric == target and _are_same(matched, metric)]
    return alike if len(alike) < len(targets) else []


def _are_same(matched: Matched, metric: str) -> bool:
    ours, theirs = (set(sources[metric]) for sources in (matched.predicted_sources, matched.label_sources))
    stated = bool(ours) and not _kinds(ours, metric) & {"predicted", "unknown"}
    return stated and ours == theirs and np.array_equal(matched.predicted[metric], matched.labels[metric], equal_nan=True)


def clip_warnings_of(predictions: Source) -> list[str]:
    """The warnings in the rows of predictions, grouped by system."""
    flagged = [Flagged(row.system, row.warnings) for row in predictions.clips]
    sides = [Flagged(None, on_side(row.warnings, side)) for row in predictions.pairs for side in SIDES]
    return [*grouped(flagged), *grouped(sides)]
