"""A metric of the table as a judge: measured by its labeller, or, for human MOS, read from the manifest."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from urgentmos.audio.samples import AudioInput
from urgentmos.audio.samples import load as load_audio
from urgentmos.clips.clip import Clip, warnings_in
from urgentmos.clips.label_range import is_outside, left_out
from urgentmos.clips.provenance import Value, label_of, prediction_of, values_of, with_values
from urgentmos.clips.sources import LISTENERS, NO_SPEECH, measured_by, phrase_of, readable
from urgentmos.common.clip_warnings import is_silent
from urgentmos.errors import AudioError, UsageError, naming
from urgentmos.judges.base import Evidence, Predictor, Run, Score, on_its_own, score_table
from urgentmos.labellers import MEASURABLE, Labeller, Measure, Settings, labeller_of
from urgentmos.labellers import loop as labelling
from urgentmos.metrics import HUMAN, METRICS, direction, worst_scores
from urgentmos.ranking.comparison import Comparison, by_side, comparison, failed_comparison
from urgentmos.ranking.names import Scoring


class Measured(Predictor):
    """A metric of the table as a judge: measured by its labeller, or, for human MOS, read from the manifest."""

    def __init__(self, metric: str, settings: Settings | None = None) -> None:
        """UsageError if the metric is not in the table, or its labeller lacks a package or weights."""
        if metric not in MEASURABLE and metric not in HUMAN:
            labeller_of(metric)
        self.name = self.ranks_by = metric
        self.metrics = (metric,)
        self._settings = settings or Settings()
        rate = METRICS[metric].rate
        self.max_frequency = None if rate is None or metric in HUMAN else rate / 2
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
                yield self._score_of(next(labelled))

    def score(self, source: AudioInput, *, sample_rate: int | None = None, reference: AudioInput | None = None) -> Score:
        uid = str(source) if isinstance(source, str | Path) else "array"
        clip = Clip(Path(uid).stem, uid)
        try:
            heard = load_audio(source, sample_rate=sample_rate)
            clean = None if reference is None else load_audio(reference, sample_rate=sample_rate)
        except AudioError as e:
            return Score(replace(clip, metrics={self.name: None}), self.name, str(e))
        outcome = labelling.measure_audio(heard, clean, self._measures)
        versions = labelling.versions(labelling.stages(self.metrics), self._settings)
        return self._score_of(labelling.merge(clip, self.metrics, [outcome], versions))

    def _score_of(self, labelled: labelling.Labelled) -> Score:
        """The labels of a clip as a judge's score: a clip without speech has the worst of the scale."""
        clip = labelled.clip
        if is_silent(labelled.warnings) and clip.metrics[self.name] is not None:
            clip = with_values(clip, worst_scores(self.metrics), dict.fromkeys(self.metrics, NO_SPEECH))
        return Score(clip, self.name, labelled.error, labelled.warnings, bandwidth=labelled.bandwidth)

    def compare(self, a: AudioInput, b: AudioInput, *, sample_rate: int | None = None) -> Comparison:
        names = [str(source) if isinstance(source, str | Path) else side for source, side in ((a, "a"), (b, "b"))]
        scores = [self.score(source, sample_rate=sample_rate) for source in (a, b)]
        result = self._compared(names[0], names[1], scores[0], scores[1])
        if result.error:
            raise AudioError(result.error)
        return on_its_own(result, self)

    def compare_clips(self, pairs: Sequence[tuple[Clip, Clip]], run: Run = Run()) -> Iterator[Comparison]:
        scores = self.score_clips([clip for pair in pairs for clip in pair], run)
        for a, b in pairs:
            yield self._compared(a.audio_path, b.audio_path, next(scores), next(scores))

    def _compared(self, a: str, b: str, score_a: Score, score_b: Score) -> Comparison:
        """The comparison of two scored recordings; its error names each file that has no value."""
        warnings = by_side(score_a.warnings, score_b.warnings)
        values = [score.metrics[self.name] for score in (score_a, score_b)]
        if values[0] is None or values[1] is None:
            without = [(path, score) for path, score, x in zip((a, b), (score_a, score_b), values, strict=True) if x is None]
            errors = [naming(path, score.error or f"{self.name} has no value") for path, score in without]
            return failed_comparison(a, b, "; ".join(dict.fromkeys(errors)), warnings)
        bands = (score_a.bandwidth, score_b.bandwidth)
        return comparison(a, b, self._judged(values[0], values[1]), warnings, bands)

    def evidence(self, clips: Sequence[Clip], scoring: Scoring, run: Run = Run()) -> Evidence:
        """Labels that the manifest holds are taken, not measured again; predictions are never taken for measurements."""
        self._check_references(clips)
        _, warnings = left_out(clips, [self.name])
        scores = list(self.score_clips(clips, run, reuse=True))
        sources = [source for score in scores if (source := score.sources.get(self.name))]
        version = "" if not sources or self.source in sources else phrase_of(sources, self.name)
        remarks = (*warnings, *self._remarks(clips, scores))
        return Evidence(*score_table(scores, self.ranks_by), None, scores, remarks, version)

    def _remarks(self, clips: Sequence[Clip], scores: Sequence[Score]) -> Iterator[str]:
        """Remarks on labels of several sources, and on predictions that were not used."""
        used = [source for score in scores if (source := score.sources.get(self.name)) not in (None, "", NO_SPEECH)]
        unlabelled = [clip for clip in clips if label_of(clip, self.name) is None]
        passed = [own.source for clip in unlabelled if (own := prediction_of(clip, self.name)) is not None]
        if passed:
            by = phrase_of(passed, self.name)
            yield f"the {self.name} of {len(passed)} of {len(clips)} clips in the manifest is {by}, and was not used"
        if len({readable(source, self.name) for source in used}) > 1:
            yield f"the {self.name} comes from several sources: {phrase_of(used, self.name)}"

    def _judged(self, a: float, b: float) -> np.ndarray:
        """(4,) p_a, p_tie, p_b and the difference in the metric's unit, positive where a is better."""
        better = (a - b) * direction(self.name)
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
            fault = next((clip.reference_fault for clip in clips if clip.reference_fault), None)
            cure = fault or "Give --reference-dir, or a reference_path in the manifest"
            raise UsageError(f"{self.name} needs reference signals and no clip has one. {cure}.")

    def _only_predicted(self, sources: Sequence[str]) -> str:
        by = phrase_of(sources, self.name)
        if self.name in HUMAN:
            cure = f"Rank by a model with -m MODEL, or give the listeners' values and say so (sources.{self.name}: listeners)"
            return f"the {self.name} of these clips is {by}, not given by listeners. {cure}."
        cure = "Rank by that model with -m MODEL, or measure: give --reference-dir, or a reference_path in the manifest"
        return f"the {self.name} of these clips is {by}, not measured. {cure}."

    @cached_property
    def _measures(self) -> list[tuple[Labeller, Measure]]:
        """The measures that `score` runs, loaded once."""
        row = labeller_of(self.name)
        return [(row, row.load(self._settings))]

    def _from_manifest(self, clip: Clip, label: Value | None) -> Score:
        """The label that the manifest holds as a score, or why there is none."""
        warnings = warnings_in(clip)
        if label is not None and not is_outside(self.name, label.value):
            labelled = with_values(clip, {self.name: label.value}, {self.name: label.source})
            return Score(labelled, self.name, warnings=warnings)
        if label is not None:
            error = f"{self.name} of {clip.uid} is {label.value:g} in the manifest. Correct it or leave it empty"
        else:
            others = values_of(clip, self.name)
            only = f" by listeners, but one {readable(others[0].source, self.name)}" if others else ""
            error = f"the manifest holds no {self.name} for {clip.uid}{only}. Add it, or rank by a model"
        return Score(replace(clip, metrics={**clip.metrics, self.name: None}), self.name, error, warnings)
