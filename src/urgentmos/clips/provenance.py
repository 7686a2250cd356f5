"""Where a number comes from: the source of each metric of a clip, and whether it is human, measured or predicted.

`Clip.sources` maps a metric to its source, one of

| source | kind |
|---|---|
| `listeners` | human |
| `measured by pesq (urgentmos 0.1.0, pesq 0.0.4)` | measured |
| `predicted by pocket c19abcda1728` | predicted |
| `unknown` | unknown: a manifest gives the value without a source |

Without a source, a value of human MOS is the listeners' and any other is unknown. `kind_of` is the only place that decides;
a prediction is never used as a label (`label_of`), whatever its model is called.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from urgentmos.common.untrusted import shown
from urgentmos.metrics import HUMAN, METRICS, canonical

if TYPE_CHECKING:
    from urgentmos.clips.clip import Clip

Kind = Literal["human", "measured", "predicted", "unknown"]

LISTENERS = "listeners"
UNKNOWN = "unknown"
NO_SPEECH = "predicted by urgentmos (the clip holds no speech)"  # the worst of the scale, whatever was measured
OTHERS = "other_values"  # in meta: {metric: {source: value}}, the labels whose place in `metrics` another value took

_HUMAN = re.compile(r"(listeners?|humans?)( \([^()]*\)|: .*)?", re.IGNORECASE | re.DOTALL)
_MEASURED = re.compile(r"measured( by .+| \(.*\)|: ?.*)?", re.IGNORECASE | re.DOTALL)
_UNKNOWN = re.compile(r"|unknown|given", re.IGNORECASE)
_TOOL = re.compile(r"(?P<name>\S+)( v?\d+(\.\d+)+\S*)?( \(.*\))?", re.DOTALL)  # pesq 0.0.4 (urgentmos 0.1.0)


_NAMED = 4  # sources that a sentence spells out


class Value(NamedTuple):
    """A value of a metric and its source."""

    value: float
    source: str
    kind: Kind


# ---- sources


def predicted_by(model: str, version: str = "") -> str:
    """The source of a model's predictions."""
    return f"predicted by {model} {version}".rstrip()


def measured_by(labeller: str, versions: str = "") -> str:
    """The source of a labeller's measurements. versions: of its packages."""
    return f"measured by {labeller} ({versions})" if versions else f"measured by {labeller}"


def kind_of(source: str | None, metric: str = "") -> Kind:
    """The kind of a source of `metric`; None is a value without a source.

    A source that is neither listeners, nor measured, nor a tool that measures `metric` with its version, is a model:
    "pocket c19abcda1728" is read as "predicted by pocket c19abcda1728".
    """
    text = (source or "").strip()
    if _UNKNOWN.fullmatch(text):
        return "human" if source is None and metric in HUMAN else "unknown"
    if _HUMAN.fullmatch(text):
        return "human"
    if _MEASURED.fullmatch(text):
        return "measured"
    tool = _TOOL.fullmatch(text)
    return "measured" if tool and tool["name"].lower() in _tools(metric) else "predicted"


@cache
def _tools(metric: str) -> frozenset[str]:
    """Names under which a row may say that `metric` was measured."""
    from urgentmos.labellers import LABELLERS

    rows = [row for row in LABELLERS if metric in row.metrics]
    return frozenset(name for row in rows for name in (metric, row.name))


def readable(source: str, metric: str = "") -> str:
    """The source as a phrase: "listeners", "measured by ...", "predicted by ...", "from an unknown source"."""
    text, kind = source.strip(), kind_of(source, metric)
    if kind == "unknown":
        return "from an unknown source"
    if kind in ("measured", "predicted") and not text.lower().startswith(kind):
        return f"{kind} by {text}"
    return text


def phrase_of(sources: Iterable[str], metric: str = "") -> str:
    """The sources of many values: "listeners", or "listeners (8 clips) and predicted by pocket c19abcda1728 (4 clips)"."""
    counts = Counter(readable(source, metric) for source in sources)
    if len(counts) < 2:
        return "".join(counts)
    named = [f"{source} ({n} {'clip' if n == 1 else 'clips'})" for source, n in counts.most_common(_NAMED)]
    named += [f"{len(counts) - _NAMED} more sources"] if len(counts) > _NAMED else []
    return f"{', '.join(named[:-1])} and {named[-1]}"


# ---- the values of a clip


