"""Networks as judges: decode ahead, encode each clip once, compare all; whatever the network.

A `Judge` adapts one architecture to three questions: encode clips, tell metrics of each, judge ordered pairs. All that
concerns files, windows, batches, memory and symmetry is here, once.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from urgentmos.audio import Audio, duration_batches
from urgentmos.audio import load as load_audio
from urgentmos.clips import Clip
from urgentmos.comparing import Comparison, comparison
from urgentmos.errors import AudioError, UsageError, need
from urgentmos.journal import Journal, Outcome, Task
from urgentmos.predictor import Predictor, score_table
from urgentmos.ranking import Scoring
from urgentmos.results import Evidence, Run, Score, Source
from urgentmos.windows import merge, split, windows

T = TypeVar("T")
READ_AHEAD = 8  # clips decoded while the network computes
CHUNK_SECONDS = 240.0  # of audio among which similar lengths are sought
NOTHING = np.full(4, np.nan)


class Judge(Protocol):
    """What the predictor asks of an architecture. Features are opaque: one object per clip, made once."""

    rate: int  # Hz
    min_samples: int
    window_seconds: float  # longest input in one piece
    batch_seconds: float
    metrics: tuple[str, ...]
    compares: bool  # whether it judges pairs
    cheap_metrics: bool  # whether `absolute` costs next to nothing once a clip is encoded

    def encode(self, waves: Sequence[np.ndarray]) -> list[Any]:
        """(T_i,) float32 each -> features; no clip's features depend on the others."""

    def absolute(self, features: Sequence[Any]) -> list[dict[str, float]]:
        """Metrics of each clip."""

    def judge(self, features: Sequence[Any], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """Ordered pairs of indices -> (P, 4): p_a, p_tie, p_b, CMOS, in the order given only."""


@runtime_checkable
class OpinionJudge(Protocol):
    """A judge that tells the opinion scores of both clips of a pair, as URGENT-PK does."""

    def opinions(self, features: Sequence[Any], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """Ordered pairs of indices -> (P, 2)."""


@dataclass(frozen=True)
class Heard:
    """One decoded clip: its windows at the judge's rate, or why there are none."""

    pieces: Iterable[Audio] = ()
    n_windows: int = 0
    error: str | None = None


class Network(Predictor):
    """A trained network. `symmetric` averages both orders of a pair; without it the raw network answers."""

    def __init__(
        self, judge: Judge, name: str, version: str, metrics: tuple[str, ...], *, ranks_by: str, symmetric: bool = True
    ) -> None:
        """metrics: those of the judge that its training taught; others are not offered. ranks_by: one of them."""
        self.name, self.version, self.judge = name, version, ranks_by
        self.metrics = metrics
        self.compares = judge.compares
        self.symmetric = symmetric
        self._net = judge

    # ---- clips

    def score(self, source: Source, *, sample_rate: int | None = None, reference: Source | None = None) -> Score:
        clip = Clip(*_names(source))
        try:
            audio = load_audio(source, self._net.rate, sample_rate=sample_rate)
            pieces = list(split(audio, self._net.window_seconds))
        except AudioError as e:
            return self._answer(clip, Outcome(error=str(e)))
        return self._answer(clip, self._outcome(pieces))

    def score_clips(self, clips: Sequence[Clip], run: Run = Run()) -> Iterator[Score]:
        tasks = list(dict.fromkeys(Task(clip.audio_path, None) for clip in clips))
        key = f"{self.name} {self.version}"
        with Journal.open(run.journal) as log:
            known = {task: found for task in tasks if (found := log.get(key, task)) is not None}
            todo = [task for task in tasks if task not in known]
            waiting = deque(clips)
            for task, outcome in self._outcomes(todo):
                known[task] = outcome
                log.append(key, task, outcome)
                if run.progress:
                    run.progress(self.name, len(known), len(tasks))
                while waiting and Task(waiting[0].audio_path, None) in known:
                    clip = waiting.popleft()
                    yield self._answer(clip, known[Task(clip.audio_path, None)])
            for clip in waiting:
                yield self._answer(clip, known[Task(clip.audio_path, None)])

    def _answer(self, clip: Clip, outcome: Outcome) -> Score:
        metrics: dict[str, float | None] = {name: outcome.values.get(name) for name in self.metrics}
        duration = clip.duration if outcome.duration is None else round(outcome.duration, 6)
        meta = {**clip.meta, "version": self.version}
        return Score(replace(clip, metrics=metrics, duration=duration, meta=meta), self.name, outcome.error, outcome.warnings)

    def _outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        """Outcomes chunk by chunk, in the order of the tasks; similar lengths share a batch."""
        chunk: list[tuple[Task, list[Audio]]] = []
        seconds = 0.0
        for task, heard in self._heard([task.audio_path for task in tasks], tasks):
            if heard.error is not None or heard.n_windows > 1:
                yield from self._chunk(chunk)
                chunk, seconds = [], 0.0
                yield task, self._long(heard) if heard.error is None else Outcome(error=heard.error)
                continue
            pieces = list(heard.pieces)
            chunk.append((task, pieces))
            seconds += _seconds(pieces)
            if seconds > CHUNK_SECONDS:
                yield from self._chunk(chunk)
                chunk, seconds = [], 0.0
        yield from self._chunk(chunk)

    def _chunk(self, chunk: Sequence[tuple[Task, list[Audio]]]) -> Iterator[tuple[Task, Outcome]]:
        values: dict[int, dict[str, float]] = {}
        fit = [i for i, (_, pieces) in enumerate(chunk) if self._too_short(pieces[0]) is None]
        lengths = [_seconds(chunk[i][1]) for i in fit]
        for batch in duration_batches(lengths, self._net.batch_seconds):
            indices = [fit[k] for k in batch]
            found = self._absolute([chunk[i][1][0].wave for i in indices])
            values |= dict(zip(indices, found, strict=True))
        for i, (task, pieces) in enumerate(chunk):
            yield task, _outcome_of(pieces, values.get(i), self._too_short(pieces[0]))

    def _long(self, heard: Heard) -> Outcome:
        """A recording of many windows: weighted means, and one window in memory at a time."""
        infos, lengths, values = [], [], []
        try:
            for piece in heard.pieces:
                infos.append(piece.info)
                lengths.append(len(piece.wave))
                values += self._absolute([piece.wave])
        except AudioError as e:
            return Outcome(error=str(e))
        mean = {name: float(np.average([v[name] for v in values], weights=lengths)) for name in values[0]}
        whole = Audio(np.zeros(0, np.float32), self._net.rate, merge(infos))
        return _checked(mean, whole, sum(lengths) / self._net.rate)

    def _outcome(self, pieces: Sequence[Audio]) -> Outcome:
        short = self._too_short(pieces[0])
        if short:
            return _outcome_of(pieces, None, short)
        if len(pieces) > 1:
            return self._long(Heard(pieces, len(pieces)))
        return _outcome_of(pieces, self._absolute([pieces[0].wave])[0], None)

    def _absolute(self, waves: Sequence[np.ndarray]) -> list[dict[str, float]]:
        return self._net.absolute(halving(self._net.encode, waves))

    def _too_short(self, piece: Audio) -> str | None:
        if len(piece.wave) >= self._net.min_samples:
            return None
        needed = self._net.min_samples / self._net.rate
        return f"{len(piece.wave) / piece.rate:.3g} s is shorter than the {needed:.3g} s that {self.name} needs"

    def _heard(self, paths: Iterable[str], keys: Iterable[T]) -> Iterator[tuple[T, Heard]]:
        """Decoded clips in order, READ_AHEAD of them ahead of the network."""
        with ThreadPoolExecutor(2) as pool:
            ahead: deque[tuple[T, Future[Heard]]] = deque()
            for path, key in zip(paths, keys, strict=True):
                ahead.append((key, pool.submit(self._decode, path)))
                if len(ahead) > READ_AHEAD:
                    first, future = ahead.popleft()
                    yield first, future.result()
            while ahead:
                first, future = ahead.popleft()
                yield first, future.result()

    def _decode(self, path: str) -> Heard:
        from urgentmos.audio import probe

        try:
            n_samples, rate, _ = probe(path)
            count = math.ceil(n_samples / rate / self._net.window_seconds)
            pieces = windows(path, self._net.rate, self._net.window_seconds)
            return Heard(pieces if count > 1 else list(pieces), max(count, 1))
        except AudioError as e:
            return Heard(error=str(e))
        except Exception as e:  # a decoder's bug must not end the other clips
            return Heard(error=f"{path} cannot be decoded: {type(e).__name__}: {e}. Export it again")

    # ---- pairs

    def compare(self, a: Source, b: Source, *, sample_rate: int | None = None) -> Comparison:
        self._must_compare()
        first, second = (load_audio(x, self._net.rate, sample_rate=sample_rate) for x in (a, b))
        pieces = [list(split(x, self._net.window_seconds)) for x in (first, second)]
        for piece in (pieces[0][0], pieces[1][0]):
            short = self._too_short(piece)
            if short:
                raise AudioError(short)
        features = [[self._net.encode([p.wave])[0] for p in side] for side in pieces]
        # always computed in the same arrangement, so that compare(b, a) mirrors compare(a, b) to the last bit
        swap = self.symmetric and _digest(first.wave) > _digest(second.wave)
        left, right = (features[1], features[0]) if swap else (features[0], features[1])
        judged = self._judge_windows(left, right, [len(p.wave) for p in pieces[1 if swap else 0]])
        return comparison(_names(a)[1], _names(b)[1], _mirrored(judged) if swap else judged)

    def _judge_windows(self, left: Sequence[Any], right: Sequence[Any], lengths: Sequence[int]) -> np.ndarray:
        """Windows at the same relative place are judged; the answers are averaged by length."""
        n = len(left)
        judged = [self._both_orders([left[i], right[i * len(right) // n]], [(0, 1)])[0] for i in range(n)]
        return np.asarray(np.average(judged, axis=0, weights=lengths))

    def _both_orders(self, features: Sequence[Any], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """(P, 4) for unordered pairs: the mean of both orders, or the given order of the raw network."""
        if not self.symmetric:
            return np.asarray(self._net.judge(features, pairs))
        both = self._net.judge(features, [order for i, j in pairs for order in ((i, j), (j, i))])
        return np.asarray((both[0::2] + _mirrored(both[1::2])) / 2)

    def _must_compare(self) -> None:
        if not self.compares:
            raise UsageError(f"{self.name} does not judge pairs. Compare its scores, or choose another model with -m.")

    def evidence(self, clips: Sequence[Clip], scoring: Scoring, run: Run = Run()) -> Evidence:
        """Pairs where the network judges them; scores alone under "mos", or where it does not."""
        if self.compares and scoring != "mos":
            return self.judge_contents(clips, run)
        return super().evidence(clips, scoring, run)

    def noisy_evidence(self, clips: Sequence[Clip], noisy_system: str, run: Run = Run()) -> Evidence:
        """A clip s beside the unprocessed input n: the mean of s's opinion scores in (s, n) and in (n, s)."""
        if not isinstance(self._net, OpinionJudge):
            return super().noisy_evidence(clips, noisy_system, run)
        if noisy_system not in {clip.system_id for clip in clips}:
            named = ", ".join(sorted({str(clip.system_id) for clip in clips}))
            raise UsageError(f"there is no system {noisy_system!r}. Name the unprocessed one with --noisy-system: {named}.")
        scores: list[Score] = []
        for group, outcomes, features in self._contents(clips, run):
            noisy = next((f for clip, f in zip(group, features, strict=True) if clip.system_id == noisy_system), None)
            for clip, outcome, own in zip(group, outcomes, features, strict=True):
                if own is not None and noisy is not None:
                    told = self._net.opinions([own[0], noisy[0]], [(0, 1), (1, 0)])
                    outcome = replace(outcome, values={self.judge: float((told[0, 0] + told[1, 1]) / 2)})
                elif noisy is None and outcome.error is None:
                    outcome = replace(outcome, error=f"{noisy_system} has no usable clip of {clip.reference_id}")
                scores.append(self._answer(clip, outcome))
        return Evidence(*score_table(scores, self.judge), None, scores)

    def judge_contents(self, clips: Sequence[Clip], run: Run = Run()) -> Evidence:
        """All pairs of systems on each content. Each clip is encoded once; one content is in memory at a time."""
        self._must_compare()
        systems = list(dict.fromkeys(str(clip.system_id) for clip in clips))
        contents = list(dict.fromkeys(str(clip.reference_id) for clip in clips))
        row = {name: i for i, name in enumerate(systems)}
        pairs = np.full((len(systems), len(systems), len(contents)), np.nan)
        scores: list[Score] = []
        for u, (group, outcomes, features) in enumerate(self._contents(clips, run)):
            scores += [self._answer(clip, outcome) for clip, outcome in zip(group, outcomes, strict=True)]
            usable = [k for k, f in enumerate(features) if f is not None]
            index = list(combinations(usable, 2))
            for (k, m), judged in zip(index, self._judge_content(features, index), strict=True):
                i, j = row[str(group[k].system_id)], row[str(group[m].system_id)]
                win = judged[0] + judged[1] / 2
                pairs[i, j, u], pairs[j, i, u] = win, 1 - win
        return Evidence(systems, contents, score_table(scores, self.judge)[2], pairs, scores)

    def _contents(self, clips: Sequence[Clip], run: Run) -> Iterator[tuple[list[Clip], list[Outcome], list[list[Any] | None]]]:
        """Content by content: its clips, their outcomes, and their features (a list of windows each, None if unusable)."""
        by_content: dict[str, list[Clip]] = {}
        for clip in clips:
            by_content.setdefault(str(clip.reference_id), []).append(clip)
        ordered = [clip for group in by_content.values() for clip in group]
        decoded = self._heard([clip.audio_path for clip in ordered], ordered)
        for done, group in enumerate(by_content.values(), start=1):
            yield group, *self._content([next(decoded)[1] for _ in group])
            if run.progress:
                run.progress(self.name, done, len(by_content))

    def _content(self, group: Sequence[Heard]) -> tuple[list[Outcome], list[list[Any] | None]]:
        """Outcomes and features (a list of windows each) of one content's clips."""
        outcomes: list[Outcome] = []
        features: list[list[Any] | None] = []
        decoded: list[list[Audio] | None] = []
        for heard in group:
            try:
                pieces = None if heard.error else list(heard.pieces)
                error = heard.error or (self._too_short(pieces[0]) if pieces else None)
            except AudioError as e:
                pieces, error = None, str(e)
            decoded.append(None if error else pieces)
            outcomes.append(Outcome(error=error))
        flat = [(k, p) for k, pieces in enumerate(decoded) if pieces for p in pieces]
        encoded: list[Any] = [None] * len(flat)
        for batch in duration_batches([len(p.wave) / p.rate for _, p in flat], self._net.batch_seconds):
            for place, feature in zip(batch, halving(self._net.encode, [flat[i][1].wave for i in batch]), strict=True):
                encoded[place] = feature
        for k, pieces in enumerate(decoded):
            own = [f for (owner, _), f in zip(flat, encoded, strict=True) if owner == k]
            features.append(own if pieces else None)
            if pieces and not self._net.cheap_metrics:
                outcomes[k] = _outcome_of(pieces, {}, None)
            elif pieces:
                values = self._net.absolute(own)
                weights = [len(p.wave) for p in pieces]
                mean = {name: float(np.average([v[name] for v in values], weights=weights)) for name in values[0]}
                outcomes[k] = _outcome_of(pieces, mean, None)
        return outcomes, features

    def _judge_content(self, features: Sequence[list[Any] | None], index: Sequence[tuple[int, int]]) -> np.ndarray:
        """(P, 4) for the unordered pairs of one content."""
        if all(f is None or len(f) == 1 for f in features):
            flat = [None if f is None else f[0] for f in features]
            return self._both_orders(flat, index) if index else np.zeros((0, 4))
        judged = []
        for i, j in index:
            left, right = features[i], features[j]
            assert left is not None and right is not None
            judged.append(self._judge_windows(left, right, [1] * len(left)))
        return np.array(judged).reshape(-1, 4)


def load_network(model: str | Path, *, device: str = "auto", symmetric: bool = True, allow_download: bool = True) -> Network:
    """The predictor of a release, a model folder or a released checkpoint file. UsageError if it cannot be loaded."""
    need("torch", "models")
    from urgentmos.checkpoints import load_any
    from urgentmos.judges import judge_of

    found = load_any(model, allow_download=allow_download)
    judge = judge_of(found.net, device)
    offered = tuple(name for name in judge.metrics if name in (found.info.get("metrics") or judge.metrics))
    ranks_by = "mos_overall" if "mos_overall" in offered else offered[0]
    return Network(judge, str(found.info["name"]), str(found.info["version"]), offered, ranks_by=ranks_by, symmetric=symmetric)


def halving(work: Callable[[Sequence[np.ndarray]], list[Any]], waves: Sequence[np.ndarray]) -> list[Any]:
    """`work(waves)`; when the device's memory does not suffice, in halves."""
    import torch

    try:
        return work(waves)
    except torch.cuda.OutOfMemoryError:
        if len(waves) == 1:
            raise UsageError("one clip alone does not fit into the device's memory. Choose --device cpu") from None
    torch.cuda.empty_cache()
    middle = len(waves) // 2
    return halving(work, waves[:middle]) + halving(work, waves[middle:])


def _outcome_of(pieces: Sequence[Audio], values: dict[str, float] | None, short: str | None) -> Outcome:
    seconds = _seconds(pieces)
    if values is None:
        return Outcome(error=short, warnings=list(pieces[0].info.warnings), duration=seconds, rate=pieces[0].info.rate)
    whole = pieces[0] if len(pieces) == 1 else Audio(pieces[0].wave, pieces[0].rate, merge([p.info for p in pieces]))
    return _checked(values, whole, seconds)


def _checked(values: dict[str, float], audio: Audio, seconds: float) -> Outcome:
    """A network may fail, too: what is not a finite number is not a score."""
    info = audio.info
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        return Outcome(
            error=f"the model's answer for {', '.join(bad)} is not a finite number", duration=seconds, rate=info.rate
        )
    return Outcome(values, {}, None, list(info.warnings), seconds, info.rate)


def _seconds(pieces: Sequence[Audio]) -> float:
    if len(pieces) == 1:
        return pieces[0].info.duration
    return sum(len(p.wave) for p in pieces) / pieces[0].rate


def _mirrored(judged: np.ndarray) -> np.ndarray:
    """(..., 4) p_a, p_tie, p_b, CMOS as seen from the other side."""
    return np.asarray(judged[..., [2, 1, 0, 3]] * np.array([1, 1, 1, -1]))


def _digest(wave: np.ndarray) -> bytes:
    return hashlib.blake2b(wave.tobytes(), digest_size=16).digest()


def _names(source: Source) -> tuple[str, str]:
    """(uid, path) of a source for its row."""
    return (Path(source).stem, str(source)) if isinstance(source, str | Path) else ("array", "array")
