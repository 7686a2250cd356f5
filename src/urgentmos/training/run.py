"""Training: a configuration -> a run folder with a model in it. UrgentMOS, URGENT-PK and UTMOS on one way of feeding them.

What a run leaves behind is in folder.py.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from urgentmos import __version__
from urgentmos.errors import UsageError, need
from urgentmos.metrics import direction
from urgentmos.training.config import TrainConfig, with_epochs
from urgentmos.training.folder import MODEL, RUN, Trained, describe, open_folder, result_of, run_folder, write_whole

if TYPE_CHECKING:
    from urgentmos.clips.clip import Clip
    from urgentmos.training.checkpointing import Keeper, Tell
    from urgentmos.training.data import Data
    from urgentmos.training.start import Start
    from urgentmos.training.tasks import Task

Say = Callable[[str], None]


def fit(
    config: TrainConfig,
    *,
    say: Say = lambda text: None,
    tell: Tell | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Trained:
    """Train, or go on with a run that was interrupted: the same configuration in the same folder.

    say(sentence) is called with messages, tell(step, steps, losses) after each step, progress(title, done, total) while the
    feature cache fills.
    Raises UsageError if the configuration or the data cannot be used, or the folder belongs to another run.
    """
    need("lightning", "train")
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    if getattr(rank_zero_only, "rank", 0):  # one process speaks for all
        say = _nothing
    with _quiet():
        return _fit(config, say, tell, progress)


def _nothing(text: str) -> None:
    pass


def _fit(config: TrainConfig, say: Say, tell: Tell | None, progress: Any) -> Trained:
    from urgentmos.training.checkpointing import state_of
    from urgentmos.training.plans import count_batches

    folder = run_folder(config)
    data, valid = both_sides(config, say)
    prepared = _prepare(config, data, valid, say)
    planner = _planner(config, data, prepared.task, prepared.scope)
    per_epoch = count_batches(planner, 1)
    if not per_epoch:
        raise UsageError("no batch could be made of the data: no clip has a label that this model learns, or no pair is left.")
    if not config.steps:
        config = with_epochs(config, max(1, count_batches(planner, config.epochs) // config.accumulate))
        prepared.task.settings = config
    every = config.valid_every or (max(1, per_epoch // config.accumulate) if prepared.is_pk else 1000)
    description = describe(config, data, valid)
    open_folder(folder, config, description)
    state = state_of(folder)
    done = result_of(folder)
    if done is not None and state is not None and state["step"] >= config.steps:
        say(f"{folder} is finished. Its model is {done.model}.")
        return done
    if state is not None:
        say(f"going on at step {state['step']} of {config.steps}")
    feed = Feed(config, data, valid, prepared, planner, folder, say, progress)
    keeper = _keeper(config, folder, every, prepared, feed, say, tell)
    trainer = _train(config, prepared.task, feed, keeper, folder, state)
    if not trainer.is_global_zero:
        return Trained(folder, folder / MODEL, 0, None)
    return _finish(folder, keeper, valid, prepared, description, say)


# ---- data and net


def both_sides(config: TrainConfig, say: Say = lambda text: None) -> tuple[Data, Data]:
    """(training data, validation data), no content on both sides."""
    from urgentmos.training.data import Data, content_of, read_data, split

    if not config.data and not config.pairs:
        raise UsageError("there is nothing to train on. Give manifests with data=FILE,... or pairs with pairs=FILE,...")
    data = read_data(config.data, config.pairs, say, config.judge)
    if not config.valid and not config.valid_pairs:
        kept, held = split(data, config.valid_share)
        if config.valid_share and not held.clips:
            say("Warning: no content fell to validation, the last model will be kept. Raise valid_share.")
        if not kept.clips:
            raise UsageError(f"all contents fell to validation. Lower valid_share={config.valid_share:g}, or give more data.")
        return kept, held
    valid = read_data(config.valid, config.valid_pairs, say, config.judge) if config.valid or config.valid_pairs else Data([])
    shared = {content_of(c) for c in data.clips if c.reference_id} & {content_of(c) for c in valid.clips if c.reference_id}
    files = {os.path.realpath(c.audio_path) for c in data.clips} & {os.path.realpath(c.audio_path) for c in valid.clips}
    if files:
        raise UsageError(f"{len(files)} recordings are in data and in valid, such as {min(files)}. Keep each on one side.")
    if shared:
        say(f"Warning: {len(shared)} contents are in data and in valid, such as {min(shared)}.")
    return data, valid


@dataclass(frozen=True)
class Prepared:
    """A task and what it is taught."""

    task: Task
    start: Start
    scope: str
    metrics: tuple[str, ...]  # with labels, of those that the net has
    is_pk: bool


def _prepare(config: TrainConfig, data: Data, valid: Data, say: Say) -> Prepared:
    from urgentmos.nets.urgentmos import UrgentMos
    from urgentmos.nets.urgentpk import UrgentPk
    from urgentmos.training.plans import Planner
    from urgentmos.training.start import start
    from urgentmos.training.tasks import TASKS, UrgentMosTask, start_at_means

    labelled = data.labelled()
    scope = config.scope or _scope_of(config)
    possible = Planner(data, config.judge, scope, 1e9, 10**6, 1.0, 0, config.max_seconds, shuffled=False)
    pairs = config.comparative > 0 and any(plan.pairs for plan in possible.epoch(0))
    begun = start(config, sorted(labelled), pairs)
    net = begun.net
    if isinstance(net, UrgentMos):
        metrics = tuple(metric for metric in net.metrics if metric in labelled)
        if not pairs:
            say(f"Warning: no pairs ({config.judge} has no labels, or no two clips make a pair): only metrics are learned.")
        variances, means = _moments(data, metrics, net.config.ranges) if config.standardise else ({}, {})
        task: Task = UrgentMosTask(config, net, variances)
        if not begun.before:
            start_at_means(net, means)
    else:
        if config.judge not in labelled:
            raise UsageError(f"no clip has {config.judge}. Label the clips, or name another metric with judge=.")
        if direction(config.judge) < 0:
            raise UsageError(
                f"{config.judge} is smaller for better speech, and this net predicts opinions. Choose another judge=."
            )
        if config.judge != "mos_overall":
            say(f"Warning: the model will call its opinion of {config.judge} by its own name, as if listeners had given it.")
        metrics = ()
        task = TASKS[type(net)](config, net)
    return Prepared(task, begun, scope, metrics, isinstance(net, UrgentPk))


def _scope_of(config: TrainConfig) -> str:
    from urgentmos.nets.presets import read_preset

    if config.is_urgentpk or config.goes_on:
        return "reference"
    return read_preset(config.model).scope


def _moments(
    data: Data, metrics: Sequence[str], ranges: Mapping[str, tuple[float, float]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Variances and means of the labels of metrics that have no bound on one side or both."""
    import numpy as np

    unbounded = [metric for metric in metrics if not all(np.isfinite(ranges[metric]))]
    labels = {metric: data.label(metric) for metric in unbounded}
    variances = {metric: float(np.nanvar(values)) or 1.0 for metric, values in labels.items()}
    return variances, {metric: float(np.nanmean(values)) for metric, values in labels.items()}


