"""The loop around the labellers: one model in memory at a time, clips inside, append as you go, resume after a kill.

Labellers without a model share one pass over the clips, so that each file is decoded once for all of them; each model
gets a pass of its own. Finished measurements are appended to a journal; a later run with the same files, labellers,
versions and weights takes them from there, and measures the rest.
"""

import gc
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from urgentmos import __version__
from urgentmos.audio.places.remote import Page, trust_pages, trusted
from urgentmos.audio.samples import Audio
from urgentmos.audio.samples import load as load_audio
from urgentmos.clips.clip import Clip
from urgentmos.clips.journal import Journal, Outcome, Task
from urgentmos.clips.provenance import with_values
from urgentmos.clips.sources import measured_by
from urgentmos.common.clip_warnings import CHANNELS, SILENCE, detail_of, kind_of
from urgentmos.common.interrupts import deaf_children, quiet_tracker
from urgentmos.common.untrusted import reason
from urgentmos.errors import AudioError, MeasureError
from urgentmos.labellers import LABELLERS, Labeller, Measure, Settings, Signals, labeller_of, pesq
from urgentmos.metrics import METRICS

Progress = Callable[[str, int, int], None]  # what is measured, clips done, clips in all
ROUNDING = 1e-5  # by which a cosine of equal vectors, say, may exceed its bound; a label must not
TAIL_SECONDS = 0.1  # by which a clip and its reference signal may differ in length
CLIPS_PER_JOB = 4  # fewer than these do not pay for the start of a process


@dataclass(frozen=True)
class Labelled:
    """A clip with its labels filled in, with warnings."""

    clip: Clip
    error: str | None = None
    warnings: list[str] = field(default_factory=list)
    bandwidth: float | None = None  # Hz; see `audio.AudioInfo`


@dataclass(frozen=True)
class Stage:
    """Labellers that share a pass over the clips."""

    labellers: tuple[Labeller, ...]

    @property
    def title(self) -> str:
        return ", ".join(row.name for row in self.labellers)

    def key(self, settings: Settings) -> str:
        """Changes whenever a measurement of this stage could change."""
        rows = [[row.name, row.versions(), settings.weights.get(row.name)] for row in self.labellers]
        return json.dumps([__version__, rows], sort_keys=True)


def stages(metrics: Iterable[str]) -> list[Stage]:
    """Metrics -> passes over the clips: all signal metrics together, then the models one by one."""
    wanted = {labeller_of(name).name for name in metrics}
    rows = [row for row in LABELLERS if row.name in wanted]
    light = tuple(row for row in rows if not row.model)
    return [Stage(light)] * bool(light) + [Stage((row,)) for row in rows if row.model]


def label(
    clips: Sequence[Clip],
    metrics: Sequence[str],
    settings: Settings | None = None,
    *,
    jobs: int = 1,
    journal: Path | None = None,
    progress: Progress | None = None,
) -> Iterator[Labelled]:
    """Measure `metrics` of each clip; as many results as clips, in their order.

    `jobs` processes share the work (1: this process). With `journal`, finished measurements survive a kill; delete the
    file when the results are safe. Raises UsageError before any work if a labeller cannot be loaded.
    """
    settings = settings or Settings()
    tasks = [Task(clip.audio_path, clip.reference_path) for clip in clips]
    passes = stages(metrics)
    for stage in passes if jobs > 1 or len(passes) > 1 else ():  # a labeller that cannot be loaded fails here, before any work
        for row in stage.labellers:
            row.load(settings)
        gc.collect()
    outcomes_by_pass: list[dict[Task, Outcome]] = []
    unheard: dict[Task, Outcome] = {}
    with Journal.open(journal) as log:
        for stage in passes:
            todo = [task for task in dict.fromkeys(tasks) if task not in unheard]
            outcomes = _run_stage(stage, todo, settings, jobs, log, progress)
            unheard |= {task: outcome for task, outcome in outcomes.items() if outcome.error}
            outcomes_by_pass.append(outcomes | unheard)
    all_versions = versions(passes, settings)
    for clip, task in zip(clips, tasks, strict=True):
        yield merge(clip, metrics, [outcomes[task] for outcomes in outcomes_by_pass], all_versions)


def versions(passes: Iterable[Stage], settings: Settings) -> dict[str, str]:
    """Labeller -> its packages with versions, and the weights it was given."""
    texts = {}
    for row in (row for stage in passes for row in stage.labellers):
        parts = [f"{package} {number}" for package, number in row.versions().items()]
        weights = settings.weights.get(row.name)
        texts[row.name] = ", ".join([f"urgentmos {__version__}", *parts, *([] if weights is None else [weights])])
    return texts


