"""The page of scored clips: metrics with ranges and intervals, spectrograms, and where in a clip its score comes from."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from urgentmos.audio.samples import load
from urgentmos.clips.sources import phrase_of
from urgentmos.errors import AudioError, MeasureError
from urgentmos.judges.base import warnings_about
from urgentmos.metrics import METRICS, direction
from urgentmos.report import charts
from urgentmos.report.audio import sound_of
from urgentmos.report.page import Options, counted, interval_text, metric_title, number, render
from urgentmos.report.picture import spectrogram

if TYPE_CHECKING:
    from urgentmos.judges.base import Predictor, Score
    from urgentmos.judges.timeline import Timeline

ROWS = 2000  # of the table; a browser is slow with more
BARS = 1000  # of a timeline
LONGEST = 600.0  # seconds of a clip that is drawn
ENOUGH = 10  # clips, for a histogram


def clips_page(scores: Sequence[Score], judge: Predictor, metrics: Sequence[str], options: Options) -> str:
    """The page of `scores`, with these `metrics`. The judge is used for timelines only. UsageError without the extra."""
    main = judge.ranks_by if judge.ranks_by in metrics else metrics[0]
    order = worst_first(scores, main)
    heard = order[: options.listen]
    data = {
        "kind": "clips",
        "clips": [_clip(scores[k], judge, metrics, options) for k in heard],
        "main": main,
        "charts": {"spectrogram": charts.spectrogram(), "timeline": charts.timeline(), **_histograms(scores, metrics)},
    }
    place = {k: i for i, k in enumerate(heard)}
    context = {
        "title": f"Scores of {counted(len(scores), 'clip')}",
        "model": judge.name,
        "model_version": judge.version,
        "metrics": [_about(name, scores) for name in metrics],
        "rows": [_row(scores[k], metrics, place.get(k)) for k in order[:ROWS]],
        "n_clips": len(scores),
        "n_rows": min(len(order), ROWS),
        "n_heard": len(heard),
        "warnings": warnings_about(scores, judge),
        "failed": [(s.clip.audio_path, s.error) for s in scores if s.error],
        "main": metric_title(main),
        "histograms": [name for name in metrics if f"histogram:{name}" in data["charts"]],
        "options": options,
    }
    return render("clips.html", context, data)


def worst_first(scores: Sequence[Score], metric: str) -> list[int]:
    """Places of the clips by `metric`, the worst first; those without a value come last."""
    values = [s.metrics.get(metric) for s in scores]
    sign = direction(metric)
    return sorted(range(len(scores)), key=lambda k: (values[k] is None, sign * (values[k] or 0.0), k))


def _about(name: str, scores: Sequence[Score]) -> dict[str, Any]:
    values = [v for s in scores if (v := s.metrics.get(name)) is not None]
    low, high = METRICS[name].range() if name in METRICS else (-np.inf, np.inf)
    return {
        "name": name,
        "title": metric_title(name),
        "range": _range_text(low, high),
        "better": "lower" if direction(name) < 0 else "higher",
        "source": METRICS[name].source if name in METRICS else "",
        "values": phrase_of((s.clip.sources.get(name) or s.model for s in scores if s.metrics.get(name) is not None), name),
        "n": len(values),
        "mean": float(np.mean(values)) if values else None,
    }


def _range_text(low: float, high: float) -> str:
    if isfinite(low) and isfinite(high):
        return interval_text(low, high)
    return f"from {number(low)}" if isfinite(low) else f"up to {number(high)}" if isfinite(high) else "unbounded"


def _row(score: Score, metrics: Sequence[str], place: int | None) -> dict[str, Any]:
    ends = score.intervals or {}
    cells = [(score.metrics.get(name), interval_text(ends[name][0], ends[name][1]) if name in ends else "") for name in metrics]
    clip = score.clip
    sentences = [*([score.error] if score.error else []), *score.warnings]
    return {
        "uid": clip.uid,
        "system": clip.system_id,
        "seconds": clip.duration,
        "cells": cells,
        "said": sentences,
        "place": place,
    }


def _histograms(scores: Sequence[Score], metrics: Sequence[str]) -> dict[str, Any]:
    histograms = {}
    for name in metrics:
        rows = [{"value": value} for s in scores if (value := s.metrics.get(name)) is not None]
        if len(rows) >= ENOUGH:
            histograms[f"histogram:{name}"] = charts.histogram(rows, f"{metric_title(name)}, n = {len(rows)} clips")
    return histograms


# ---- one clip


def _clip(score: Score, judge: Predictor, metrics: Sequence[str], options: Options) -> dict[str, Any]:
    clip = score.clip
    sound = sound_of(clip.audio_path, options)
    item: dict[str, Any] = {
        "uid": clip.uid,
        "path": clip.audio_path,
        "system": clip.system_id,
        "content": clip.reference_id,
        "sound": sound.url,
        "why": sound.reason,
        "error": score.error,
        "warnings": score.warnings,
        "metrics": [_value(name, score) for name in metrics],
        "picture": None,
        "timeline": None,
    }
    return item | _drawn(clip.audio_path, judge, metrics)


def _value(name: str, score: Score) -> dict[str, Any]:
    low, high = METRICS[name].range() if name in METRICS else (-np.inf, np.inf)
    ends = (score.intervals or {}).get(name)
    return {
        "title": metric_title(name),
        "value": score.metrics.get(name),
        "interval": ends,
        "range": [low, high],
        "better": "lower" if direction(name) < 0 else "higher",
    }


def _drawn(path: str, judge: Predictor, metrics: Sequence[str]) -> dict[str, Any]:
    """The parts that need samples: length, spectrogram and timeline; empty for a clip that cannot be decoded."""
    try:
        heard = load(path)
        seconds = heard.info.duration
        if seconds > LONGEST:
            return {"seconds": seconds, "drawn": f"clips of more than {LONGEST:g} s are not drawn"}
        item = {"seconds": seconds, "top": heard.rate / 2000, "picture": spectrogram(heard.wave, heard.rate)}
        timeline = judge.timeline(path)
    except (AudioError, MeasureError) as e:
        return {"seconds": None, "drawn": str(e)}
    return (
        item
        if timeline is None
        else item | {"timeline": timeline_data(timeline, [m for m in metrics if m in timeline.contributions])}
    )


def timeline_data(timeline: Timeline, metrics: Sequence[str]) -> dict[str, Any]:
    """At most BARS bars of equally many frames (the last may have fewer), each with the mean logit of its frames.

    `frames` (K,) are their numbers of frames: the sum of frames x logit over the bars is the clip's logit x all frames.
    """
    n = len(timeline.times)
    starts = np.arange(0, n, -(-n // BARS))
    counts = np.diff(np.append(starts, n))
    edges = np.concatenate([[0.0], (timeline.times[starts[1:] - 1] + timeline.times[starts[1:]]) / 2, [timeline.seconds]])
    rows = {name: np.add.reduceat(timeline.contributions[name], starts) / counts for name in metrics}
    bends = {name: charts.bend(*timeline.ranges[name], "datum.value") for name in metrics}
    return {
        "edges": np.round(edges, 4),
        "frames": counts,
        "n_frames": n,
        "n_windows": timeline.n_windows,
        "logits": {name: float(timeline.contributions[name].mean()) for name in metrics},
        "bars": {name: np.round(row, 6) for name, row in rows.items()},
        "ranges": {name: timeline.ranges[name] for name in metrics},
        "bends": bends,
        "titles": {name: metric_title(name) for name in metrics},
    }