def _planner(config: TrainConfig, data: Data, task: Task, scope: str, *, world: int = 1, shuffled: bool = True) -> Any:
    from urgentmos.training.plans import PairPlanner, Planner
    from urgentmos.training.tasks import UrgentMosTask, UrgentPkTask

    if isinstance(task, UrgentPkTask):
        pairs = config.batch_pairs * world
        return PairPlanner(data, config.judge, config.delta, pairs, config.seed, config.max_seconds, config.symmetric, shuffled)
    paired = isinstance(task, UrgentMosTask) and task.net.ncpm is not None
    return Planner(
        data,
        config.judge,
        scope if paired else "",
        config.batch_seconds * world,
        config.homologous,
        config.pairs_per_clip if shuffled else 64.0,
        config.seed,
        config.max_seconds,
        shuffled,
    )


class Feed:
    """The sources of batches, for training and for validation."""

    def __init__(
        self,
        config: TrainConfig,
        data: Data,
        valid: Data,
        prepared: Prepared,
        planner: Any,
        folder: Path,
        say: Say,
        progress: Any = None,
    ) -> None:
        self.config, self.data, self.valid, self.prepared, self.planner = config, data, valid, prepared, planner
        self.cache: Any = None
        net: Any = prepared.task.net
        if config.cache:
            if config.speed or config.crop < 1:
                raise UsageError("cache= keeps features of whole clips as they are. Leave it out, or speed= and crop=.")
            if not hasattr(net, "encoders"):
                raise UsageError("cache= is for UrgentMOS models, whose encoders are frozen. Leave it out.")
            self._fill(net, folder, say, progress)

    def _fill(self, net: Any, folder: Path, say: Say, progress: Any) -> None:
        from urgentmos.training.cache import FeatureCache

        self.cache = FeatureCache(self.config.cache, list(net.encoders), self.config.max_seconds)
        read = self._reader(self.data, cached=False).wave
        device = _device(self.config)
        count = self.cache.fill([*self.data.clips, *self.valid.clips], list(net.encoders), read, device, progress)
        net.to("cpu")
        say(f"features of {count} clips were made; the others were in {self.config.cache}")

    def _reader(self, data: Data, cached: bool = True, varied: bool = False) -> Any:
        from urgentmos.training.augment import Augment
        from urgentmos.training.data import Reader

        net: Any = self.prepared.task.net
        load = self.cache.load if cached and self.cache is not None else None
        return Reader(
            data,
            self.prepared.metrics,
            net.rate if hasattr(net, "rate") else 16_000,
            net.min_samples if hasattr(net, "min_samples") else 1600,
            self.config.max_seconds,
            self.config.judge,
            load=load,
            audio=load is None,
            memory_gb=self.config.memory_gb,
            augment=Augment(self.config.speed, self.config.crop, self.config.seed) if varied else None,
        )

    def training(self, start: int, rank: int, world: int) -> Any:
        """A DataLoader of batches from number `start` on, the share of one process."""
        from torch.utils.data import DataLoader

        from urgentmos.training.plans import Stream

        deal: Any = "pairs" if self.prepared.is_pk else "contents" if self.prepared.scope == "reference" else "clips"
        planner = self.planner
        if world > 1:
            planner = _planner(self.config, self.data, self.prepared.task, self.prepared.scope, world=world)
        workers = self.config.workers
        return DataLoader(
            self._reader(self.data, varied=True),
            batch_size=None,
            sampler=Stream(planner, start, rank, world, deal),
            collate_fn=_as_it_is,
            num_workers=workers,
            prefetch_factor=2 if workers else None,  # two batches a worker: memory stays bounded
            persistent_workers=bool(workers),
        )

    def validation(self) -> Iterator[Mapping[str, Any]]:
        """The batches of the validation data, always the same."""
        planner = _planner(self.config, self.valid, self.prepared.task, self.prepared.scope, shuffled=False)
        reader = self._reader(self.valid)
        for index, plan in enumerate(planner.epoch(0)):
            yield reader[index, plan]


