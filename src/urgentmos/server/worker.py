"""One model, one queue, one thread that computes. Clips that wait at the same time are scored together.

A score does not depend on its company, so batches change the time that a request takes and nothing else. A request that has
nobody waiting for it any more is dropped, before it begins or at its next clip.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from urgentmos.clips import Clip
from urgentmos.predictor import Predictor
from urgentmos.results import Run, Score
from urgentmos.server.limits import Limits

Work = Callable[[Predictor, Run], Any]
SMOOTHING = 0.2  # of the mean time of a job, by which waiting times are guessed


class Abandoned(Exception):
    """Nobody waits for the answer any more."""


@dataclass(eq=False)
class Job:
    """Clips to be scored, with those of others; or work that is done alone."""

    clips: Sequence[Clip] = ()
    work: Work | None = None
    future: Future[Any] = field(default_factory=Future)
    abandoned: bool = False
    submitted: float = field(default_factory=time.monotonic)
    waited: float = 0.0  # seconds in the queue

    def abandon(self) -> None:
        self.abandoned = True
        self.future.cancel()


class Worker:
    """Runs jobs in the order in which they came. `told` hears of each batch: its number of clips."""

    def __init__(self, judge: Predictor, limits: Limits, told: Callable[[int], None] = lambda n: None) -> None:
        self._judge, self._limits, self._told = judge, limits, told
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._next: Job | None = None  # taken from the queue, and not for this batch
        self._thread = threading.Thread(target=self._loop, name="urgentmos-model", daemon=True)
        self._lock = threading.Lock()
        self._stopping = False
        self.mean_seconds = 0.1  # of a job

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return self._jobs.qsize()

    def score(self, clips: Sequence[Clip]) -> Job:
        """A job whose answer is a list of Score, one per clip."""
        return self._submit(Job(clips=clips))

    def alone(self, work: Work) -> Job:
        """A job whose answer is what `work` returns; its Run has no journal, and one process."""
        return self._submit(Job(work=work))

    def _submit(self, job: Job) -> Job:
        with self._lock:
            if self._stopping:
                raise RuntimeError("the worker has been stopped")
            self._jobs.put(job)
        return job

    def stop(self) -> None:
        """Returns when all that was submitted is done."""
        with self._lock:
            self._stopping = True
            self._jobs.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    # ---- the thread

    def _loop(self) -> None:
        while (job := self._take()) is not None:
            started = time.monotonic()
            batch = [job] if job.work is not None else self._gather(job)
            ready = [item for item in batch if item.future.set_running_or_notify_cancel()]
            for item in ready:
                item.waited = time.monotonic() - item.submitted
            if ready:
                self._run(ready)
                self.mean_seconds += SMOOTHING * ((time.monotonic() - started) / len(ready) - self.mean_seconds)

    def _take(self) -> Job | None:
        job, self._next = self._next, None
        return self._jobs.get() if job is None else job

    def _gather(self, first: Job) -> list[Job]:
        """Scoring jobs that follow `first` without a gap, as many as fit, and those that come while it may wait."""
        batch, n_clips = [first], len(first.clips)
        until = first.submitted + self._limits.batch_ms / 1000
        while n_clips < self._limits.batch_clips:
            try:
                job = self._jobs.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)  # the end comes after this batch
                break
            if job.work is not None or n_clips + len(job.clips) > self._limits.batch_clips:
                self._next = job
                break
            batch.append(job)
            n_clips += len(job.clips)
        return batch

    def _run(self, jobs: Sequence[Job]) -> None:
        try:
            if jobs[0].work is not None:
                jobs[0].future.set_result(jobs[0].work(self._judge, self._watched(jobs)))
            else:
                self._score(jobs)
        except Abandoned as e:
            _fail(jobs, e)
        except Exception as e:
            if len(jobs) == 1:
                _fail(jobs, e)
            else:  # whatever it was, it must not take the others with it
                for job in jobs:
                    if not job.future.done():
                        self._run([job])

    def _score(self, jobs: Sequence[Job]) -> None:
        clips = [clip for job in jobs for clip in job.clips]
        self._told(len(clips))
        scores = self._judge.score_clips(clips, self._watched(jobs))
        for job in jobs:
            found: list[Score] = [next(scores) for _ in job.clips]
            job.future.set_result(found)

    def _watched(self, jobs: Sequence[Job]) -> Run:
        def progress(stage: str, done: int, total: int) -> None:
            if all(job.abandoned for job in jobs):
                raise Abandoned

        return Run(jobs=1, journal=None, progress=progress)


def _fail(jobs: Sequence[Job], error: Exception) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(error)
