"""One model, and whose clips it computes next: requests take turns, clip by clip, and nothing runs for nobody.

A score does not depend on its company, so turns change the time that a request takes and nothing else. Short clips that wait
at the same time are scored together, one of each request before the second of any. Long recordings and rankings compute step
by step, a few at a time, and short clips go in between. At every step a request that nobody waits for any more is dropped.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from urgentmos.clips.clip import Clip
from urgentmos.common.steps import Pacer, paced
from urgentmos.judges.base import Predictor, Run
from urgentmos.server.limits import Limits
from urgentmos.server.turns import Abandoned, LongPace, ShortPace, Turns

__all__ = ["Abandoned", "Item", "Job", "Worker"]

Work = Callable[[Predictor, Run], Any]
SMOOTHING = 0.2  # of the mean time of a job, by which waiting times are guessed
LONG_SECONDS = 30.0  # of audio: more is computed step by step
BATCH_SECONDS = 60.0  # of audio scored together, at most
LONG_AT_ONCE = 4  # long items under way, each of which holds some decoded clips
END_SECONDS = 5.0  # in which work that was given up must have reached its next step


@dataclass(frozen=True)
class Item:
    """One part of a job: a clip to be scored, or work that is done alone. seconds: of audio that it goes through."""

    work: Clip | Work
    seconds: float = 0.0

    @property
    def is_long(self) -> bool:
        return self.seconds > LONG_SECONDS


@dataclass(eq=False)
class Job:
    """The parts of a request; the answer is the list of their results."""

    items: Sequence[Item]
    future: Future[list[Any]] = field(default_factory=Future)
    abandoned: bool = False
    submitted: float = field(default_factory=time.monotonic)
    started: float | None = None
    taken: int = 0  # items begun
    results: dict[int, Any] = field(default_factory=dict)

    @property
    def waited(self) -> float:
        """Seconds until its first part began."""
        return (time.monotonic() if self.started is None else self.started) - self.submitted

    def abandon(self) -> None:
        """Nobody waits for it: what has not begun never does, and what has ends at its next step."""
        self.abandoned = True
        self.future.cancel()

    def begin(self) -> bool:
        """Whether a part of it is to be computed."""
        if self.started is None:
            self.started = time.monotonic()
            if not self.future.set_running_or_notify_cancel():
                self.abandoned = True
        self.taken += 1
        if self.abandoned:
            self.fail(Abandoned())
        return not self.abandoned

    def finish(self, index: int, result: Any) -> bool:
        """Whether that was its last part."""
        self.results[index] = result
        if len(self.results) < len(self.items):
            return False
        with suppress(InvalidStateError):  # cancelled
            self.future.set_result([self.results[i] for i in range(len(self.items))])
        return True

    def fail(self, error: Exception) -> None:
        self.abandoned = True
        with suppress(InvalidStateError):  # another part of it came first
            self.future.set_exception(error)


Part = tuple[Job, int]  # a job and the number of one of its items


class Worker:
    """Runs the parts of jobs in turns. `on_batch` is called after each batch with its number of clips."""

    def __init__(self, judge: Predictor, limits: Limits, on_batch: Callable[[int], None] = lambda n: None) -> None:
        self._judge, self._limits, self._on_batch = judge, limits, on_batch
        self._turns = Turns()
        self._changed = threading.Condition()
        self._jobs: list[Job] = []  # submitted and not finished
        self._short: deque[tuple[Job, deque[int]]] = deque()  # in the order of their turns
        self._long: list[Part] = []
        self._stopping = False
        loops = [("short", self._loop_short)] + [(f"long-{k}", self._loop_long) for k in range(LONG_AT_ONCE)]
        self._threads = [threading.Thread(target=loop, name=f"urgentmos-{name}", daemon=True) for name, loop in loops]
        self.mean_seconds = 0.1  # of a job

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    @property
    def waiting(self) -> int:
        """Jobs of which nothing has begun."""
        with self._changed:
            return sum(job.started is None and not job.abandoned for job in self._jobs)

    def score(self, clips: Sequence[Clip], seconds: Sequence[float] | None = None) -> Job:
        """A job whose answer is a list of Score, one per clip. seconds: of each clip, as far as known."""
        return self.submit([Item(clip, s) for clip, s in zip(clips, seconds or [0.0] * len(clips), strict=True)])

    def alone(self, work: Work, seconds: float = 0.0) -> Job:
        """A job whose answer is [what `work` returns]; its Run has no journal, and one process."""
        return self.submit([Item(work, seconds)])

    def submit(self, items: Sequence[Item]) -> Job:
        job = Job(items)
        with self._changed:
            if self._stopping:
                raise RuntimeError("the worker has been stopped")
            self._jobs.append(job)
            short = deque(i for i, item in enumerate(items) if not item.is_long)
            if short:
                self._short.append((job, short))
            self._long += [(job, i) for i, item in enumerate(items) if item.is_long]
            self._changed.notify_all()
        if not items:
            job.begin()
            job.future.set_result([])
        return job

    def stop(self, seconds: float | None = None) -> None:
        """Returns when all that was submitted is done, or `seconds` have passed and the rest is given up."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        end = None if seconds is None else time.monotonic() + seconds
        self._join(end)
        if any(thread.is_alive() for thread in self._threads):
            with self._changed:
                for job in self._jobs:
                    job.abandon()
                self._changed.notify_all()
            self._join(time.monotonic() + END_SECONDS)

    def _join(self, end: float | None) -> None:
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(None if end is None else max(0.0, end - time.monotonic()))

    # ---- short items

    def _loop_short(self) -> None:
        while self._await_company():
            with self._turns.turn(short=True):
                batch = self._gather()
                if batch:
                    self._run(batch, ShortPace(lambda: all(job.abandoned for job, _ in batch)))  # noqa: B023

    def _await_company(self) -> bool:
        """Returns when a batch may begin, False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._short or self._stopping)
            if not self._short:
                return False
            until = min(job.submitted for job, _ in self._short) + self._limits.batch_ms / 1000
            while not self._stopping and sum(len(own) for _, own in self._short) < self._limits.batch_clips:
                if not self._changed.wait(max(0.0, until - time.monotonic())):
                    break
            return True

    def _gather(self) -> list[Part]:
        """Clips for one batch, one of each job in turn; or one piece of work."""
        batch: list[Part] = []
        seconds = 0.0
        with self._changed:
            while self._short and len(batch) < self._limits.batch_clips:
                job, own = self._short[0]
                item = job.items[own[0]]
                is_clip = isinstance(item.work, Clip)
                if batch and (not is_clip or seconds + item.seconds > BATCH_SECONDS):
                    break
                index = own.popleft()
                self._short.popleft()
                if not self._begin(job):
                    continue
                if own:
                    self._short.append((job, own))
                batch.append((job, index))
                seconds += item.seconds
                if not is_clip:
                    break
        return batch

    # ---- long items

    def _loop_long(self) -> None:
        while (part := self._next_long()) is not None:
            job = part[0]
            with self._turns.turn(short=False):
                self._run([part], LongPace(self._turns, lambda: job.abandoned))  # noqa: B023

    def _next_long(self) -> Part | None:
        """An item of the job that had the fewest turns; of these the shortest, so that none waits for an endless one."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._long or self._stopping)
                if not self._long:
                    return None
                part = min(self._long, key=lambda part: (part[0].taken, part[0].items[part[1]].seconds))
                self._long.remove(part)
                if self._begin(part[0]):
                    return part

    # ---- both

    def _begin(self, job: Job) -> bool:
        if job.begin():
            return True
        self._forget(job)
        return False

    def _forget(self, job: Job) -> None:
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
            self._long = [part for part in self._long if part[0] is not job]
            self._short = deque(entry for entry in self._short if entry[0] is not job)

    def _run(self, parts: Sequence[Part], pacer: Pacer) -> None:
        try:
            with paced(pacer):
                results = self._results(parts, pacer)
        except Exception as e:
            if len(parts) > 1 and not isinstance(e, Abandoned):
                for part in parts:  # its failure must not end the others
                    self._run([part], ShortPace(lambda: part[0].abandoned))  # noqa: B023
                return
            for job, _ in parts:
                job.fail(e)
                self._forget(job)
            return
        for (job, index), result in zip(parts, results, strict=True):
            if job.finish(index, result):
                self._forget(job)
                self.mean_seconds += SMOOTHING * (time.monotonic() - job.submitted - job.waited - self.mean_seconds)

    def _results(self, parts: Sequence[Part], pacer: Pacer) -> list[Any]:
        def progress(stage: str, done: int, total: int) -> None:
            pacer.step()

        run = Run(jobs=1, journal=None, progress=progress)
        works = [job.items[index].work for job, index in parts]
        if isinstance(works[0], Clip):
            clips = [work for work in works if isinstance(work, Clip)]
            self._on_batch(len(clips))
            scores = self._judge.score_clips(clips, run)
            return [next(scores) for _ in clips]
        return [works[0](self._judge, run)]