def _as_it_is(item: Any) -> Any:
    return item


# ---- the run


def _device(config: TrainConfig) -> str:
    import torch

    return "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"


def _train(config: TrainConfig, task: Task, feed: Feed, keeper: Keeper, folder: Path, state: Mapping[str, int] | None) -> Any:
    import lightning

    from urgentmos.training.checkpointing import STATE

    class Module(lightning.LightningDataModule):
        def train_dataloader(self) -> Any:
            trainer: Any = self.trainer
            return feed.training(state["consumed"] if state else 0, trainer.global_rank, trainer.world_size)

    gpu = _device(config) == "cuda"
    if config.device == "gpu" and not gpu:
        raise UsageError("device=gpu, but there is none here. Use device=auto or cpu.")
    precision: Any = config.precision if config.precision != "auto" else "bf16-mixed" if gpu else "32-true"
    if precision == "bf16-mixed" and not gpu:
        raise UsageError("precision=bf16-mixed needs a GPU. Leave it out.")
    trainer = lightning.Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=config.devices,
        strategy=config.strategy,
        precision=precision,
        max_steps=config.steps,
        max_epochs=-1,
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=config.clip or None,
        logger=_logger(config, folder),
        callbacks=[keeper],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=folder,
    )
    trainer.fit(task, datamodule=Module(), ckpt_path=str(folder / STATE) if state else None)
    return trainer


def _logger(config: TrainConfig, folder: Path) -> Any:
    """TensorBoard's where it is installed and wanted; CSV logs are written anyway."""
    if not config.tensorboard:
        return False
    try:
        import_module("tensorboard")
    except ModuleNotFoundError:
        return False
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(folder, name="tensorboard", version="")


