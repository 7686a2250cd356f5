"""What judges answer: a score of one clip, the evidence for a ranking; and how a long run is carried out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from urgentmos.clips.clip import Clip
from urgentmos.clips.provenance import predicted_by, sources_of, without

Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, how much there is
Source = str | Path | np.ndarray | Sequence[float]


@dataclass(frozen=True)
class Score:
    """What a model says of one clip. `metrics` holds None, and `error` a sentence, where it could say nothing."""

    clip: Clip
    model: str
    error: str | None = None
    warnings: list[str] = field(default_factory=list)
    intervals: dict[str, list[float]] | None = None  # {metric: [low, high]}; None: the model has no calibration
    bandwidth: float | None = None  # Hz, of the recording; None: it was not decoded

    @property
    def uid(self) -> str:
        return self.clip.uid

    @property
    def metrics(self) -> dict[str, float | None]:
        return self.clip.metrics

    @property
    def sources(self) -> dict[str, str]:
        """Metric -> where its value comes from, for the metrics that have a value; see `provenance`."""
        return sources_of(self.clip)

    def interval_cell(self) -> dict[str, dict[str, list[float]]]:
        """What a row says of it: {"intervals": {...}}, or nothing where the model has no calibration."""
        return {} if self.intervals is None else {"intervals": self.intervals}

    def only(self, names: Sequence[str]) -> Score:
        """The same without what the model says of other metrics than `names`; labels of the manifest stay."""
        ends = None if self.intervals is None else {name: self.intervals[name] for name in names if name in self.intervals}
        own = predicted_by(self.model, str(self.clip.meta.get("version") or ""))
        others = [n for n, x in self.metrics.items() if n not in names and (x is None or self.clip.sources.get(n) == own)]
        clip = without(self.clip, others)
        metrics = {name: clip.metrics.get(name) for name in names} | clip.metrics
        return replace(self, clip=replace(clip, metrics=metrics), intervals=ends)


@dataclass(frozen=True)
class Run:
    """How a long run is carried out; never what comes out of it."""

    jobs: int = 1  # processes
    journal: Path | None = None  # finished clips, so that a killed run can go on
    progress: Progress | None = None


@dataclass(frozen=True)
class Evidence:
    """What a ranking is made of: S systems, U contents, the scores of their clips, and pairs where the judge compares."""

    systems: list[str]
    contents: list[str]
    scores: np.ndarray  # (S, U) of the metric that the judge ranks by, NaN where missing
    pairs: np.ndarray | None  # (S, S, U): P(row system sounds better than column system), NaN where missing
    rows: list[Score]  # one per clip, in the order in which they came
    warnings: tuple[str, ...] = ()  # about what the ranking rests on
    version: str = ""  # of what the scores come from, where that is not the judge
