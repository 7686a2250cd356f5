"""The base class of judges and what they return: scores of clips, comparisons, the evidence for a ranking."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from urgentmos.audio.samples import AudioInput
from urgentmos.clips.clip import Clip
from urgentmos.clips.inputs import read_clips
from urgentmos.clips.provenance import sources_of, without
from urgentmos.clips.sources import predicted_by
from urgentmos.common.clip_warnings import Flagged, above_band, grouped, is_silent
from urgentmos.errors import AudioError, MeasureError, UsageError
from urgentmos.ranking.comparison import Comparison, failed_comparison

if TYPE_CHECKING:
    from urgentmos.judges.timeline import Timeline
    from urgentmos.ranking.names import Scoring

Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, how much there is


@dataclass(frozen=True)
class Score:
    """The scores of one clip by one model. Without a score, `metrics` holds None and `error` the reason."""

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
        """The entry of a row: {"intervals": {...}}, or nothing where the model has no calibration."""
        return {} if self.intervals is None else {"intervals": self.intervals}

    def only(self, names: Sequence[str]) -> Score:
        """The score without the model's values of other metrics than `names`; labels of the manifest stay."""
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
    """The basis of a ranking: S systems, U contents, the scores of their clips, and pairs where the judge compares."""

    systems: list[str]
    contents: list[str]
    scores: np.ndarray  # (S, U) of the metric that the judge ranks by, NaN where missing
    pairs: np.ndarray | None  # (S, S, U): P(row system sounds better than column system), NaN where missing
    rows: list[Score]  # one per clip, in the order in which they came
    warnings: tuple[str, ...] = ()  # about what the ranking rests on
    version: str = ""  # of what the scores come from, where that is not the judge


class Predictor(ABC):
    """A judge of speech: `metrics` are what it predicts or measures of a clip, `ranks_by` is the one that it ranks by."""

    name: str
    version: str
    metrics: tuple[str, ...]
    ranks_by: str
    max_frequency: float | None = None  # Hz; what a recording holds above it is not judged
    notes: tuple[str, ...] = ()  # warnings of every result about the judge itself, such as files without checksums
    has_opinions: bool = False  # of both clips of a pair, as URGENT-PK does: then there are MOS strategies to choose from

    @property
    def source(self) -> str:
        """The source of its values, as rows state it."""
        return predicted_by(self.name, self.version)

    @abstractmethod
    def score_clips(self, clips: Sequence[Clip], run: Run = Run()) -> Iterator[Score]:
        """As many scores as clips, in their order; a clip that cannot be scored has an error."""

    @abstractmethod
    def score(self, source: AudioInput, *, sample_rate: int | None = None, reference: AudioInput | None = None) -> Score:
        """Score one recording: a file, or samples (T,), (T, C), (C, T) with their `sample_rate` in Hz.

        `reference` is the clean reference signal that intrusive metrics need. A recording that cannot be decoded gives a
        Score with an error.
        """

    @abstractmethod
    def compare(self, a: AudioInput, b: AudioInput, *, sample_rate: int | None = None) -> Comparison:
        """Compare two recordings. Mirrors `compare(b, a)` exactly; a recording against itself is a tie.

        Raises AudioError if one cannot be decoded, MeasureError if there is no result, UsageError if it does not compare.
        """

    def score_all(self, inputs: str | Path | Sequence[str | Path], run: Run = Run()) -> list[Score]:
        """Score files, folders, `wav.scp` or manifests: as many scores as clips, in their order."""
        return list(self.score_clips(read_clips(inputs), run))

    def compare_clips(self, pairs: Sequence[tuple[Clip, Clip]], run: Run = Run()) -> Iterator[Comparison]:
        """As many comparisons as pairs, in their order; a pair that cannot be judged has an error."""
        for done, (a, b) in enumerate(pairs, start=1):
            try:
                yield self.compare(a.audio_path, b.audio_path)
            except (AudioError, MeasureError) as e:
                yield failed_comparison(a.audio_path, b.audio_path, str(e))
            if run.progress:
                run.progress(self.name, done, len(pairs))

    def evidence(self, clips: Sequence[Clip], scoring: Scoring, run: Run = Run()) -> Evidence:
        """The basis of a ranking of these clips' systems. UsageError if the clips do not suit the judge."""
        scores = list(self.score_clips(clips, run))
        return Evidence(*score_table(scores, self.ranks_by), None, scores)

    def timeline(self, source: AudioInput, *, sample_rate: int | None = None) -> Timeline | None:
        """The contribution of each frame of a recording to its scores; None from a judge without timelines.

        Raises AudioError if the recording cannot be decoded.
        """
        return None

    def noisy_evidence(self, clips: Sequence[Clip], noisy_system: str, run: Run = Run()) -> Evidence:
        """Scores by the Noisy-Speech Strategy of the URGENT-PK paper (section III-F3). UsageError for other judges."""
        raise UsageError(f"{self.name} tells a clip's MOS from the clip alone. --mos-strategy is for URGENT-PK models.")