def merge(clip: Clip, metrics: Sequence[str], outcomes: Sequence[Outcome], versions: dict[str, str]) -> Labelled:
    """The outcomes of all stages -> one labelled clip."""
    error = next((o.error for o in outcomes if o.error), None)
    values: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for outcome in outcomes:
        values |= outcome.values
        reasons |= outcome.reasons
    labels = {name: values.get(name) for name in metrics}
    missing: dict[str, list[str]] = {}
    for name in metrics:
        if name in reasons:
            reason = (METRICS[name].needs_reference and clip.reference_fault) or reasons[name]
            missing.setdefault(reason, []).append(name)
    if error is None and missing:
        error = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in missing.items())
    heard = next((o for o in outcomes if o.duration is not None), Outcome())
    meta: dict[str, Any] = {"labellers": {labeller_of(name).name: versions[labeller_of(name).name] for name in metrics}}
    if heard.rate is not None:
        meta["sample_rate"] = heard.rate
        if labels.get("pesq") is not None or labels.get("pesqc2") is not None:
            meta["pesq_mode"] = pesq.mode(heard.rate)
    warnings = list(dict.fromkeys(w for o in outcomes for w in o.warnings))
    duration = clip.duration if heard.duration is None else round(heard.duration, 6)
    sources = {name: measured_by(labeller, versions[labeller]) for name in metrics for labeller in [labeller_of(name).name]}
    labelled = with_values(replace(clip, duration=duration, meta={**clip.meta, **meta}), labels, sources)
    return Labelled(labelled, error, warnings, heard.bandwidth)


def _run_stage(
    stage: Stage, tasks: Sequence[Task], settings: Settings, jobs: int, log: Journal, progress: Progress | None
) -> dict[Task, Outcome]:
    key = stage.key(settings)
    outcomes = {task: stored for task in tasks if (stored := log.get(key, task)) is not None}
    todo = [task for task in tasks if task not in outcomes]
    if progress:
        progress(stage.title, len(outcomes), len(tasks))
    if not todo:
        return outcomes
    jobs = min(jobs, math.ceil(len(tasks) / CLIPS_PER_JOB))  # of all, so that a resumed run works as the first one did
    for task, outcome in _in_processes(stage, todo, settings, jobs) if jobs > 1 else _here(stage, todo, settings):
        outcomes[task] = outcome
        log.append(key, task, outcome)
        if progress:
            progress(stage.title, len(outcomes), len(tasks))
    gc.collect()  # the model goes before the next one comes
    return outcomes


# ---- one clip


def measure(task: Task, measures: Sequence[tuple[Labeller, Measure]]) -> Outcome:
    """Listen once, let every labeller of the stage measure. Never raises: what went wrong is in the outcome."""
    return measure_heard(*listen(task, [row for row, _ in measures]), measures)


def listen(task: Task, labellers: Iterable[Labeller]) -> tuple[Audio | str, Audio | str | None]:
    """(clip, reference signal if one of the labellers needs it), or the reason in place of one that cannot be decoded."""
    heard = _hear(task.audio_path)
    if isinstance(heard, str) or task.reference_path is None:
        return heard, None
    if not any(METRICS[name].needs_reference for row in labellers for name in row.metrics):
        return heard, None
    reference = _hear(task.reference_path)
    return heard, f"reference signal: {reference}" if isinstance(reference, str) else reference


def measure_heard(heard: Audio | str, reference: Audio | str | None, measures: Sequence[tuple[Labeller, Measure]]) -> Outcome:
    """Measure the result of `listen` with these labellers. Never raises."""
    return Outcome(error=heard) if isinstance(heard, str) else measure_audio(heard, reference, measures)


def _hear(path: str) -> Audio | str:
    """The recording, or the reason why it cannot be decoded."""
    try:
        return load_audio(path)
    except AudioError as e:
        return str(e)
    except Exception as e:  # a decoder's bug must not end the other clips
        return f"{path} cannot be decoded: {reason(e)}. Export it again"


def measure_audio(heard: Audio, reference: Audio | str | None, measures: Sequence[tuple[Labeller, Measure]]) -> Outcome:
    """Every labeller's values for one recording; `reference` may be the reason why there is no such signal.

    Warnings of the reference signal are the clip's, too, where a value rests on it.
    """
    alone = Signals(heard.wave, heard.rate)
    paired, problem, notes = _paired(heard, reference)
    if isinstance(reference, Audio):
        notes = [*notes, *(f"{warning} (reference signal)" for warning in reference.info.warnings)]
    values: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for row, function in measures:
        intrusive = METRICS[row.metrics[0]].needs_reference
        try:
            if intrusive and problem:
                _check_length(row, alone)
                raise MeasureError(problem)
            values |= _checked(row, function, paired if intrusive else alone)
        except Exception as e:
            why = str(e) if isinstance(e, MeasureError) else f"{row.name} failed: {type(e).__name__}: {e}"
            if heard.info.cancels_wholly:  # what is left looks like silence, and is none
                why = next(warning for warning in heard.info.warnings if kind_of(warning) == CHANNELS)
            reasons |= dict.fromkeys(row.metrics, why)
    used = notes if any(METRICS[name].needs_reference for name in values) else []
    warnings, info = [*heard.info.warnings, *used], heard.info
    return Outcome(values, reasons, None, warnings, info.duration, heard.rate, info.bandwidth)


