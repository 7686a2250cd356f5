"""Runs on many processors with Ray Data, on one machine or many: workers decode and compute, this process writes.

    read -> decode -> batches by duration -> actors that hold one model each -> Parquet shards beside the output

Ray moves the work; what it computes is what the local engine computes, clip by clip: outcomes go into a journal, and the
rows are made from the journal by the very code that makes them without a cluster. A worker or a node that dies is replaced
and its clips are done again, as far as they were not delivered; outcomes are written once, by this process. A clip that kills
its process again and again gets a row with that reason. What was written survives a kill of this process, too.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from urgentmos.audio.places.names import Place, is_elsewhere, place_of
from urgentmos.audio.places.remote import Page, trust_pages, trusted
from urgentmos.clips.journal import Journal, Outcome, Shards, Task
from urgentmos.cluster.session import ray_session as _ray
from urgentmos.common.console import say
from urgentmos.common.packaged import PACKAGED
from urgentmos.errors import UsageError, need

if TYPE_CHECKING:
    from urgentmos.audio.windows import AudioReader
    from urgentmos.judges.base import Predictor, Progress
    from urgentmos.labellers import Settings
    from urgentmos.labellers.loop import Stage

PIECE_CLIPS = 32  # decoded by one task of Ray
BATCH_SECONDS = 240.0  # of audio that travel to a model together
BATCH_BYTES = 64 << 20  # of decoded audio likewise; a longer recording is decoded where the model is
ROUND_CLIPS = 100_000  # planned at a time, so that a plan stays small for any corpus
SHARD_CLIPS, SHARD_SECONDS = 1_000, 20.0  # a Parquet shard is written after so many clips, or so long
# Less than half a core each, so that what ran on a node that died finds room on the others, and does not wait for ever for
# cores that nobody gives back; how many run at once is limited otherwise.
MODEL_CPUS, DECODER_CPUS = 0.45, 0.1
ATTEMPTS = 3  # of a round, after errors that Ray could not mend
DEATHS = 2  # of processes that had begun this very clip: then it is to blame
REPORT_SECONDS = 60.0  # between two lines about a long run


class Work(Protocol):
    """One pass over the clips. Travels to the workers by pickle."""

    @property
    def stage(self) -> str:
        """Key of its outcomes in the journal."""

    @property
    def title(self) -> str: ...

    @property
    def gpu(self) -> bool:
        """Whether its model computes on a GPU where there is one."""

    def decode(self, task: Task) -> Any:
        """Decode the samples that the model needs of a clip. Never raises."""

    def start(self) -> Callable[[Sequence[Any]], list[Outcome]]:
        """Load the model, once per actor; return a function from decoded clips to outcomes. UsageError if it cannot load."""

    def crash_outcome(self, task: Task) -> Outcome:
        """The outcome of a clip that kills the process that decodes or measures it."""


@dataclass(frozen=True)
class NetworkWork:
    """A network scores clips."""

    model: str
    device: str
    stage: str
    title: str
    reader: AudioReader
    gpu: bool

    def decode(self, task: Task) -> Any:
        return self.reader.try_open(task.audio_path)

    def start(self) -> Callable[[Sequence[Any]], list[Outcome]]:
        from urgentmos.api import load
        from urgentmos.judges.network import Network

        judge = load(self.model, device=self.device, allow_download=False)
        assert isinstance(judge, Network)
        if judge.stage != self.stage:
            raise UsageError(f"a worker has {judge.stage} and this machine {self.stage}. Install the same everywhere.")
        return judge.outcomes_of

    def crash_outcome(self, task: Task) -> Outcome:
        return Outcome(error=f"{task.audio_path}: the process that scored it died (a crash in its code, or no memory left)")


@dataclass(frozen=True)
class LabelWork:
    """The labellers of one stage measure clips."""

    labeller_stage: Stage
    settings: Settings
    gpu: bool = False

    @property
    def stage(self) -> str:
        return self.labeller_stage.key(self.settings)

    @property
    def title(self) -> str:
        return self.labeller_stage.title

    def decode(self, task: Task) -> Any:
        from urgentmos.labellers.loop import listen

        return listen(task, self.labeller_stage.labellers)

    def start(self) -> Callable[[Sequence[Any]], list[Outcome]]:
        from urgentmos.labellers.loop import measure_heard, one_torch_thread

        measures = [(row, row.load(self.settings)) for row in self.labeller_stage.labellers]

        def measure(samples: Sequence[Any]) -> list[Outcome]:
            with one_torch_thread():
                return [measure_heard(clip, reference, measures) for clip, reference in samples]

        return measure

    def crash_outcome(self, task: Task) -> Outcome:
        from urgentmos.labellers.loop import died

        return died(self.labeller_stage)


def works_of(judge: Predictor, model: str, device: str, settings: Settings) -> list[Work]:
    """The passes that score clips by a judge; none if the manifest holds the scores."""
    from urgentmos.judges.network import Network
    from urgentmos.labellers import MEASURABLE

    if isinstance(judge, Network):
        a_path = model not in PACKAGED and os.path.exists(model)  # as in `models.names.resolve`; workers start elsewhere
        model_path = os.path.abspath(model) if a_path else model
        gpu = device.startswith("cuda") or (device == "auto" and not judge.light)
        return [NetworkWork(model_path, device, judge.stage, judge.name, judge.reader, gpu)]
    return label_works([judge.name], settings) if judge.name in MEASURABLE else []


def label_works(metrics: Iterable[str], settings: Settings) -> list[Work]:
    """The passes that measure metrics, in the order of the local engine."""
    from urgentmos.labellers.loop import stages

    return [LabelWork(stage, settings) for stage in stages(metrics)]


# ---- the run


@dataclass
class Meter:
    """The progress of a run, and its time by stage."""

    done: int = 0
    seconds: float = 0.0  # of audio
    decoding: float = 0.0  # seconds of workers
    computing: float = 0.0
    writing: float = 0.0  # seconds of this process
    began: float = field(default_factory=time.monotonic)

    def sentence(self) -> str:
        took = max(time.monotonic() - self.began, 1e-9)
        total = max(self.decoding + self.computing + self.writing, 1e-9)
        shares = ", ".join(
            f"{name} {share / total:.0%}"
            for name, share in (("decoding", self.decoding), ("computing", self.computing), ("writing", self.writing))
        )
        audio = (
            f"{self.seconds / 3600:.3g} h of audio in {took / 3600:.3g} h" if took > 360 else f"{self.seconds:.0f} s of audio"
        )
        wall = "" if took > 360 else f" in {took:.0f} s"
        return f"{self.done} clips, {audio}{wall}: {self.seconds / took:.1f} hours per hour; {shares}"


def run_on_cluster(
    address: str,
    tasks: Sequence[Task],
    works: Sequence[Work],
    shards: Path,
    progress: Progress | None = None,
    *,
    jobs: int | None = None,
) -> None:
    """Fill the folder `shards` with the outcomes of all tasks; those that it holds already are not done again.

    address: "local" starts Ray on this machine with `jobs` cores (None: all), anything else joins the cluster there.
    UsageError if that cannot be, or if the workers cannot load the model.
    """
    shards.mkdir(exist_ok=True)
    todo = list(dict.fromkeys(tasks))
    with _ray(address, jobs) as ray:
        for work in works:
            with Journal.open(shards) as log:
                stored = {task: kept for task in todo if (kept := log.get(work.stage, task)) and not kept.passing}
            errors = {task for task, outcome in stored.items() if outcome.error}
            errors |= _run_work(ray, work, [task for task in todo if task not in stored], len(stored), shards, progress)
            todo = [task for task in todo if task not in errors]  # what one pass cannot decode, no other can


def _run_work(ray: Any, work: Work, tasks: list[Task], stored: int, shards: Path, progress: Progress | None) -> set[Task]:
    """Do the tasks; those that could not be decoded are returned."""
    undecoded: set[Task] = set()
    if not tasks:
        return undecoded
    meter, reported = Meter(), time.monotonic()
    with Shards.append(shards, work.stage, SHARD_CLIPS, SHARD_SECONDS) as out:
        for first in range(0, len(tasks), ROUND_CLIPS):
            for task, outcome, times in _round(ray, work, tasks[first : first + ROUND_CLIPS]):
                out.add(task, outcome)
                meter.done += 1
                meter.seconds += outcome.duration or 0.0
                meter.decoding, meter.computing = meter.decoding + times[0], meter.computing + times[1]
                meter.writing = out.seconds
                if outcome.error:
                    undecoded.add(task)
                if progress:
                    progress(work.title, stored + meter.done, stored + len(tasks))
                if time.monotonic() - reported > REPORT_SECONDS and not sys.stderr.isatty():
                    reported = time.monotonic()
                    say(f"{work.title}: {stored + meter.done} of {stored + len(tasks)}; {meter.sentence()}")
    meter.writing = out.seconds
    say(f"{work.title}: {meter.sentence()}")
    return undecoded


def _round(ray: Any, work: Work, tasks: list[Task]) -> Iterator[tuple[Task, Outcome, tuple[float, float]]]:
    """Each task once with its outcome, and the seconds that decoding and computing took."""
    done: set[int] = set()
    for attempt in range(1, ATTEMPTS + 1):
        missing = [place for place in range(len(tasks)) if place not in done]
        if not missing:
            return
        try:
            for place, outcome, times in _stream(ray, work, tasks, missing):
                if place not in done:  # a node that died may have delivered already
                    done.add(place)
                    yield tasks[place], outcome, times
        except ray.exceptions.RayError as e:
            if attempt == ATTEMPTS:
                raise
            say(f"{work.title}: {type(e).__name__}; what is missing is done again")
    missing = [place for place in range(len(tasks)) if place not in done]
    if missing:
        raise UsageError(f"the cluster lost {len(missing)} clips, the first: {tasks[missing[0]].audio_path}. Run it again.")


def _stream(
    ray: Any, work: Work, tasks: Sequence[Task], places: Sequence[int]
) -> Iterator[tuple[int, Outcome, tuple[float, float]]]:
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0)) if work.gpu else 0
    cpus = max(1, math.floor(resources.get("CPU", 1)))
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    ledger = ray.remote(num_cpus=0, scheduling_strategy=here)(_Ledger).remote()  # lives as long as this process
    folder = os.getcwd() if any(_is_relative(tasks[place]) for place in places) else None
    pieces = [{"piece": pickle.dumps(piece)} for piece in _pieces(tasks, places)]
    decoded = ray.data.from_items(pieces, override_num_blocks=len(pieces)).flat_map(
        _Decode(work, ledger, folder, trusted()), num_cpus=1.0 if gpus else DECODER_CPUS, concurrency=cpus
    )
    computed = decoded.map(
        _Compute,
        fn_constructor_args=(work, ledger, folder, trusted()),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=gpus or cpus),
        **({"num_gpus": 1, "num_cpus": 1.0} if gpus else {"num_cpus": MODEL_CPUS}),
    )
    for row in computed.iter_rows():
        if row["fatal"]:
            raise UsageError(row["fatal"])
        outcomes = json.loads(row["outcomes"])
        for place, outcome in outcomes:
            yield place, Outcome(**outcome), (row["decoding"] / len(outcomes), row["computing"] / len(outcomes))


def _is_relative(task: Task) -> bool:
    places = [place_of(path) for path in task if path is not None]
    return any(not place.remote and not os.path.isabs(place.file) for place in places)


def _pieces(tasks: Sequence[Task], places: Sequence[int]) -> Iterator[tuple[list[tuple[int, Task]], dict[Any, Any]]]:
    """Neighbours together, with the places of their members, so that no worker walks a tar."""
    for first in range(0, len(places), PIECE_CLIPS):
        piece = [(place, tasks[place]) for place in places[first : first + PIECE_CLIPS]]
        yield piece, _hints([task for _, task in piece])


def _hints(tasks: Iterable[Task]) -> dict[Any, Any]:
    from urgentmos.audio.formats import TAR_ENDINGS

    members: dict[str, list[str]] = {}
    for path in (path for task in tasks for path in task if path is not None and is_elsewhere(path)):
        place: Place = place_of(path)
        if place.member and place.file.lower().endswith(TAR_ENDINGS):
            members.setdefault(place.file, []).append(place.member)
    offsets: dict[Any, Any] = {}
    for file, names in members.items():
        from urgentmos.audio.places import tar

        try:
            offsets |= tar.hints(file, names)
        except UsageError:  # its clips get their rows from the reader
            continue
    return offsets


# ---- on the workers


class _Ledger:
    """Counts the starts of clips that have not ended, which finds a clip that kills its process. An actor of Ray."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, name: str) -> int:
        """How often it was begun before, and not ended."""
        self._begun[name] += 1
        return self._begun[name] - 1

    def end(self, name: str) -> None:
        self._begun.pop(name, None)


