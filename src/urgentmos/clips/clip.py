"""A clip, and the manifest row that it comes from and goes to."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from urgentmos.audio.formats import AUDIO_SUFFIXES
from urgentmos.audio.places.names import Place, joined, place_of
from urgentmos.clips.records import CLIP_KEYS, Record, brief, is_metric_name, label, named, names_a_file, number
from urgentmos.clips.sources import foreign_sources, source_among, stated_sources
from urgentmos.metrics import METRICS, canonical

_OF_A_RUN = ("model", "error", "warnings", "intervals")  # keys that score and label add; about the run that wrote the row


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording and what is known of it.

    Clips with one `reference_id` are homologous: the same content from different systems. `reference_path` is the clean
    signal that an intrusive metric needs. `duration` is in seconds. A metric without a value is None or absent, never 0.
    `sources` maps a metric to the source of its value (`clips.sources`); without one, human MOS is the listeners'.
    """

    uid: str
    audio_path: str  # opens from the current directory; or another place of `audio.places`: a URL, a tar's member, a cell
    system_id: str | None = None
    reference_id: str | None = None
    corpus: str | None = None
    duration: float | None = None
    reference_path: str | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    reference_fault: str | None = field(default=None, compare=False)  # why it has no reference signal; not written


def from_record(record: Mapping[str, Any], folder: str | Path = "") -> Clip:
    """The clip of a manifest row whose relative paths are relative to `folder`. ValueError says what is wrong with it.

    Columns that are named exactly like a metric (or `mos`) are metrics; keys that we do not know go to meta.
    """
    return clip_of(record, os.fspath(folder))[0]


def clip_of(record: Mapping[str, Any], folder: str) -> tuple[Clip, bool]:
    """(clip, whether its uid is ours because the row has none)."""
    path = record.get("audio_path")
    if not isinstance(path, str) or not path:
        raise ValueError(no_path(record))
    system, content, corpus, uid = (named(record, key) for key in ("system_id", "reference_id", "corpus", "uid"))
    reference = record.get("reference_path") or None
    if reference is not None and not isinstance(reference, str):
        raise ValueError(f"reference_path is {brief(reference)}, not a path")
    is_generated = uid is None
    if uid is None:
        uid = f"{system}:{content}" if system and content else without_suffix(path)
    duration = number(_number("duration", record.get("duration")))
    reference = None if reference is None else joined(folder, reference)
    metrics = _metrics(record)
    meta = _meta(record, metrics)
    sources = stated_sources(record, metrics, meta)
    return Clip(uid, joined(folder, path), system, content, corpus, duration, reference, metrics, meta, sources), is_generated


def no_path(record: Mapping[str, Any]) -> str:
    if record.get("audio_path"):
        return f"audio_path is {brief(record['audio_path'])}, not a path"
    similar = next((name for name in record if isinstance(record[name], str) and names_a_file(name)), None)
    return "has no audio_path" + (f" (rename {similar!r} to 'audio_path'?)" if similar else "")


def _number(name: str, value: object) -> float | None:
    try:
        return label(value)
    except ValueError as e:
        raise ValueError(f"{name}: {e}") from None


def _metrics(record: Mapping[str, Any]) -> dict[str, float | None]:
    """Canonical names; a metric that stands in the row twice must have one value."""
    nested = record.get("metrics")
    if nested is not None and not isinstance(nested, Mapping):
        raise ValueError(f"metrics is {brief(nested)}, not an object")
    values: dict[str, float | None] = {}
    for name, value in [*(nested or {}).items(), *((k, v) for k, v in record.items() if _is_metric(k))]:
        ours = canonical(name.removeprefix("metrics."))
        x = _number(name, value)
        if x is not None and values.get(ours, x) not in (None, x):
            raise ValueError(f"two values for {ours}: {values[ours]} and {x}")
        values[ours] = values.get(ours) if x is None else x
    return values


def _is_metric(key: str) -> bool:
    return is_metric_name(key) or key.startswith("metrics.")


def _is_source(key: str, metrics: Mapping[str, float | None]) -> bool:
    return key.startswith("sources.") and canonical(key.removeprefix("sources.")) in {**metrics, **METRICS}


def _meta(record: Mapping[str, Any], metrics: Mapping[str, float | None]) -> dict[str, Any]:
    nested = record.get("meta")
    if nested is not None and not isinstance(nested, Mapping):
        raise ValueError(f"meta is {brief(nested)}, not an object")
    meta = dict(nested or {})
    own = foreign_sources(record, metrics)
    for key, value in [*record.items(), *([] if own is None else [("meta.sources", own)])]:
        if key in CLIP_KEYS or _is_metric(key) or _is_source(key, metrics) or (key in _OF_A_RUN and not value):
            continue
        name = key.removeprefix("meta.")
        if name in meta and meta[name] != value:
            name = f"row.{name}"  # two values under one name: keep both
        meta[name] = value
    return meta


def to_record(clip: Clip, base: str | Path | None, extra: Mapping[str, Any] | None = None) -> Record:
    """The row of a clip, in the order of the manifest, then `extra` (model, error, warnings, ...).

    Paths below `base` (the folder of the file that will hold the row) become relative to it, with "/"; others absolute.
    With `base` None they stay as they are. An error or warnings of an earlier run make way for those in `extra`, and its
    intervals where `extra` names a model.
    """
    extra = extra or {}
    reference = None if clip.reference_path is None else _written_path(clip.reference_path, base)
    stale = extra.keys() & {"error", "warnings"} | ({"intervals"} if "model" in extra else set())
    meta = {key: value for key, value in clip.meta.items() if key not in stale} if stale else dict(clip.meta)
    return {
        "uid": clip.uid,
        "audio_path": _written_path(clip.audio_path, base),
        "system_id": clip.system_id,
        "reference_id": clip.reference_id,
        "corpus": clip.corpus,
        "duration": clip.duration,
        "reference_path": reference,
        "metrics": {name: number(value) for name, value in clip.metrics.items()},
        "sources": {name: source_among(clip.sources, name) for name, value in clip.metrics.items() if value is not None},
        "meta": meta,
        **extra,
    }


def warnings_in(clip: Clip) -> list[str]:
    """The warnings in the row that the clip came from, if `score` or `label` wrote it."""
    warnings = clip.meta.get("warnings")
    return [str(warning) for warning in warnings] if isinstance(warnings, list) else []


def _written_path(path: str, base: str | Path | None) -> str:
    place = place_of(path)
    if base is None or place.remote:
        return path
    if place.member:  # its name is no path
        return "#".join(Place(_written_path(place.file, base), place.member))
    if ".." in path:  # behind a link, "x/.." is not where it seems to be: resolve it on disk
        folder, name = os.path.split(path)
        path = os.path.join(os.path.realpath(folder), name)
    full = os.path.abspath(path)
    for root in (os.path.abspath(base), os.path.realpath(base)):
        if full.startswith(os.path.join(root, "")):
            return Path(os.path.relpath(full, root)).as_posix()
    return full


def is_audio(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES


def without_suffix(path: str) -> str:
    return os.path.splitext(path)[0] if is_audio(path) else path