def warnings_about(scores: Sequence[Score], judge: Predictor) -> list[str]:
    """The warnings of clips, grouped by system, and whether a part of their spectrum lies above the judge's band."""
    flagged = [Flagged(score.clip.system_id, score.warnings) for score in scores]
    bands = {"": [score.bandwidth for score in scores]}
    return [*judge.notes, *grouped(flagged), *above_band(bands, judge.max_frequency, judge.name)]


def warnings_about_pairs(a: str, b: str, rows: Sequence[Comparison], judge: Predictor) -> list[str]:
    """The same for comparisons of the system (or clip) `a` with `b`."""
    flagged = [Flagged(name, row.warnings_of(side)) for name, side in ((a, "a"), (b, "b")) for row in rows]  # type: ignore[arg-type]
    bands = {name: [row.bandwidths[k] for row in rows if row.bandwidths] for k, name in enumerate((a, b))}
    return [*judge.notes, *grouped(flagged), *above_band(bands, judge.max_frequency, judge.name)]


def on_its_own(row: Comparison, judge: Predictor) -> Comparison:
    """A comparison that is a run of its own: it also warns of spectrum above the judge's band."""
    own = [*judge.notes, *above_band({"": row.bandwidths}, judge.max_frequency, judge.name)]
    return replace(row, warnings=(*row.warnings, *own))


def check_cells(clips: Iterable[Clip]) -> None:
    """UsageError unless every clip has a system and a content, and no system has a content twice; called before any work."""
    seen: set[tuple[str, str]] = set()
    for clip in clips:
        if clip.system_id is None or clip.reference_id is None:
            raise UsageError(f"{clip.uid} has no system_id or no reference_id. Ranking needs both in every row.")
        if (clip.system_id, clip.reference_id) in seen:
            raise UsageError(f"system {clip.system_id} has two clips of {clip.reference_id}. Keep one of them.")
        seen.add((clip.system_id, clip.reference_id))


def score_table(scores: Sequence[Score], metric: str) -> tuple[list[str], list[str], np.ndarray]:
    """Scores -> (system ids, content ids, (S, U) values with NaN where missing). UsageError as in `check_cells`."""
    check_cells(score.clip for score in scores)
    cells: dict[tuple[str, str], float] = {}
    for clip in (score.clip for score in scores):
        value = clip.metrics.get(metric)
        cells[clip.system_id or "", clip.reference_id or ""] = np.nan if value is None else value
    systems, contents = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True)) if cells else ([], [])
    table = np.full((len(systems), len(contents)), np.nan)
    row, column = ({name: i for i, name in enumerate(names)} for names in (systems, contents))
    for (system, content), value in cells.items():
        table[row[system], column[content]] = value
    return systems, contents, table


def silent_table(evidence: Evidence) -> np.ndarray:
    """(S, U) bool: the clips without speech."""
    silent = np.zeros((len(evidence.systems), len(evidence.contents)), bool)
    row, column = ({name: i for i, name in enumerate(names)} for names in (evidence.systems, evidence.contents))
    for score in evidence.rows:
        silent[row[str(score.clip.system_id)], column[str(score.clip.reference_id)]] = is_silent(score.warnings)
    return silent
