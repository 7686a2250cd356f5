"""A metric of the table as a judge: measured by its labeller, or, for human MOS, read from the manifest."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from urgentmos.audio import load as load_audio
from urgentmos.clips import Clip
from urgentmos.comparing import Comparison, comparison, failed_comparison
from urgentmos.errors import AudioError, UsageError
from urgentmos.labellers import MEASURABLE, Labeller, Measure, Settings, labeller_of
from urgentmos.labellers import loop as labelling
from urgentmos.metrics import HUMAN, METRICS
from urgentmos.predictor import Predictor, score_table
from urgentmos.provenance import (
    LISTENERS,
    Value,
    label_of,
    measured_by,
    phrase_of,
    prediction_of,
    readable,
    values_of,
    with_values,
)
from urgentmos.ranking import Scoring
from urgentmos.results import Evidence, Run, Score, Source


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

    @property
    def source(self) -> str:
        return LISTENERS if self.name in HUMAN else measured_by(labeller_of(self.name).name, self.version)

    def score_clips(self, clips: Sequence[Clip], run: Run = Run(), *, reuse: bool = False) -> Iterator[Score]:
        """With `reuse`, a label that the manifest holds is taken instead of measured. A prediction is never taken."""
        labels = [label_of(clip, self.name) if reuse or self.name in HUMAN else None for clip in clips]
        todo = [clip for clip, label in zip(clips, labels, strict=True) if label is None and self.name not in HUMAN]
        labelled: Iterator[labelling.Labelled] = iter(())
        if todo:
            labelled = labelling.label(
                todo, self.metrics, self._settings, jobs=run.jobs, journal=run.journal, progress=run.progress
            )
        for clip, label in zip(clips, labels, strict=True):
            if label is not None or self.name in HUMAN:
                yield self._from_manifest(clip, label)
            else:
                measured = next(labelled)
                yield Score(measured.clip, self.name, measured.error, measured.warnings)

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

    def compare(self, a: Source, b: Source, *, sample_rate: int | None = None) -> Comparison:
        values = []
        for source in (a, b):
            found = self.score(source, sample_rate=sample_rate)
            value = found.metrics[self.name]
            if value is None:
                raise AudioError(found.error or f"{self.name} has no value")
            values.append(value)
        return comparison(str(a), str(b), self._judged(values[0], values[1]))

    def compare_clips(self, pairs: Sequence[tuple[Clip, Clip]], run: Run = Run()) -> Iterator[Comparison]:
        scores = self.score_clips([clip for pair in pairs for clip in pair], run)
        for a, b in pairs:
            found = (next(scores), next(scores))
            values = [score.metrics[self.name] for score in found]
            if values[0] is None or values[1] is None:
                why = next(score.error or "no value" for score, value in zip(found, values, strict=True) if value is None)
                yield failed_comparison(a.audio_path, b.audio_path, why)
            else:
                yield comparison(a.audio_path, b.audio_path, self._judged(values[0], values[1]))

    def evidence(self, clips: Sequence[Clip], scoring: Scoring, run: Run = Run()) -> Evidence:
        """Labels that the manifest holds are taken, not measured again; predictions are never taken for measurements."""
        self._check_references(clips)
        scores = list(self.score_clips(clips, run, reuse=True))
        sources = [source for score in scores if (source := score.sources.get(self.name))]
        version = "" if not sources or self.source in sources else phrase_of(sources, self.name)
        return Evidence(*score_table(scores, self.judge), None, scores, tuple(self._remarks(clips, scores)), version)

    def _remarks(self, clips: Sequence[Clip], scores: Sequence[Score]) -> Iterator[str]:
        """What is not as a single source of labels would have it."""
        used = [source for score in scores if (source := score.sources.get(self.name))]
        unlabelled = [clip for clip in clips if label_of(clip, self.name) is None]
        passed = [own.source for clip in unlabelled if (own := prediction_of(clip, self.name)) is not None]
        if passed:
            by = phrase_of(passed, self.name)
            yield f"the {self.name} of {len(passed)} of {len(clips)} clips in the manifest is {by}, and was not used"
        if len({readable(source, self.name) for source in used}) > 1:
            yield f"the {self.name} comes from several sources: {phrase_of(used, self.name)}"

    def _judged(self, a: float, b: float) -> np.ndarray:
        """(4,) p_a, p_tie, p_b and the difference in the metric's unit, positive where a is better."""
        better = (a - b) * (1 if METRICS[self.name].better == "higher" else -1)
        return np.array([better > 0, better == 0, better < 0, better], dtype=float)

    def _check_references(self, clips: Sequence[Clip]) -> None:
        """UsageError if no clip has what the metric needs: a label, or for an intrusive metric a reference signal."""
        if any(label_of(clip, self.name) is not None for clip in clips):
            return
        measurable = self.name not in HUMAN and (
            not METRICS[self.name].needs_reference or any(clip.reference_path for clip in clips)
        )
        predicted = [own.source for clip in clips if (own := prediction_of(clip, self.name)) is not None]
        if predicted and not measurable:
            raise UsageError(self._only_predicted(predicted))
        if not measurable and self.name not in HUMAN:
            cure = "Give --reference-dir, or a reference_path in the manifest."
            raise UsageError(f"{self.name} needs reference signals and no clip has one. {cure}")

    def _only_predicted(self, sources: Sequence[str]) -> str:
        by = phrase_of(sources, self.name)
        if self.name in HUMAN:
            cure = f"Rank by a model with -m MODEL, or give the listeners' values and say so (sources.{self.name}: listeners)"
            return f"the {self.name} of these clips is {by}, not given by listeners. {cure}."
        cure = "Rank by that model with -m MODEL, or measure: give --reference-dir, or a reference_path in the manifest"
        return f"the {self.name} of these clips is {by}, not measured. {cure}."

    @cached_property
    def _measures(self) -> list[tuple[Labeller, Measure]]:
        """What `score` runs; kept, so that a second recording does not load the model again."""
        row = labeller_of(self.name)
        return [(row, row.load(self._settings))]

    def _from_manifest(self, clip: Clip, label: Value | None) -> Score:
        if label is not None:
            return Score(with_values(clip, {self.name: label.value}, {self.name: label.source}), self.name)
        others = values_of(clip, self.name)
        only = f" by listeners, but one {readable(others[0].source, self.name)}" if others else ""
        error = f"the manifest holds no {self.name} for {clip.uid}{only}. Add it, or rank by a model"
        return Score(replace(clip, metrics={**clip.metrics, self.name: None}), self.name, error)