def source_of(clip: Clip, metric: str) -> str:
    """The source of a clip's value of `metric`: the stated one, else listeners for human MOS, else unknown."""
    return clip.sources.get(metric) or (LISTENERS if metric in HUMAN else UNKNOWN)


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
    found: dict[str, list[str]] = {}
    for clip in clips:
        for name, source in sources_of(clip).items():
            if kind_of(source, name) == "predicted":
                found.setdefault(name, []).append(source)
    return found


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
    found = meta.get(OTHERS)
    rows = found.items() if isinstance(found, Mapping) else ()
    return {
        str(name): {str(source): float(x) for source, x in row.items() if isinstance(x, int | float) and x == x}
        for name, row in rows
        if isinstance(row, Mapping)
    }


def _with_others(meta: Mapping[str, Any], others: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    before = _others(meta)
    kept, known = ({name: dict(row) for name, row in one.items() if row} for one in (others, before))
    if kept == known:
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


def _grouped(found: Mapping[tuple[str, str], Sequence[str]]) -> list[str]:
    """(metric, source) -> uids, as phrases: metrics that share a source and clips are one."""
    groups: dict[tuple[str, int], list[str]] = {}
    for (name, source), uids in found.items():
        groups.setdefault((source, len(uids)), []).append(name)
    return [f"{', '.join(names)} of {n} {'clip' if n == 1 else 'clips'} ({source})" for (source, n), names in groups.items()]


# ---- rows of files


def stated_sources(record: Mapping[str, Any], metrics: Mapping[str, float | None], meta: Mapping[str, Any]) -> dict[str, str]:
    """The sources of a row's metrics: those it states, else those that an older version's keys tell.

    Older versions of `score` name the model under `model`, older versions of `label` the labellers under meta.labellers.
    `unknown` is left out where it says no more than no source does.
    ValueError if one metric has two sources, or a source is no text.
    """
    nested = record.get("sources")
    stated: dict[str, str] = {}
    columns = {key.removeprefix("sources."): value for key, value in record.items() if key.startswith("sources.")}
    for key, source in [*(nested.items() if isinstance(nested, Mapping) else ()), *columns.items()]:
        name = canonical(str(key))
        if name not in metrics or source in (None, ""):
            continue
        if not isinstance(source, str):
            raise ValueError(f"the source of {name} is {shown(source)}, not text")
        if stated.setdefault(name, source) != source:
            raise ValueError(f"two sources for {name}: {stated[name]} and {source}")
    for name, value in metrics.items():
        if value is not None and name not in stated and (source := _of_older_row(name, record, metrics, meta)):
            stated[name] = source
    return {name: source for name, source in stated.items() if name in HUMAN or source != UNKNOWN}


def foreign_sources(record: Mapping[str, Any], metrics: Mapping[str, float | None]) -> Any:
    """What a row holds under `sources` that is about no metric of the row: a user's own column of that name, or None."""
    nested = record.get("sources")
    if not isinstance(nested, Mapping):
        return nested
    return {key: value for key, value in nested.items() if canonical(str(key)) not in {**metrics, **METRICS}} or None


def _of_older_row(
    metric: str, record: Mapping[str, Any], metrics: Mapping[str, float | None], meta: Mapping[str, Any]
) -> str | None:
    """The source of a metric in a row that does not state it; None if nothing in the row tells."""
    labellers = meta.get("labellers")
    tool = _labeller_in(labellers, metric)
    scored, earlier = _name(record.get("model")), _name(meta.get("model"))
    measured_only = scored == metric and _count(metrics) == 1 and "version" not in meta  # score -m pesq
    version = _name(meta.get("version")) or _name(record.get("version")) or ""  # compare names it in the row itself
    model = scored or earlier
    predicted = model is not None and _offers(model, version, metric)
    if tool is not None and (scored is None or measured_only or not predicted):
        return measured_by(*tool)
    if not predicted or (model in HUMAN and not version):  # score -m mos_overall copies the manifest's labels
        return None
    return predicted_by(str(model), version)


def _count(metrics: Mapping[str, float | None]) -> int:
    return sum(value is not None for value in metrics.values())


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _labeller_in(labellers: Any, metric: str) -> tuple[str, str] | None:
    """(name, versions) of the labeller of a metric in meta.labellers."""
    if not isinstance(labellers, Mapping):
        return None
    return next(((name, str(said)) for name, said in labellers.items() if str(name) in _tools(metric)), None)


def _offers(model: str, version: str, metric: str) -> bool:
    """Whether a model predicts a metric: known of the one in the package, assumed of any other."""
    own = _packaged().get((model, version))
    return own is None or metric in own


@cache
def _packaged() -> dict[tuple[str, str], frozenset[str]]:
    """(model, version) -> its metrics, of the models in the package."""
    import json

    from urgentmos.models.packaged import PACKAGED

    configs = [json.loads((folder / "config.json").read_text(encoding="utf-8")) for folder in PACKAGED.values()]
    return {(str(config["name"]), str(config["version"])): frozenset(config["metrics"]) for config in configs}
