"""One class for every judge of speech: score a clip, rank systems. Paths or arrays in, named results out; writes no files.

A measured metric (`dnsmos_ovrl`, `distill_mos`, `pesq` with reference signals, ...) is such a judge too: ranking by it is
the "MOS predictor + ECS" baseline of the URGENT-PK paper.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from urgentmos.audio import load as load_audio
from urgentmos.clips import Clip
from urgentmos.errors import AudioError, UsageError
from urgentmos.labellers import MEASURABLE, Labeller, Measure, Settings, labeller_of
from urgentmos.labellers import loop as labelling
from urgentmos.manifest import attach_references, read_clips, read_systems
from urgentmos.metrics import HUMAN, METRICS, canonical
from urgentmos.ranking import Ranking, Scoring
from urgentmos.ranking import rank as rank_scores

DEFAULT_MODEL = "dnsmos_ovrl"  # until the project's own small model is shipped
Source = str | Path | np.ndarray | Sequence[float]


@dataclass(frozen=True)
class Score:
    """What a model says of one clip. `metrics` holds None, and `error` a sentence, where it could say nothing."""

    clip: Clip
    model: str
    error: str | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def uid(self) -> str:
        return self.clip.uid

    @property
    def metrics(self) -> dict[str, float | None]:
        return self.clip.metrics


@dataclass(frozen=True)
class Run:
    """How a long run is carried out; never what comes out of it."""

    jobs: int = 1  # processes
    journal: Path | None = None  # finished clips, so that a killed run can go on
    progress: labelling.Progress | None = None


class Predictor(ABC):
    """A judge of speech. `metrics` is what it can tell of a clip, `judge` the one of them that it ranks by."""

    name: str
    version: str
    metrics: tuple[str, ...]
    judge: str

    @abstractmethod
    def score_clips(self, clips: Sequence[Clip], run: Run = Run()) -> Iterator[Score]:
        """As many scores as clips, in their order; a clip that cannot be scored has an error."""

    @abstractmethod
    def score(self, source: Source, *, sample_rate: int | None = None, reference: Source | None = None) -> Score:
        """Score one recording: a file, or samples (T,), (T, C), (C, T) with their `sample_rate` in Hz.

        `reference` is the clean reference signal that intrusive metrics need. A recording that cannot be heard gives a
        Score with an error.
        """

    def score_all(self, inputs: str | Path | Sequence[str | Path], run: Run = Run()) -> list[Score]:
        """Score files, folders, `wav.scp` or manifests: as many scores as clips, in their order."""
        return list(self.score_clips(read_clips(inputs), run))


class Measured(Predictor):
    """A metric of the table as a judge: measured by its labeller, or, for human MOS, read from the manifest."""

    def __init__(self, metric: str, settings: Settings | None = None) -> None:
        """UsageError if the metric is not in the table, or its labeller lacks a package or weights."""
        if metric not in MEASURABLE and metric not in HUMAN:
            labeller_of(metric)
        self.name = self.judge = metric
        self.metrics = (metric,)
        self._settings = settings or Settings()
        self.version = "human labels of the manifest"
        if metric in MEASURABLE:
            labeller_of(metric).load(self._settings)
            self.version = labelling.versions(labelling.stages(self.metrics), self._settings)[labeller_of(metric).name]

    def score_clips(self, clips: Sequence[Clip], run: Run = Run(), *, reuse: bool = False) -> Iterator[Score]:
        """With `reuse`, a value that the manifest holds is taken instead of measured."""
        known = [self.name in HUMAN or (reuse and clip.metrics.get(self.name) is not None) for clip in clips]
        todo = [clip for clip, has in zip(clips, known, strict=True) if not has]
        labelled: Iterator[labelling.Labelled] = iter(())
        if todo:
            labelled = labelling.label(
                todo, self.metrics, self._settings, jobs=run.jobs, journal=run.journal, progress=run.progress
            )
        for clip, has in zip(clips, known, strict=True):
            if has:
                yield self._from_manifest(clip)
            else:
                found = next(labelled)
                own = replace(found.clip, metrics={self.name: found.clip.metrics[self.name]})
                yield Score(own, self.name, found.error, found.warnings)

    def score(self, source: Source, *, sample_rate: int | None = None, reference: Source | None = None) -> Score:
        uid = str(source) if isinstance(source, str | Path) else "array"
        clip = Clip(Path(uid).stem, uid)
        try:
            heard = load_audio(source, sample_rate=sample_rate)
            clean = None if reference is None else load_audio(reference, sample_rate=sample_rate)
        except AudioError as e:
            return Score(replace(clip, metrics={self.name: None}), self.name, str(e))
        outcome = labelling.measure_audio(heard, clean, self._measures)
        said = labelling.versions(labelling.stages(self.metrics), self._settings)
        found = labelling.merge(clip, self.metrics, [outcome], said)
        return Score(found.clip, self.name, found.error, found.warnings)

    def check_references(self, clips: Sequence[Clip]) -> None:
        """UsageError if the metric needs reference signals, and no clip has one, nor a value already."""
        if METRICS[self.name].needs_reference and not any(
            clip.reference_path or clip.metrics.get(self.name) is not None for clip in clips
        ):
            cure = "Give --reference-dir, or a reference_path in the manifest."
            raise UsageError(f"{self.name} needs reference signals and no clip has one. {cure}")

    @cached_property
    def _measures(self) -> list[tuple[Labeller, Measure]]:
        """What `score` runs; kept, so that a second recording does not load the model again."""
        row = labeller_of(self.name)
        return [(row, row.load(self._settings))]

    def _from_manifest(self, clip: Clip) -> Score:
        value = clip.metrics.get(self.name)
        error = None if value is not None else f"the manifest holds no {self.name} for {clip.uid}. Add it, or rank by a model"
        return Score(replace(clip, metrics={self.name: value}), self.name, error)


def load(model: str | Path = DEFAULT_MODEL, *, weights: Mapping[str, str] | None = None, device: str = "cpu") -> Predictor:
    """A model by name. `weights` maps labellers to local paths or hub ids (see `urgentmos label --help`).

    UsageError, with the names that exist, if there is no such model.
    """
    name = canonical(str(model))
    if name in METRICS:
        return Measured(name, Settings(weights or {}, device))
    raise UsageError(f"unknown model {name!r}. Measured metrics that can judge: {', '.join((*HUMAN, *MEASURABLE))}.")


def score(source: Source, model: str | Path | Predictor = DEFAULT_MODEL, *, sample_rate: int | None = None) -> Score:
    """Score one recording, a file or samples with their rate. To score many, `load` a model once."""
    judge = model if isinstance(model, Predictor) else load(model)
    return judge.score(source, sample_rate=sample_rate)


def rank(
    source: str | Path | Sequence[Clip],
    model: str | Path | Predictor = DEFAULT_MODEL,
    *,
    scoring: Scoring = "binary",
    confidence: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
    reference_dir: str | Path | None = None,
    subset: str = "tt",
    run: Run = Run(),
) -> Ranking:
    """Rank the systems in a folder with one folder per system, an URGENT-PK data set, a manifest, or among clips.

    scoring: "binary" or "soft" votes of ECS (Algorithm 1 of the URGENT-PK paper), "bradley-terry", or "mos" (the mean).
    confidence, samples, seed: of the intervals, which come from resampling contents. Raises UsageError if the systems
    cannot be ranked; a clip that cannot be scored takes its content out, which the ranking's warnings say.
    """
    clips = read_systems(source, subset) if isinstance(source, str | Path) else list(source)
    if reference_dir is not None:
        clips = attach_references(clips, reference_dir)
    judge = model if isinstance(model, Predictor) else load(model)
    return rank_clips(clips, judge, scoring, confidence=confidence, samples=samples, seed=seed, run=run)[0]


def rank_clips(
    clips: Sequence[Clip], judge: Predictor, scoring: Scoring, *, run: Run = Run(), **how: Any
) -> tuple[Ranking, list[Score]]:
    """The ranking and the scores it is made of. `how`: confidence, samples, seed."""
    check_cells(clips)
    if isinstance(judge, Measured):
        judge.check_references(clips)
    scores = list(judge.score_clips(clips, run, reuse=True) if isinstance(judge, Measured) else judge.score_clips(clips, run))
    failed = [score for score in scores if score.metrics.get(judge.judge) is None]
    if scores and len(failed) == len(scores):
        raise UsageError(f"none of the {len(scores)} clips has a value of {judge.judge}. The first: {failed[0].error}.")
    systems, contents, table = score_table(scores, judge.judge)
    human = None if judge.judge in HUMAN else human_mos(clips, systems)
    better = METRICS[judge.judge].better
    try:
        ranking = rank_scores(
            systems,
            contents,
            scores=table,
            better=better,
            scoring=scoring,
            model=judge.name,
            human=human,
            **how,
        )
    except UsageError as e:
        if not failed:
            raise
        why = f"{len(failed)} of {len(scores)} clips have no value of {judge.judge}. The first: {failed[0].error}."
        raise UsageError(f"{e} {why}") from e
    return replace(ranking, version=judge.version), scores


def check_cells(clips: Iterable[Clip]) -> None:
    """UsageError unless every clip has a system and a content, and no system has a content twice: asked before any work."""
    seen: set[tuple[str, str]] = set()
    for clip in clips:
        if clip.system_id is None or clip.reference_id is None:
            raise UsageError(f"{clip.uid} has no system_id or no reference_id. Ranking needs both in every row.")
        if (clip.system_id, clip.reference_id) in seen:
            raise UsageError(f"system {clip.system_id} has two clips of {clip.reference_id}. Keep one of them.")
        seen.add((clip.system_id, clip.reference_id))


def score_table(scores: Sequence[Score], metric: str) -> tuple[list[str], list[str], np.ndarray]:
    """Scores -> (system ids, content ids, (S, U) values with NaN where missing). UsageError as `check_cells` says."""
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


def human_mos(clips: Iterable[Clip], systems: Sequence[str]) -> np.ndarray | None:
    """(S,) mean human MOS of each system, or None unless every system has some."""
    labels: dict[str, list[float]] = {}
    for clip in clips:
        value = clip.metrics.get(HUMAN[0])
        if clip.system_id is not None and value is not None:
            labels.setdefault(clip.system_id, []).append(value)
    if any(system not in labels for system in systems):
        return None
    return np.array([np.mean(labels[system]) for system in systems])