def _keeper(
    config: TrainConfig, folder: Path, every: int, prepared: Prepared, feed: Feed, say: Say, tell: Tell | None
) -> Keeper:
    from urgentmos.training.checkpointing import Keeper

    before = prepared.start.before
    corpora = sorted({clip.corpus or "unnamed" for clip in feed.data.clips})
    summary = f"{', '.join(corpora)} ({len(feed.data.clips)} clips, {len(feed.data.pairs)} native pairs)"
    info: dict[str, Any] = {
        "name": config.name or folder.resolve().name,
        "trained_on": f"{before['trained_on']}; then {summary}" if before.get("trained_on") else summary,
        "training": {"config": config.to_dict(), "urgentmos": __version__, "labels": feed.data.label_sources()},
    }
    if prepared.metrics:
        had = [metric for metric in before.get("metrics", ()) if metric not in prepared.metrics]
        info["metrics"] = [m for m in _net_metrics(prepared) if m in (*had, *prepared.metrics)]
    for key in ("licence", "name_before"):
        if before.get(key):
            info[key] = before[key]
    if before:
        info["started_from"] = {"name": before.get("name"), "version": before.get("version")}
    return Keeper(folder, config, every, info, feed.validation if feed.valid.clips else None, say, tell)


def _net_metrics(prepared: Prepared) -> Sequence[str]:
    net: Any = prepared.task.net
    return tuple(net.metrics)


# ---- the result


def _finish(folder: Path, keeper: Keeper, valid: Data, prepared: Prepared, description: Mapping[str, Any], say: Say) -> Trained:
    """Choose the model, move it into its place, and record it in run.json."""
    from urgentmos.models import folder as checkpoints

    entries = keeper.kept
    chosen: dict[str, Any]
    if prepared.is_pk and valid.clips:
        by_ecs = {entry["step"]: ecs_score(keeper.path(entry["step"]), valid, keeper.config.judge, say) for entry in entries}
        finite = {step: score for step, score in by_ecs.items() if score is not None}
        if finite:
            chosen = max(entries, key=lambda e: (finite.get(e["step"], -9.0), -e["step"]))
            chosen = {**chosen, "score": finite[chosen["step"]], "ecs": by_ecs}
        else:
            chosen = max(entries, key=lambda e: (e["score"], -e["step"]))
    else:
        chosen = max(entries, key=lambda e: (e["score"], -e["step"]))
    loaded = checkpoints.load(keeper.path(chosen["step"]))
    info = {key: value for key, value in loaded.info.items() if key not in ("config", "format")}
    checkpoints.save(folder / MODEL, loaded.net, info)
    score = chosen["score"] if valid.clips else None
    result = {"model": MODEL, "version": loaded.info["version"], **chosen, "score": score, "steps": keeper.config.steps}
    write_whole(folder / RUN, json.dumps({**description, "result": result}, indent=1, ensure_ascii=False))
    return Trained(folder, folder / MODEL, int(chosen["step"]), score)


def ecs_score(model: Path, valid: Data, judge: str = "mos_overall", say: Say = lambda text: None) -> float | None:
    """KRCC + SRCC + LCC of the ECS ranking of the validation systems with their mean MOS; None if they cannot be ranked."""
    from urgentmos.api import load, rank_clips
    from urgentmos.ranking.rank import correlations

    clips = [clip for clip in valid.clips if clip.reference_id is not None and clip.system_id is not None]
    try:
        ranking, _ = rank_clips([_unlabelled(clip) for clip in clips], load(model), "binary", samples=2)
    except UsageError as e:
        say(f"Warning: the validation systems cannot be ranked ({e}) The model with the smallest loss is kept.")
        return None
    labels: dict[str, list[float]] = {system.system_id: [] for system in ranking.systems}
    for clip in clips:
        value = clip.metrics.get(judge)
        labels[str(clip.system_id)] += [] if value is None else [value]
    if not all(labels.values()):
        return None
    means = np.array([np.mean(labels[system.system_id]) for system in ranking.systems])
    values = correlations(np.array([system.score for system in ranking.systems]), means).values()
    return None if None in values else float(sum(values))  # type: ignore[arg-type]


def _unlabelled(clip: Clip) -> Clip:
    """The clip with a content of its corpus alone and without labels, which may be of any metric and scale."""
    return replace(clip, reference_id=f"{clip.corpus or ''}/{clip.reference_id}", metrics={}, sources={})


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's own log messages."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning")
            warnings.filterwarnings("ignore", message=r".*num_workers.*|.*LeafSpec.*|.*lr_scheduler\.step.*")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