def _guarded(ledger: Any, name: str) -> int:
    ray: Any = need("ray", "cluster")
    return int(ray.get(ledger.begin.remote(name)))


@dataclass
class _Decode:
    """Decodes a piece and cuts it into batches. Runs as a task of Ray."""

    work: Work
    ledger: Any
    folder: str | None
    pages: set[Page]

    def __call__(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        from urgentmos.audio.places import tar

        trust_pages(self.pages)
        try:
            _go_to(self.folder)
        except UsageError as e:
            yield {"batch": b"", "decoding": 0.0, "fatal": str(e)}
            return
        piece, hints = pickle.loads(row["piece"])
        tar.set_member_offsets(hints)
        name = f"decode {piece[0][0]}"
        alone = _guarded(self.ledger, name) > 0  # a process died in this piece: look at each clip
        batch: list[tuple[int, Task, Any, Outcome | None]] = []
        size, seconds, began = 0, 0.0, time.perf_counter()
        for place, task in piece:
            samples, outcome = None, None
            own = f"{name} {place}"
            if alone and _guarded(self.ledger, own) >= DEATHS:
                outcome = self.work.crash_outcome(task)
            else:
                samples = self.work.decode(task)
            if alone:
                self.ledger.end.remote(own)
            own_size, own_seconds = _size_of(samples)
            if own_size > BATCH_BYTES:
                samples, own_size, own_seconds = None, 0, BATCH_SECONDS
            if batch and (size + own_size > BATCH_BYTES or seconds + own_seconds > BATCH_SECONDS):
                yield _batch_row(batch, time.perf_counter() - began)
                batch, size, seconds, began = [], 0, 0.0, time.perf_counter()
            batch.append((place, task, samples, outcome))
            size, seconds = size + own_size, seconds + own_seconds
        yield _batch_row(batch, time.perf_counter() - began)
        self.ledger.end.remote(name)


def _batch_row(batch: list[tuple[int, Task, Any, Outcome | None]], took: float) -> dict[str, Any]:
    return {"batch": pickle.dumps(batch, protocol=5), "decoding": took, "fatal": ""}


def _size_of(samples: Any) -> tuple[int, float]:
    """(bytes, seconds) of decoded audio decoded by a work."""
    import numpy as np

    from urgentmos.audio.samples import Audio
    from urgentmos.audio.windows import OpenedAudio

    if isinstance(samples, tuple | list):
        sizes = [_size_of(part) for part in samples]
        return sum(size for size, _ in sizes), max((seconds for _, seconds in sizes), default=0.0)
    if isinstance(samples, OpenedAudio):
        return _size_of(samples.whole)
    if isinstance(samples, Audio):
        return samples.wave.nbytes, len(samples.wave) / samples.rate
    return (samples.nbytes, 0.0) if isinstance(samples, np.ndarray) else (0, 0.0)


class _Compute:
    """Holds a model, makes outcomes of batches. An actor of Ray."""

    def __init__(self, work: Work, ledger: Any, folder: str | None, pages: set[Page]) -> None:
        trust_pages(pages)
        self._work, self._ledger = work, ledger
        self._fatal = ""
        try:
            _go_to(folder)
            self._model = work.start()
        except UsageError as e:  # Ray would start one actor after the other
            self._fatal = str(e)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if fatal := self._fatal or row["fatal"]:
            return {"outcomes": "[]", "decoding": 0.0, "computing": 0.0, "fatal": fatal}
        began = time.perf_counter()
        batch = pickle.loads(row["batch"])
        name = f"compute {batch[0][0]}"
        if _guarded(self._ledger, name) == 0:
            outcomes = self._together(batch)
        else:
            outcomes = [self._alone(f"{name} {one[0]}", one) for one in batch]
        self._ledger.end.remote(name)
        rows = [[one[0], outcome.to_dict()] for one, outcome in zip(batch, outcomes, strict=True)]
        took = time.perf_counter() - began
        return {"outcomes": json.dumps(rows), "decoding": row["decoding"], "computing": took, "fatal": ""}

    def _together(self, batch: Sequence[tuple[int, Task, Any, Outcome | None]]) -> list[Outcome]:
        fit = [i for i, (_, _, _, outcome) in enumerate(batch) if outcome is None]
        samples = [self._samples(batch[i]) for i in fit]
        scored = dict(zip(fit, self._model(samples), strict=True)) if fit else {}
        return [scored[i] if own is None else own for i, (_, _, _, own) in enumerate(batch)]

    def _alone(self, name: str, one: tuple[int, Task, Any, Outcome | None]) -> Outcome:
        if _guarded(self._ledger, name) >= DEATHS:
            return self._work.crash_outcome(one[1])
        (outcome,) = self._together([one])
        self._ledger.end.remote(name)
        return outcome

    def _samples(self, one: tuple[int, Task, Any, Outcome | None]) -> Any:
        """Decode the recordings that were too large to travel."""
        return self._work.decode(one[1]) if one[2] is None else one[2]


def _go_to(folder: str | None) -> None:
    """Relative paths mean the same here as where the command was given."""
    if folder is None or os.getcwd() == folder:
        return
    try:
        os.chdir(folder)
    except OSError as e:
        raise UsageError(f"a worker has no folder {folder} ({e.strerror}). Name the files by absolute paths or URLs.") from e
