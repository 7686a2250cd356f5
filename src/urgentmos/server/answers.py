"""From results to answers: the rows of the command line under the names that the client gave, and their documents."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from urgentmos.clips.clip import Clip, to_record, without_suffix
from urgentmos.judges.base import Score
from urgentmos.metrics import METRICS
from urgentmos.server.uploads import Upload

if TYPE_CHECKING:
    from urgentmos.judges.timeline import Timeline

BARS = 400  # of a timeline: a pixel or two each
Names = Mapping[str, str]  # temporary path -> what the client calls the file


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow")


class ProblemAnswer(_Answer):
    """RFC 9457."""

    title: str
    status: int
    detail: str = Field(description="What is wrong, and what to do")


class TimelineAnswer(_Answer):
    seconds: float
    edges: list[float] = Field(description="Ends of the bars in seconds, one more than there are bars")
    scores: dict[str, list[float]] = Field(description="Of each metric: what the clip would score if all were like this bar")


class ClipAnswer(_Answer):
    """A row as `urgentmos score` writes it; `audio_path` is the file's name as it was sent."""

    uid: str
    audio_path: str
    system_id: str | None
    reference_id: str | None
    corpus: str | None
    duration: float | None
    reference_path: str | None
    metrics: dict[str, float | None]
    sources: dict[str, str] = Field(description="Where each value comes from, as in predicted by MODEL VERSION")
    meta: dict[str, Any]
    model: str
    error: str | None
    warnings: list[str]
    intervals: dict[str, list[float]] | None = None
    timeline: TimelineAnswer | None = None


class ScoreAnswer(_Answer):
    model: str
    version: str
    warnings: list[str] = Field(description="Of all clips together; each row has its own")
    clips: list[ClipAnswer]


class CompareAnswer(_Answer):
    """The row of `urgentmos compare`. cmos: how much better A is."""

    model: str
    version: str
    a: str
    b: str
    p_a: float
    p_tie: float
    p_b: float
    cmos: float
    verdict: str
    error: str | None
    warnings: list[str] = Field(description="Of the recordings, each behind its side: a or b; and of the model")


class RankAnswer(_Answer):
    """The output of `urgentmos rank`, and the clips that could not be judged."""

    model: str
    version: str
    scoring: str
    confidence: float
    n_contents: int
    sources: dict[str, str] = Field(description="Where the scores come from, and the MOS of listeners where there is one")
    systems: list[dict[str, Any]]
    win_rate: dict[str, dict[str, float | None]]
    ties: list[list[str]]
    warnings: list[str]
    failed: list[dict[str, str]]


class ServedAnswer(_Answer):
    """The model that answers."""

    name: str
    version: str
    metrics: list[str]
    judge: str = Field(description="The metric that it ranks by")
    about: dict[str, dict[str, Any]] = Field(description="Of each metric: title, range (null: no bound), and the better end")


class ModelsAnswer(_Answer):
    served: ServedAnswer
    limits: dict[str, float]
    report: bool = Field(description="Whether format=html is possible here")
    models: list[dict[str, Any]] = Field(description="What `urgentmos serve -m` could be given")


class HealthAnswer(_Answer):
    status: str
    model: str
    version: str


# ---- rows


def clip_of(upload: Upload, system: str | None = None, content: str | None = None) -> Clip:
    """The clip of an upload, named as the command line would name it."""
    uid = f"{system}:{content}" if system is not None else without_suffix(upload.name)
    return Clip(uid or upload.name, str(upload.path), system, content)


def names_of(uploads: Iterable[Upload]) -> dict[str, str]:
    return {str(upload.path): upload.name for upload in uploads}


def renamed(text: str, names: Names) -> str:
    """A sentence about our paths as one about the client's names."""
    for path, name in names.items():
        text = text.replace(path, name)
    return text


def row_of(score: Score, names: Names, timeline: Timeline | None = None) -> dict[str, Any]:
    """The row of the command line."""
    error = None if score.error is None else renamed(score.error, names)
    content = {"model": score.model, "error": error, "warnings": [renamed(w, names) for w in score.warnings]}
    row = to_record(score.clip, None, {**content, **score.interval_cell()})
    row["audio_path"] = names[score.clip.audio_path]
    return row if timeline is None else row | {"timeline": timeline_row(timeline, score.metrics)}


def rows_of(scores: Sequence[Score], names: Names, timelines: Sequence[Timeline | None]) -> list[dict[str, Any]]:
    return [row_of(score, names, timeline) for score, timeline in zip(scores, timelines, strict=True)]


def timeline_row(timeline: Timeline, metrics: Iterable[str]) -> dict[str, Any]:
    """At most BARS bars of equally many frames, each bent into the metric's range as the clip's logit is."""
    n = len(timeline.times)
    starts = np.arange(0, n, max(1, -(-n // BARS)))
    counts = np.diff(np.append(starts, n))
    middles = (timeline.times[starts[1:] - 1] + timeline.times[starts[1:]]) / 2
    edges = np.concatenate([[0.0], middles, [timeline.seconds]])
    scores = {}
    for name in metrics:
        if name in timeline.contributions:
            means = np.add.reduceat(timeline.contributions[name], starts) / counts
            scores[name] = [round(float(x), 4) for x in bent(means, *timeline.ranges[name])]
    return {"seconds": round(timeline.seconds, 4), "edges": [round(float(x), 4) for x in edges], "scores": scores}


def bent(logits: np.ndarray, low: float, high: float) -> np.ndarray:
    """Logits -> scores by the range-constraining activation (UrgentMOS, Eqs. 1-3)."""
    if isfinite(low) and isfinite(high):
        return np.asarray(low + (high - low) / (1 + np.exp(-logits)))
    if isfinite(low):
        return np.asarray(low + np.logaddexp(0, logits - low))
    return np.asarray(high - np.logaddexp(0, high - logits)) if isfinite(high) else logits


def about(metric: str) -> dict[str, Any]:
    """A metric for a page: title, range (None: no bound), and the better end."""
    if metric not in METRICS:
        return {"title": metric, "range": [None, None], "better": "higher"}
    row = METRICS[metric]
    title = row.title.removesuffix(" (human)")  # the answer of a model is none of a person
    return {"title": title, "range": [x if isfinite(x) else None for x in row.range()], "better": row.better}


# ---- documents


def table_bytes(rows: Sequence[Mapping[str, Any]], folder: Path) -> bytes:
    """The content of `-o FILE.csv`."""
    from urgentmos.clips.tables import write_records

    file = folder / "answer.csv"
    write_records(rows, file)
    return file.read_bytes()


def page_text(page: str, names: Names) -> str:
    """A report on our paths as one on the client's names, which are escaped for markup and for the script alike."""
    for path, name in names.items():
        page = page.replace(path, html.escape(re.sub(r"[^\w .,()+@/-]", "_", name)))
    return page
