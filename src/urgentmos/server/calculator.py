"""Rankings and pages in processes of their own, beside the model: each can be killed in the middle.

A child reads a task from its stdin, computes, and writes the result to its stdout, both pickled: only we write there. What
needs the model has been computed before, and travels as a `Recorded` judge.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, BinaryIO

from urgentmos.api import rank_with_evidence
from urgentmos.audio.samples import AudioInput
from urgentmos.clips.clip import Clip
from urgentmos.errors import UrgentmosError, UsageError
from urgentmos.judges.base import Evidence, Predictor, Run, Score
from urgentmos.judges.timeline import Timeline
from urgentmos.ranking.comparison import Comparison

NICENESS = 15  # of the children: the model comes first
SPARE_SECONDS = 10  # after which a child whose service is gone ends itself
LENGTH = struct.Struct("<Q")
START = "from urgentmos.server.calculator import main; main()"


class Recorded(Predictor):
    """The stored results of a judge, as a judge without a model."""

    def __init__(self, judge: Predictor, evidence: Evidence | None = None, lines: Mapping[str, Timeline | None] = {}) -> None:
        self.name, self.version, self.metrics, self.ranks_by = judge.name, judge.version, judge.metrics, judge.ranks_by
        self.max_frequency, self.has_opinions = judge.max_frequency, judge.has_opinions
        self._source, self._evidence, self._lines = judge.source, evidence, dict(lines)

    @property
    def source(self) -> str:
        return self._source

    def evidence(self, clips: Sequence[Clip], scoring: Any, run: Run = Run()) -> Evidence:
        assert self._evidence is not None
        return self._evidence

    def timeline(self, source: AudioInput, *, sample_rate: int | None = None) -> Timeline | None:
        return self._lines.get(str(source))

    def score_clips(self, clips: Sequence[Clip], run: Run = Run()) -> Iterator[Score]:
        raise NotImplementedError

    def score(self, source: AudioInput, *, sample_rate: int | None = None, reference: AudioInput | None = None) -> Score:
        raise NotImplementedError

    def compare(self, a: AudioInput, b: AudioInput, *, sample_rate: int | None = None) -> Comparison:
        raise NotImplementedError


# ---- tasks: the tasks of a child process


@dataclass(frozen=True)
class RankTask:
    """-> (Ranking, Evidence)"""

    judge: Recorded
    clips: Sequence[Clip]
    scoring: Any
    resampling: Mapping[str, Any]  # confidence, samples, seed

    def run(self) -> Any:
        return rank_with_evidence(self.clips, self.judge, self.scoring, **self.resampling)


@dataclass(frozen=True)
class RankingPageTask:
    """-> the page of a ranking"""

    ranks_by: str
    ranking: Any
    evidence: Evidence
    clips: Sequence[Clip]
    folder: Path

    def run(self) -> str:
        from urgentmos.report import Options, ranking_page

        return ranking_page(self.ranking, self.evidence, self.clips, self.ranks_by, Options(self.folder / "answer.html"))


@dataclass(frozen=True)
class ClipsPageTask:
    """-> the page of scored clips"""

    judge: Recorded
    scores: Sequence[Score]
    metrics: Sequence[str]
    folder: Path

    def run(self) -> str:
        from urgentmos.report import Options, clips_page

        return clips_page(self.scores, self.judge, self.metrics, Options(self.folder / "answer.html"))


Task = RankTask | RankingPageTask | ClipsPageTask


class CalculatorError(Exception):
    """A task failed in its process; the text is the child's traceback."""


# ---- the service's side


class Child:
    """A process that computes one task after the other. `exchange` blocks; `kill` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._killed = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def exchange(self, message: Any) -> tuple[str, Any]:
        """(status, value) of a task. EOFError, with the exit status of the process, if that ended before it had an answer."""
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        try:
            data = pickle.dumps(message)
            process.stdin.write(LENGTH.pack(len(data)) + data)
            process.stdin.flush()
            head = process.stdout.read(LENGTH.size)
            answer = process.stdout.read(*LENGTH.unpack(head))
            status, value = pickle.loads(answer)
        except (OSError, ValueError, EOFError, struct.error, pickle.UnpicklingError) as e:
            self.kill()
            raise EOFError(process.wait()) from e
        return status, value

    def kill(self) -> None:
        """The process is gone when this returns, and `exchange` ends."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._killed:
                raise EOFError(-signal.SIGTERM)
            self._process = self._process or _process()
            return self._process


@dataclass(eq=False)
class Calculator:
    """A few child processes, started when they are needed; one task each at a time, small ones never behind large ones only.

    seconds: the longest that a task may take.
    """

    seconds: float
    processes: int = 2
    _free: list[Child] = field(default_factory=list)
    _busy: set[Child] = field(default_factory=set)
    _places: asyncio.Semaphore | None = None
    _large: asyncio.Semaphore | None = None

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(2 * self.processes, "urgentmos-child")

    async def result(self, task: Task, *, large: bool = False) -> Any:
        """Run the task and return its result. UsageError as the task raises it; cancelling kills the process."""
        if self._places is None or self._large is None:  # in the loop that uses them
            self._places = asyncio.Semaphore(self.processes)
            self._large = asyncio.Semaphore(max(1, self.processes - 1))
        if large:
            async with self._large, self._places:
                return await self._run(task)
        async with self._places:
            return await self._run(task)

    def close(self) -> None:
        for child in (*self._free, *self._busy):
            child.kill()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, task: Task) -> Any:
        child = self._free.pop() if self._free else Child()
        self._busy.add(child)
        whole = False
        message = ceil(self.seconds + SPARE_SECONDS), task
        try:
            status, value = await asyncio.get_running_loop().run_in_executor(self._threads, child.exchange, message)
            whole = True
        except EOFError as e:
            raise CalculatorError(f"the process ended with status {e}") from e
        finally:
            self._busy.discard(child)
            if whole:
                self._free.append(child)
            else:
                child.kill()
        if status == "refused":
            raise UsageError(value)
        if status == "failed":
            raise CalculatorError(value)
        return value


def _process() -> subprocess.Popen[bytes]:
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, "-P", "-c", START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # the log is JSON; a failure comes as a result
        env={**os.environ, **threads, "PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C is for the service, which answers what it has accepted
    )


# ---- the child's side


def main() -> None:
    """Compute tasks until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    tasks, results = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no result
    while (message := _read(tasks)) is not None:
        seconds, task = message
        if hasattr(signal, "alarm"):
            signal.alarm(seconds)
        data = pickle.dumps(_outcome(task))
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        results.write(LENGTH.pack(len(data)) + data)
        results.flush()


def _read(stream: BinaryIO) -> Any:
    head = stream.read(LENGTH.size)
    return pickle.loads(stream.read(*LENGTH.unpack(head))) if len(head) == LENGTH.size else None


def _outcome(task: Task) -> tuple[str, Any]:
    try:
        return "done", task.run()
    except UrgentmosError as e:
        return "refused", str(e)
    except Exception:
        return "failed", traceback.format_exc()
