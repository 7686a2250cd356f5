"""The values of a clip and their sources: labels, predictions, and labels whose places other values took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from urgentmos.clips.clip import Clip
from urgentmos.clips.sources import Kind, kind_of, readable, source_among
from urgentmos.metrics import HUMAN

OTHERS = "other_values"  # in meta: {metric: {source: value}}, the labels whose place in `metrics` another value took


class Value(NamedTuple):
    """A value of a metric and its source."""

    value: float
    source: str
    kind: Kind


def source_of(clip: Clip, metric: str) -> str:
    """The source of a clip's value of `metric`: the stated one, else listeners for human MOS, else unknown."""
    return source_among(clip.sources, metric)


def sources_of(clip: Clip) -> dict[str, str]:
    """The source of every value that the clip has."""
    return {name: source_of(clip, name) for name, value in clip.metrics.items() if value is not None}


def values_of(clip: Clip, metric: str) -> list[Value]:
    """All that is known of a metric: the value in `metrics` first, then the labels in meta.other_values, the latest first."""
    values = []
    own = clip.metrics.get(metric)
    if own is not None:
        values.append(_value(own, source_of(clip, metric), metric))
    return values + [_value(x, source, metric) for source, x in reversed(_others(clip.meta).get(metric, {}).items())]


def _value(value: float, source: str, metric: str) -> Value:
    return Value(value, source, kind_of(source, metric))


def label_of(clip: Clip, metric: str) -> Value | None:
    """The clip's label: for human MOS the listeners' value only, for any other metric a value that is not predicted."""
    kinds = ("human",) if metric in HUMAN else ("measured", "unknown", "human")
    return next((value for value in values_of(clip, metric) if value.kind in kinds), None)


def prediction_of(clip: Clip, metric: str) -> Value | None:
    """The clip's value in `metrics` if it is predicted."""
    return next((value for value in values_of(clip, metric)[:1] if value.kind == "predicted"), None)


def with_labels(clip: Clip) -> Clip:
    """The clip with its labels in `metrics` where predictions had taken their places."""
    displaced = [n for n in {**clip.metrics, **_others(clip.meta)} if clip.metrics.get(n) is None or prediction_of(clip, n)]
    labels = {name: label for name in displaced if (label := label_of(clip, name)) is not None}
    values = {name: label.value for name, label in labels.items()}
    return with_values(clip, values, {name: label.source for name, label in labels.items()}) if labels else clip


def predicted_labels(clips: Sequence[Clip]) -> dict[str, list[str]]:
    """Metric -> the sources of its predictions, for metrics that any clip has as a prediction."""
    sources: dict[str, list[str]] = {}
    for clip in clips:
        for name, source in sources_of(clip).items():
            if kind_of(source, name) == "predicted":
                sources.setdefault(name, []).append(source)
    return sources


def labels_or_predictions(clips: Iterable[Clip], metric: str) -> tuple[list[Clip], int]:
    """The clips with their labels of `metric` in `metrics`, and how many have a prediction only.

    Where any clip has a label, predictions are no values (None): the two are never mixed. Without any label the
    predictions stay.
    """
    clips = list(clips)
    labels = [label_of(clip, metric) for clip in clips]
    unlabelled = [label is None and prediction_of(clip, metric) is not None for clip, label in zip(clips, labels, strict=True)]
    if not any(label is not None for label in labels):
        return clips, sum(unlabelled)
    kept = [
        clip if label is None else with_values(clip, {metric: label.value}, {metric: label.source})
        for clip, label in zip(clips, labels, strict=True)
    ]
    dropped = zip(kept, unlabelled, strict=True)
    return [replace(c, metrics={**c.metrics, metric: None}) if drop else c for c, drop in dropped], sum(unlabelled)


def with_values(clip: Clip, values: Mapping[str, float | None], sources: Mapping[str, str]) -> Clip:
    """The clip with these values and their sources; values of other metrics stay.

    A label (no prediction) of another source whose place is taken is kept in meta.other_values.
    """
    others = _others(clip.meta)
    for name, value in values.items():
        old, before = clip.metrics.get(name), source_of(clip, name)
        if value is not None and name in others:
            others[name].pop(sources[name], None)
        if old is not None and kind_of(before, name) != "predicted" and (value is None or before != sources[name]):
            others.setdefault(name, {}).pop(before, None)  # the latest comes last
            others[name][before] = old
    stated = {name: source for name, source in clip.sources.items() if name not in values}
    stated |= {name: sources[name] for name, value in values.items() if value is not None}
    return replace(clip, metrics={**clip.metrics, **values}, sources=stated, meta=_with_others(clip.meta, others))


def without(clip: Clip, metrics: Iterable[str]) -> Clip:
    """The clip without these metrics; labels whose places they had taken come back."""
    values, stated, others = dict(clip.metrics), dict(clip.sources), _others(clip.meta)
    for name in metrics:
        values.pop(name, None)
        stated.pop(name, None)
        if others.get(name):
            stated[name], values[name] = others[name].popitem()
    return replace(clip, metrics=values, sources=stated, meta=_with_others(clip.meta, others))


def _others(meta: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """A copy of meta.other_values, without what has another form."""
    stored = meta.get(OTHERS)
    rows = stored.items() if isinstance(stored, Mapping) else ()
    return {
        str(name): {str(source): float(x) for source, x in row.items() if isinstance(x, int | float) and x == x}
        for name, row in rows
        if isinstance(row, Mapping)
    }


def _with_others(meta: Mapping[str, Any], others: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    before = _others(meta)
    kept, earlier = ({name: dict(row) for name, row in one.items() if row} for one in (others, before))
    if kept == earlier:
        return dict(meta)
    rest = {key: value for key, value in meta.items() if key != OTHERS}
    if OTHERS in meta and meta[OTHERS] != before:  # a user's own key of that name
        rest[f"row.{OTHERS}"] = meta[OTHERS]
    return rest | ({OTHERS: kept} if kept else {})


def taken_places(before: Sequence[Clip], after: Sequence[Clip]) -> list[str]:
    """Sentences about the values of clips that others took the place of; both sequences are in the same order."""
    kept: dict[tuple[str, str], list[str]] = {}
    replaced: dict[tuple[str, str], list[str]] = {}
    for old, new in zip(before, after, strict=True):
        for name, source in sources_of(old).items():
            if new.metrics.get(name) is not None and source_of(new, name) == source:
                continue
            label = kind_of(source, name) != "predicted"
            if label and name in new.metrics and source in _others(new.meta).get(name, {}):
                kept.setdefault((name, readable(source, name)), []).append(old.uid)
            elif not label:
                replaced.setdefault((name, readable(source, name)), []).append(old.uid)
    return [
        *(f"{what}: kept in meta.{OTHERS}, as new values take their place" for what in _grouped(kept)),
        *(f"{what}: new values take their place" for what in _grouped(replaced)),
    ]


def _grouped(uids_by_source: Mapping[tuple[str, str], Sequence[str]]) -> list[str]:
    """(metric, source) -> uids, as phrases: metrics that share a source and clips are one."""
    groups: dict[tuple[str, int], list[str]] = {}
    for (name, source), uids in uids_by_source.items():
        groups.setdefault((source, len(uids)), []).append(name)
    return [f"{', '.join(names)} of {n} {'clip' if n == 1 else 'clips'} ({source})" for (source, n), names in groups.items()]
