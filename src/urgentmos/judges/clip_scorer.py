"""A network that scores clips: decode ahead, similar lengths in a batch, long recordings in windows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from urgentmos.audio.samples import Audio, AudioInput, duration_batches
from urgentmos.audio.windows import AudioReader, OpenedAudio, names_of
from urgentmos.clips.clip import Clip
from urgentmos.clips.journal import Journal, Outcome, Task
from urgentmos.clips.provenance import with_values
from urgentmos.errors import AudioError
from urgentmos.judges.backend import Backend, OpinionBackend, halving
from urgentmos.judges.base import Predictor, Run, Score
from urgentmos.judges.outcomes import failed_outcome, mean_values, outcome_of
from urgentmos.judges.timeline import Timeline, TimelineBackend, trace_timeline
from urgentmos.models.calibration import intervals

CHUNK_SECONDS = 240.0  # of audio among which similar lengths are sought


class ClipScorer(Predictor):
    """A trained network, as far as it scores clips."""

    def __init__(
        self,
        judge: Backend,
        name: str,
        version: str,
        metrics: tuple[str, ...],
        *,
        ranks_by: str,
        symmetric: bool = True,
        calibration: Mapping[str, Any] | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        """metrics: those of the judge that its training taught; others are not offered. ranks_by: one of them.

        calibration: what `urgentmos.models.calibration` makes intervals of scores from; None: scores come without.
        notes: warnings of every result about the model itself.
        """
        self.name, self.version, self.ranks_by = name, version, ranks_by
        self.metrics = metrics
        self.calibration, self.notes = calibration, notes
        self.compares = judge.compares
        self.has_opinions = isinstance(judge, OpinionBackend)
        self.symmetric = symmetric
        self.max_frequency = judge.rate / 2
        self._backend = judge
        self.reader = self._reader = AudioReader(name, judge.rate, judge.window_seconds, judge.min_samples)
        self.stage = f"{name} {version}"  # of its scores in a journal

    def score(self, source: AudioInput, *, sample_rate: int | None = None, reference: AudioInput | None = None) -> Score:
        clip = Clip(*names_of(source))
        if isinstance(source, str | Path):
            return self._score_from(clip, self._outcome(self._reader.try_open(str(source))))
        try:
            heard = self._reader.open(source, sample_rate)
        except AudioError as e:
            heard = OpenedAudio(clip.audio_path, error=str(e))
        return self._score_from(clip, self._outcome(heard))

    def timeline(self, source: AudioInput, *, sample_rate: int | None = None) -> Timeline | None:
        if not isinstance(self._backend, TimelineBackend):
            return None
        return trace_timeline(self._backend, self._reader, source, self.metrics, sample_rate)

    def score_clips(self, clips: Sequence[Clip], run: Run = Run()) -> Iterator[Score]:
        tasks = list(dict.fromkeys(Task(clip.audio_path, None) for clip in clips))
        stage = self.stage
        with Journal.open(run.journal) as log:
            outcomes = {task: stored for task in tasks if (stored := log.get(stage, task)) is not None}
            todo = [task for task in tasks if task not in outcomes]
            waiting = deque(clips)
            for task, outcome in self._outcomes(todo):
                outcomes[task] = outcome
                log.append(stage, task, outcome)
                if run.progress:
                    run.progress(self.name, len(outcomes), len(tasks))
                while waiting and Task(waiting[0].audio_path, None) in outcomes:
                    clip = waiting.popleft()
                    yield self._score_from(clip, outcomes[Task(clip.audio_path, None)])
            for clip in waiting:
                yield self._score_from(clip, outcomes[Task(clip.audio_path, None)])

    def _score_from(self, clip: Clip, outcome: Outcome) -> Score:
        metrics: dict[str, float | None] = {name: outcome.values.get(name) for name in self.metrics}
        duration = clip.duration if outcome.duration is None else round(outcome.duration, 6)
        meta = {**clip.meta, "version": self.version}
        ends = None if self.calibration is None else intervals(self.calibration, metrics)
        scored = with_values(replace(clip, duration=duration, meta=meta), metrics, dict.fromkeys(metrics, self.source))
        return Score(scored, self.name, outcome.error, outcome.warnings, ends, outcome.bandwidth)

    def _outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        """Outcomes chunk by chunk, in the order of the tasks; similar lengths share a batch."""
        chunk: list[tuple[Task, OpenedAudio]] = []
        seconds = 0.0
        for task, heard in self._reader.ahead([task.audio_path for task in tasks], tasks):
            long = heard.error is None and heard.n_windows > 1
            if not long:
                chunk.append((task, heard))
                seconds += heard.seconds or 0.0
            if long or seconds > CHUNK_SECONDS:
                yield from self._chunk(chunk)
                chunk, seconds = [], 0.0
            if long:
                yield task, self._outcome(heard)
        yield from self._chunk(chunk)

    @property
    def light(self) -> bool:
        """Whether it computes on the CPU in any case: by onnxruntime."""
        return type(self._backend).__module__ == "urgentmos.judges.onnx"

    def outcomes_of(self, recordings: Sequence[OpenedAudio]) -> list[Outcome]:
        """Score opened recordings: as many outcomes as recordings, in their order."""
        short = [(Task(str(i), None), heard) for i, heard in enumerate(recordings) if heard.error or heard.n_windows == 1]
        outcomes = dict(self._chunk(short))
        return [
            outcomes[task] if (task := Task(str(i), None)) in outcomes else self._outcome(heard)
            for i, heard in enumerate(recordings)
        ]

    def _chunk(self, chunk: Sequence[tuple[Task, OpenedAudio]]) -> Iterator[tuple[Task, Outcome]]:
        """Outcomes of recordings of one window each."""
        fit = [(i, heard.whole) for i, (_, heard) in enumerate(chunk) if heard.error is None and heard.whole is not None]
        values: dict[int, dict[str, float]] = {}
        for batch in self._batches([audio for _, audio in fit]):
            scores = self._absolute([fit[k][1].wave for k in batch])
            values |= {fit[k][0]: own for k, own in zip(batch, scores, strict=True)}
        for i, (task, heard) in enumerate(chunk):
            yield (
                task,
                failed_outcome(heard)
                if heard.error or heard.whole is None
                else outcome_of(heard, [heard.whole.info], values[i]),
            )

    def _batches(self, audios: Sequence[Audio]) -> Iterator[list[int]]:
        seconds = [len(audio.wave) / audio.rate for audio in audios]
        if self._backend.padding_costs:
            return duration_batches(seconds, self._backend.batch_seconds)
        return duration_batches(seconds, self._backend.batch_seconds, max_padding=1.0)

    def _outcome(self, heard: OpenedAudio) -> Outcome:
        """Weighted means over the windows, one of which is in memory at a time."""
        if heard.error:
            return failed_outcome(heard)
        infos, lengths, values = [], [], []
        try:
            for piece in self._reader.pieces(heard):
                infos.append(piece.info)
                lengths.append(len(piece.wave))
                values += self._absolute([piece.wave])
        except AudioError as e:
            return Outcome(error=str(e))
        return outcome_of(heard, infos, mean_values(values, lengths))

    def _absolute(self, waves: Sequence[np.ndarray]) -> list[dict[str, float]]:
        """Only the metrics the model was trained on; other heads are ignored."""
        scores = self._backend.absolute(halving(self._backend.encode, waves))
        return [{name: values[name] for name in self.metrics} for values in scores]
