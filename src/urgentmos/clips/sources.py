"""Sources of values: whether a metric of a clip is human, measured or predicted, and by what.

`Clip.sources` maps a metric to its source, one of

| source | kind |
|---|---|
| `listeners` | human |
| `measured by pesq (urgentmos 0.1.0, pesq 0.0.4)` | measured |
| `predicted by pocket c19abcda1728` | predicted |
| `unknown` | unknown: a manifest gives the value without a source |

Without a source, a value of human MOS is the listeners' and any other is unknown. `kind_of` is the only place that decides;
a prediction is never used as a label (`label_of`), whatever its model's name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal

from urgentmos.common.packaged import PACKAGED
from urgentmos.common.untrusted import shown
from urgentmos.metrics import HUMAN, METRICS, canonical

Kind = Literal["human", "measured", "predicted", "unknown"]

LISTENERS = "listeners"
UNKNOWN = "unknown"
NO_SPEECH = "predicted by urgentmos (the clip holds no speech)"  # the worst of the scale, in place of any measurement

_HUMAN = re.compile(r"(listeners?|humans?)( \([^()]*\)|: .*)?", re.IGNORECASE | re.DOTALL)
_MEASURED = re.compile(r"measured( by .+| \(.*\)|: ?.*)?", re.IGNORECASE | re.DOTALL)
_UNKNOWN = re.compile(r"|unknown|given", re.IGNORECASE)
_TOOL = re.compile(r"(?P<name>\S+)( v?\d+(\.\d+)+\S*)?( \(.*\))?", re.DOTALL)  # pesq 0.0.4 (urgentmos 0.1.0)


_NAMED = 4  # sources that a sentence spells out


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


def _tools(metric: str) -> set[str]:
    """Names under which a row may say that `metric` was measured."""
    row = METRICS.get(metric)
    return {metric, row.labeller or metric} if row is not None and metric not in HUMAN else set()


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


def source_among(sources: Mapping[str, str], metric: str) -> str:
    """The source of a value of `metric`: the stated one, else listeners for human MOS, else unknown."""
    return sources.get(metric) or (LISTENERS if metric in HUMAN else UNKNOWN)


# ---- rows of files


def stated_sources(record: Mapping[str, Any], metrics: Mapping[str, float | None], meta: Mapping[str, Any]) -> dict[str, str]:
    """The sources of a row's metrics: those it states, else those that keys of an older version imply.

    Older versions of `score` name the model under `model`, older versions of `label` the labellers under meta.labellers.
    `unknown` is left out where it means the same as no source.
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
    """The part of a row's `sources` that is about no metric of the row: a user's own column of that name, or None."""
    nested = record.get("sources")
    if not isinstance(nested, Mapping):
        return nested
    return {key: value for key, value in nested.items() if canonical(str(key)) not in {**metrics, **METRICS}} or None


def _of_older_row(
    metric: str, record: Mapping[str, Any], metrics: Mapping[str, float | None], meta: Mapping[str, Any]
) -> str | None:
    """The source of a metric in a row that does not state it; None if nothing in the row implies one."""
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
    return next(((name, str(versions)) for name, versions in labellers.items() if str(name) in _tools(metric)), None)


def _offers(model: str, version: str, metric: str) -> bool:
    """Whether a model predicts a metric: known of the one in the package, assumed of any other."""
    own = _packaged().get((model, version))
    return own is None or metric in own


@cache
def _packaged() -> dict[tuple[str, str], frozenset[str]]:
    """(model, version) -> its metrics, of the models in the package."""
    configs = [json.loads((folder / "config.json").read_text(encoding="utf-8")) for folder in PACKAGED.values()]
    return {(str(config["name"]), str(config["version"])): frozenset(config["metrics"]) for config in configs}
