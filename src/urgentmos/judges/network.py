"""Networks as judges: decode ahead, encode each clip once, compare all; for any architecture.

A `Backend` adapts one architecture to three tasks: encode clips, predict metrics of each, judge ordered pairs. All that
concerns files, windows, batches, memory and symmetry is here, once.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from urgentmos.audio.description import AudioInfo
from urgentmos.audio.samples import Audio, AudioInput, duration_batches
from urgentmos.audio.windows import AudioReader, OpenedAudio, matched, names_of, repeated
from urgentmos.clips.clip import Clip
from urgentmos.clips.journal import Journal, Outcome, Task
from urgentmos.clips.provenance import with_values
from urgentmos.common.steps import step
from urgentmos.errors import AudioError, MeasureError, UsageError, naming
from urgentmos.judges.base import Evidence, Predictor, Run, Score, check_cells, on_its_own, score_table
from urgentmos.judges.contents import Content, by_content, remember, remembered, span
from urgentmos.judges.outcomes import checked, failed_outcome, info_of, mean_values, outcome_of
from urgentmos.judges.timeline import Timeline, TimelineBackend, trace_timeline
from urgentmos.models.calibration import intervals
from urgentmos.ranking.comparison import Comparison, by_side, comparison, failed_comparison

if TYPE_CHECKING:
    from urgentmos.ranking.rank import Scoring

T = TypeVar("T")
CHUNK_SECONDS = 240.0  # of audio among which similar lengths are sought
BOTH = ((0, 1), (1, 0))  # orders of a pair
PAIRS_AT_ONCE = 256  # judged in one step
PAIR_VALUES = ("p_a", "p_tie", "p_b", "cmos")  # of a pair in a journal
PAIR_BANDS = ("bandwidth_a", "bandwidth_b")


class Backend(Protocol):
    """An architecture behind `Network`. Features are opaque: one object per clip, made once."""

    rate: int  # Hz
    min_samples: int
    window_seconds: float  # longest input in one piece
    batch_seconds: float
    metrics: tuple[str, ...]
    compares: bool  # whether it judges pairs
    metrics_with_encoding: bool  # whether `absolute` costs next to nothing once a clip is encoded
    batch_invariant: bool  # whether `judge` gives a pair the same bits in any batch
    padding_costs: bool  # whether clips encoded together cost as much as the longest of them
    max_length_difference: float  # seconds by which clips of one content may differ before part of them goes unjudged

    def encode(self, waves: Sequence[np.ndarray]) -> list[Any]:
        """(T_i,) float32 each -> features; no clip's features depend on the others."""

    def absolute(self, features: Sequence[Any]) -> list[dict[str, float]]:
        """Metrics of each clip."""

    def judge(self, features: Sequence[Any], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """Ordered pairs of indices -> (P, 4): p_a, p_tie, p_b, CMOS, in the order given only."""


@runtime_checkable
class OpinionBackend(Protocol):
    """A backend that predicts the opinion scores of both clips of a pair, as URGENT-PK does."""

    def opinions(self, features: Sequence[Any], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """Ordered pairs of indices -> (P, 2)."""


class Network(Predictor):
    """A trained network. `symmetric` averages both orders of a pair; without it the raw network answers."""

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

    # ---- clips

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

    # ---- pairs

    def compare(self, a: AudioInput, b: AudioInput, *, sample_rate: int | None = None) -> Comparison:
        self._must_compare()
        judged, infos = self._judge_two(self._reader.open(a, sample_rate), self._reader.open(b, sample_rate))
        warnings, bandwidths = by_side(*(info.warnings for info in infos)), [info.bandwidth for info in infos]
        return on_its_own(comparison(names_of(a)[1], names_of(b)[1], judged, warnings, bandwidths), self)

    def compare_clips(self, pairs: Sequence[tuple[Clip, Clip]], run: Run = Run()) -> Iterator[Comparison]:
        self._must_compare()
        stage = f"{self._pair_stage} compared"
        files = [(a.audio_path, b.audio_path) for a, b in pairs]
        with Journal.open(run.journal) as log:
            outcomes = [log.get(stage, both) for both in files]
            todo = [path for both, outcome in zip(files, outcomes, strict=True) if outcome is None for path in both]
            decoded = self._reader.ahead(todo, todo)
            for done, (both, outcome) in enumerate(zip(files, outcomes, strict=True), start=1):
                if outcome is None:
                    outcome = self._compared(next(decoded)[1], next(decoded)[1])
                    log.append(stage, both, outcome)
                if run.progress:
                    run.progress(self.name, done, len(pairs))
                judged = np.array([outcome.values.get(name, np.nan) for name in PAIR_VALUES])
                if outcome.error is None:
                    yield comparison(*both, judged, outcome.warnings, [outcome.values.get(name) for name in PAIR_BANDS])
                else:
                    yield failed_comparison(*both, outcome.error, outcome.warnings)

    def _compared(self, left: OpenedAudio, right: OpenedAudio) -> Outcome:
        try:
            judged, infos = self._judge_two(left, right)
        except (AudioError, MeasureError) as e:
            sides = [info_of(heard, []).warnings if heard.whole else () for heard in (left, right)]
            return Outcome(error=str(e), warnings=list(by_side(*sides)))
        values = dict(zip(PAIR_VALUES, map(float, judged), strict=True))
        values |= dict(zip(PAIR_BANDS, (info.bandwidth for info in infos), strict=True))
        return Outcome(values, warnings=list(by_side(*(info.warnings for info in infos))))

    def _judge_two(self, left: OpenedAudio, right: OpenedAudio) -> tuple[np.ndarray, list[AudioInfo]]:
        """(4,) the mean over windows at the same relative place, and what is known of both recordings.

        Two windows are in memory at a time. AudioError names the file at fault.
        """
        if errors := [naming(heard.name, heard.error) for heard in (left, right) if heard.error]:
            raise AudioError("; ".join(dict.fromkeys(errors)))
        most = max(left.n_windows, right.n_windows)
        infos: tuple[list[AudioInfo], list[AudioInfo]] = ([], [])
        sides = []
        for heard, seen in zip((left, right), infos, strict=True):
            n = matched(heard, most)
            sides.append(repeated(self._features(heard, n, seen), n, most))
        judged = np.mean([self._judge_features(x, y) for x, y in zip(*sides, strict=False)], axis=0)
        if not np.isfinite(judged).all():
            raise MeasureError(f"{self.name}'s answer to this pair is not a finite number. Use another model")
        return np.asarray(judged), [info_of(heard, seen) for heard, seen in zip((left, right), infos, strict=True)]

    def _features(self, heard: OpenedAudio, count: int, infos: list[AudioInfo]) -> Iterator[Any]:
        """Features window by window; `infos` receives what is known of each."""
        for piece in self._reader.pieces(heard, count):
            infos.append(piece.info)
            yield halving(self._backend.encode, [piece.wave])[0]

    def _judge_features(self, x: Any, y: Any) -> np.ndarray:
        """(4,) of which the other order is the mirror to the last bit: each order is computed as if alone."""
        if not self.symmetric:
            return np.asarray(self._judge([x, y], [(0, 1)])[0])
        if self._backend.batch_invariant:
            there, back = self._judge([x, y], [(0, 1), (1, 0)])
        else:
            there, back = self._judge([x, y], [(0, 1)])[0], self._judge([y, x], [(0, 1)])[0]
        return np.asarray((there + _mirrored(back)) / 2)

    def _both_orders(self, features: Sequence[Any], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """(P, 4) for unordered pairs: the mean of both orders, or the given order of the raw network."""
        if not self.symmetric:
            return self._judge(features, pairs)
        both = self._judge(features, [order for i, j in pairs for order in ((i, j), (j, i))])
        return np.asarray((both[0::2] + _mirrored(both[1::2])) / 2)

    def _judge(self, features: Sequence[Any], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        chunks = [pairs[k : k + PAIRS_AT_ONCE] for k in range(0, len(pairs), PAIRS_AT_ONCE)]
        judged = [row for chunk in chunks for row in halving(lambda some: list(self._backend.judge(features, some)), chunk)]
        return np.array(judged).reshape(-1, 4)

    def _must_compare(self) -> None:
        if not self.compares:
            raise UsageError(f"{self.name} does not judge pairs. Compare its scores, or choose another model with -m.")

    @property
    def _pair_stage(self) -> str:
        return f"{self.name} {self.version} {'both orders' if self.symmetric else 'one order'}"

    # ---- contents

    def evidence(self, clips: Sequence[Clip], scoring: Scoring, run: Run = Run()) -> Evidence:
        """Pairs where the network judges them; scores alone under "mos", or where it does not."""
        if self.compares and scoring != "mos":
            return self.judge_contents(clips, run)
        return super().evidence(clips, scoring, run)

    def judge_contents(self, clips: Sequence[Clip], run: Run = Run()) -> Evidence:
        """All pairs of systems on each content. Each clip is encoded once; one content is in memory at a time."""
        self._must_compare()
        check_cells(clips)
        groups = by_content(clips)
        judged = dict(self._contents(groups, run, self._pair_stage, self._judge_content))
        rows = self._rows(clips, groups, judged)
        systems, contents, table = score_table(rows, self.ranks_by)
        place = {name: i for i, name in enumerate(systems)}
        pairs = np.full((len(systems), len(systems), len(contents)), np.nan)
        for u, content in enumerate(contents):
            row = [place[str(clip.system_id)] for clip in groups[content]]
            for (k, m), win in judged[content].wins.items():
                pairs[row[k], row[m], u], pairs[row[m], row[k], u] = win, 1 - win
        return Evidence(systems, contents, table, pairs, rows, self._warnings(judged))

    def noisy_evidence(self, clips: Sequence[Clip], noisy_system: str, run: Run = Run()) -> Evidence:
        """A clip s beside the unprocessed input n: the mean of s's opinion scores in (s, n) and in (n, s)."""
        if not isinstance(self._backend, OpinionBackend):
            return super().noisy_evidence(clips, noisy_system, run)
        check_cells(clips)
        if noisy_system not in {clip.system_id for clip in clips}:
            named = ", ".join(sorted({str(clip.system_id) for clip in clips}))
            raise UsageError(f"there is no system {noisy_system!r}. Name the unprocessed one with --noisy-system: {named}.")
        groups = by_content(clips)

        def beside_noisy(group: Sequence[Clip], heard: Sequence[OpenedAudio]) -> Content:
            return self._score_beside_noisy(
                next((k for k, clip in enumerate(group) if clip.system_id == noisy_system), None), group, heard
            )

        stage = f"{self.name} {self.version} beside {noisy_system}"
        judged = dict(self._contents(groups, run, stage, beside_noisy))
        rows = self._rows(clips, groups, judged)
        return Evidence(*score_table(rows, self.ranks_by), None, rows, self._warnings(judged))

    def _contents(
        self,
        groups: Mapping[str, list[Clip]],
        run: Run,
        stage: str,
        work: Callable[[Sequence[Clip], Sequence[OpenedAudio]], Content],
    ) -> Iterator[tuple[str, Content]]:
        """Content by content, decoded ahead; those that the journal knows are not judged again."""
        with Journal.open(run.journal) as log:
            earlier = {content: remembered(log, stage, group) for content, group in groups.items()}
            todo = [clip.audio_path for content, group in groups.items() if earlier[content] is None for clip in group]
            decoded = self._reader.ahead(todo, todo)
            for done, (content, group) in enumerate(groups.items(), start=1):
                judged = earlier[content]
                if judged is None:
                    judged = work(group, [next(decoded)[1] for _ in group])
                    remember(log, stage, group, judged)
                if run.progress:
                    run.progress(self.name, done, len(groups))
                yield content, judged

    def _judge_content(self, group: Sequence[Clip], heard: Sequence[OpenedAudio]) -> Content:
        outcomes, features = self._encoded(heard)
        index = list(combinations([k for k, own in enumerate(features) if own], 2))
        if not index:
            return Content(outcomes, {})
        most = max(len(own) for own in features)
        at = [[own[w * len(own) // most] if own else None for own in features] for w in range(most)]
        judged = np.mean([self._both_orders(window, index) for window in at], axis=0)
        return Content(outcomes, {pair: float(row[0] + row[1] / 2) for pair, row in zip(index, judged, strict=True)})

    def _score_beside_noisy(self, noisy: int | None, group: Sequence[Clip], heard: Sequence[OpenedAudio]) -> Content:
        assert isinstance(self._backend, OpinionBackend)
        outcomes, features = self._encoded(heard)
        for k, own in enumerate(features):
            if not own:
                continue
            if noisy is None or not features[noisy]:
                why = f"the unprocessed system has no usable clip of {group[k].reference_id}. Add it, or remove the content"
                outcomes[k] = replace(outcomes[k], values={}, error=why)
                continue
            most = max(len(own), len(features[noisy]))
            opinions = [
                self._backend.opinions([own[w * len(own) // most], features[noisy][w * len(features[noisy]) // most]], BOTH)
                for w in range(most)
            ]
            mos = float(np.mean([(orders[0, 0] + orders[1, 1]) / 2 for orders in opinions]))
            outcomes[k] = checked(replace(outcomes[k], values={self.ranks_by: mos}))
        return Content(outcomes, {})

    def _encoded(self, group: Sequence[OpenedAudio]) -> tuple[list[Outcome], list[list[Any]]]:
        """Outcomes and features of one content's clips: a list of windows each, as many for all; none if unusable."""
        most = max((heard.n_windows for heard in group if heard.error is None), default=1)
        cut = [self._cut(heard, most) for heard in group]
        flat = [(k, piece) for k, pieces in enumerate(cut) if not isinstance(pieces, str) for piece in pieces]
        features: list[list[Any]] = [[] for _ in group]
        encoded: dict[int, Any] = {}
        for batch in self._batches([piece for _, piece in flat]):
            encoded |= dict(zip(batch, halving(self._backend.encode, [flat[i][1].wave for i in batch]), strict=True))
        for i, (k, _) in enumerate(flat):
            features[k].append(encoded[i])
        outcomes = [
            self._outcome_in_content(heard, pieces, own) for heard, pieces, own in zip(group, cut, features, strict=True)
        ]
        return outcomes, [[] if outcome.error else own for outcome, own in zip(outcomes, features, strict=True)]

    def _cut(self, heard: OpenedAudio, most: int) -> list[Audio] | str:
        """The windows of a clip whose longest homologue has `most`, or why there are none."""
        try:
            return heard.error or list(self._reader.pieces(heard, matched(heard, most)))
        except AudioError as e:
            return str(e)

    def _outcome_in_content(self, heard: OpenedAudio, pieces: list[Audio] | str, features: Sequence[Any]) -> Outcome:
        if isinstance(pieces, str):
            return failed_outcome(replace(heard, error=pieces))
        infos = [piece.info for piece in pieces]
        if not self._backend.metrics_with_encoding:
            return outcome_of(heard, infos, {})
        if len(pieces) != heard.n_windows:  # its scores must not depend on the lengths of other clips
            return self._outcome(heard)
        scores = [{name: values[name] for name in self.metrics} for values in self._backend.absolute(features)]
        return outcome_of(heard, infos, mean_values(scores, [len(piece.wave) for piece in pieces]))

    def _rows(self, clips: Sequence[Clip], groups: Mapping[str, list[Clip]], contents: Mapping[str, Content]) -> list[Score]:
        """One per clip, in the order in which they came."""
        cells = {
            (clip.system_id, content): outcome
            for content, group in groups.items()
            for clip, outcome in zip(group, contents[content].outcomes, strict=True)
        }
        return [self._score_from(clip, cells[clip.system_id, str(clip.reference_id)]) for clip in clips]

    def _warnings(self, contents: Mapping[str, Content]) -> tuple[str, ...]:
        """Warnings about the contents' clips and verdicts."""
        sentences = []
        spans = {content: span([o for o in judged.outcomes if o.error is None]) for content, judged in contents.items()}
        most = self._backend.max_length_difference
        uneven = [content for content, (low, high) in spans.items() if high - low > most]
        if uneven:
            low, high = spans[uneven[0]]
            sentences.append(
                f"the clips of {len(uneven)} of {len(contents)} contents differ in length by more than {most:g} s "
                f"(the first: {uneven[0]}, {low:.2f} s to {high:.2f} s); what only the longer ones hold is not judged. "
                "Align and trim them"
            )
        lost = [content for content, judged in contents.items() if any(math.isnan(win) for win in judged.wins.values())]
        if lost:
            sentences.append(
                f"{self.name}'s answer to a pair is not a finite number on {len(lost)} contents (the first: {lost[0]}). "
                "Use another model"
            )
        return tuple(sentences)


def halving(work: Callable[[Sequence[T]], list[Any]], items: Sequence[T]) -> list[Any]:
    """`work(items)`, a step of a long computation; when the device's memory does not suffice, in halves."""
    step()
    try:
        return work(items)
    except RuntimeError as e:
        torch = sys.modules.get("torch")  # who has not imported it has no device whose memory could be short
        if torch is None or not isinstance(e, torch.cuda.OutOfMemoryError):
            raise
        if len(items) == 1:
            raise UsageError("one clip or pair alone does not fit into the device's memory. Choose --device cpu") from None
    torch.cuda.empty_cache()
    middle = len(items) // 2
    return halving(work, items[:middle]) + halving(work, items[middle:])


def _mirrored(judged: np.ndarray) -> np.ndarray:
    """(..., 4) p_a, p_tie, p_b, CMOS as seen from the other side."""
    return np.asarray(judged[..., [2, 1, 0, 3]] * np.array([1, 1, 1, -1]))