def _paired(heard: Audio, reference: Audio | str | None) -> tuple[Signals, str | None, list[str]]:
    """(clip with its reference signal, why they do not fit together, warnings).

    Enhancers that work in frames return a few milliseconds less than they got. The challenge's scripts refuse such
    files; here the longer signal loses its tail, with a warning. Nothing is aligned: a delay stays a fault.
    """
    signals = Signals(heard.wave, heard.rate)
    if reference is None or isinstance(reference, str):
        return signals, reference, []
    if reference.rate != heard.rate:
        return (
            signals,
            f"the reference signal is at {reference.rate} Hz and the clip at {heard.rate} Hz. Resample one of them",
            [],
        )
    if (problem := _no_reference(reference)) is not None:
        return signals, problem, []
    length, surplus = len(heard.wave), len(heard.wave) - len(reference.wave)
    if surplus == 0 or abs(surplus) > TAIL_SECONDS * heard.rate:
        return Signals(heard.wave, heard.rate, reference.wave), None, []
    shorter = min(length, len(reference.wave))
    warning = f"{abs(surplus)} samples at the end of the {'clip' if surplus > 0 else 'reference signal'} were left out"
    return Signals(heard.wave[:shorter], heard.rate, reference.wave[:shorter]), None, [f"unequal lengths: {warning}"]


def _no_reference(reference: Audio) -> str | None:
    """Why nothing can be measured against this recording."""
    of = {kind_of(warning): warning for warning in reference.info.warnings}
    if SILENCE in of:
        return f"the reference signal is silent ({detail_of(of[SILENCE])}). Give a reference signal that holds speech"
    if reference.info.cancels_wholly:
        return f"the channels of the reference signal cancel ({detail_of(of[CHANNELS])})"
    return None


def _check_length(row: Labeller, signals: Signals) -> None:
    seconds = len(signals.wave) / signals.rate
    for metric in (METRICS[name] for name in row.metrics):
        if seconds < metric.min_seconds:
            raise MeasureError(f"{seconds:.3g} s is shorter than the {metric.min_seconds:g} s that {metric.title} needs")


def _checked(row: Labeller, function: Measure, signals: Signals) -> dict[str, float]:
    """The values of one labeller, if the clip is long enough and they are numbers."""
    _check_length(row, signals)
    values = {}
    for name, value in function(signals).items():
        if not math.isfinite(value):
            raise MeasureError(f"{name} came out as {value}")
        bounded = METRICS[name].clip(value)
        # the last digits depend on how many threads BLAS has, and must not depend on the number of processes
        values[name] = round(float(bounded if abs(bounded - value) < ROUNDING else value), 9)
    return values


# ---- many clips


def _here(stage: Stage, tasks: Iterable[Task], settings: Settings) -> Iterator[tuple[Task, Outcome]]:
    measures = [(row, row.load(settings)) for row in stage.labellers]
    for task in tasks:
        with one_torch_thread():
            outcome = measure(task, measures)
        yield task, outcome


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """As in a worker: the same digits, and no threads that wait for each other on a busy machine."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_measures: list[tuple[Labeller, Measure]] = []  # of a worker process


def _start_worker(stage: Stage, settings: Settings, pages: set[Page]) -> None:
    import multiprocessing
    import threading

    trust_pages(pages)

    def die_with_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=die_with_parent, daemon=True).start()
    _measures[:] = [(row, row.load(settings)) for row in stage.labellers]
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _work(task: Task) -> Outcome:
    return measure(task, _measures)


def _in_processes(stage: Stage, tasks: Sequence[Task], settings: Settings, jobs: int) -> Iterator[tuple[Task, Outcome]]:
    """Results as they come. A clip that kills its process costs itself only: the suspects are tried again one by one."""
    waiting = list(reversed(tasks))
    while waiting:
        running: dict[Future[Outcome], Task] = {}
        try:
            with _pool(stage, settings, jobs) as pool:
                while waiting or running:
                    while waiting and len(running) < 2 * jobs:
                        task = waiting[-1]
                        with deaf_children():
                            running[pool.submit(_work, task)] = task
                        waiting.pop()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        outcome = future.result()
                        yield running.pop(future), outcome
        except BrokenProcessPool:
            for task in running.values():
                yield task, _alone(stage, task, settings)


def _alone(stage: Stage, task: Task, settings: Settings) -> Outcome:
    """One task in a process of its own."""
    try:
        with _pool(stage, settings, 1) as pool:
            with deaf_children():
                future = pool.submit(_work, task)
            return future.result()
    except BrokenProcessPool:
        return died(stage)


def died(stage: Stage) -> Outcome:
    """The outcome of a clip that kills its process."""
    why = f"the process that measured {stage.title} died (a crash in its code, or no memory left)"
    return Outcome(reasons=dict.fromkeys((m for row in stage.labellers for m in row.metrics), why))


@contextmanager
def _pool(stage: Stage, settings: Settings, jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes with one thread each; libraries read the number of threads when a process starts."""
    from multiprocessing import get_context

    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    quiet_tracker()
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, (stage, settings, trusted()))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
