"""Files that a run keeps while it goes on: logs, the state to resume from, the best models so far."""

from __future__ import annotations

import csv
import io
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch

from urgentmos.common.untrusted import reason
from urgentmos.errors import UsageError
from urgentmos.files import appending, replacing_path, write_whole
from urgentmos.models import folder as checkpoints
from urgentmos.training.config import TrainConfig
from urgentmos.training.tasks import Judged, Task

STATE = "last.ckpt"
BEST = "best"
TRAIN_LOG, VALID_LOG = "train.csv", "valid.csv"

Tell = Callable[[int, int, Mapping[str, float]], None]  # step, steps, losses


class Keeper(lightning.Callback):
    """Validates every `every` steps and at the end; then keeps the best models and the state of the whole run.

    The state is written last and at once, so that whatever was killed goes on from a validation, with logs and best models
    as they were then.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        every: int,
        info: Mapping[str, Any],
        items: Callable[[], Iterable[Mapping[str, Any]]] | None,
        say: Callable[[str], None],
        tell: Tell | None = None,
    ) -> None:
        """items: the batches of the validation data; None where there are none: then the last model is the best."""
        self.folder, self.config, self.every, self.info = folder, config, every, dict(info)
        self.items, self.say, self.tell = items, say, tell
        self.kept: list[dict[str, Any]] = []  # step, score, objectives of the models in BEST
        self.at = 0  # the last step that was logged
        self.losses: list[dict[str, float]] = []  # of the batches of this step
        self.began = time.monotonic()

    # ---- Lightning's

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.kept, "at": self.at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.kept, self.at = list(state_dict["kept"]), int(state_dict["at"])

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            for log in (TRAIN_LOG, VALID_LOG):
                cut_log(self.folder / log, self.at)
            self._remove_others()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(dict(pl_module.shown))
        step = trainer.global_step
        if step == self.at:  # gradients are still being gathered
            return
        self.at = step
        losses = _means(self.losses)
        self.losses = []
        if trainer.is_global_zero:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            append_log(
                self.folder / TRAIN_LOG,
                {"step": step, "seconds": round(time.monotonic() - self.began, 3), "lr": rate, **losses},
            )
            if trainer.logger:
                trainer.logger.log_metrics(losses, step)
            if self.tell:
                self.tell(step, self.config.steps, losses)
        if step % self.every == 0 or step == self.config.steps:
            self.validate(trainer, pl_module)

    def validate(self, trainer: Any, task: Task) -> None:
        """Every process judges all validation data, so that all know the same; the first one writes."""
        judged = task.judge(self.items()) if self.items else Judged(float(trainer.global_step), {}, {})
        self.kept = best_of([*self.kept, _entry(trainer.global_step, judged)], self.config.keep)
        if trainer.is_global_zero:
            self._write(trainer, task, judged)
        if trainer.is_global_zero:
            with replacing_path(self.folder / STATE) as part:
                trainer.save_checkpoint(part)
            self._remove_others()
        else:  # takes part, and writes nothing
            trainer.save_checkpoint(self.folder / STATE)

    # ---- ours

    def _write(self, trainer: Any, task: Task, judged: Judged) -> None:
        step = trainer.global_step
        if step in [entry["step"] for entry in self.kept]:
            about = {**self.info, "validation": {"step": step, "score": judged.score, **judged.values}}
            checkpoints.save(self.path(step), task.net, about)
        if judged.values:
            append_log(self.folder / VALID_LOG, {"step": step, "score": judged.score, **judged.values})
            self.say(f"step {step}: score {judged.score:.3f} ({_short(judged.values)})")
            if trainer.logger:
                trainer.logger.log_metrics({f"valid_{name}": value for name, value in judged.values.items()}, step)

    def path(self, step: int) -> Path:
        """The model folder of a step."""
        return self.folder / BEST / f"step-{step:07d}"

    def _remove_others(self) -> None:
        wanted = {self.path(entry["step"]) for entry in self.kept}
        for folder in (self.folder / BEST).glob("step-*"):
            if folder not in wanted:
                shutil.rmtree(folder)


def _entry(step: int, judged: Judged) -> dict[str, Any]:
    return {"step": step, "score": judged.score, "objectives": dict(judged.objectives)}


def best_of(entries: Sequence[dict[str, Any]], keep: int) -> list[dict[str, Any]]:
    """Those to keep: the `keep` largest scores; where there are objectives, the `keep` smallest of each.

    The earlier of equals.
    """
    objectives = entries[-1]["objectives"] if entries else {}
    orders: list[Callable[[dict[str, Any]], float]]
    orders = [lambda e, o=o: e["objectives"][o] for o in objectives] or [lambda e: -e["score"]]  # type: ignore[misc]
    steps = {entry["step"] for order in orders for entry in sorted(entries, key=lambda e: (order(e), e["step"]))[:keep]}
    return [entry for entry in entries if entry["step"] in steps]


def append_log(path: Path, row: Mapping[str, Any]) -> None:
    """One row at the end of a CSV; a column that is new is added to the whole file."""
    columns: list[str] = []
    if path.exists():
        with path.open(newline="") as file:
            columns = next(csv.reader(file), [])
    new = [name for name in row if name not in columns]
    if new:
        rows = read_log(path)
        columns += new
        _write_log(path, columns, [*rows, dict(row)])
        return
    with appending(path) as out:
        out.write(_csv(columns, [row]))


def read_log(path: Path) -> list[dict[str, str]]:
    """The rows of a log, as text."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def cut_log(path: Path, step: int) -> None:
    """Forget the rows behind `step`: the run goes on from there. A row that a kill cut off goes, too."""
    if not path.exists():
        return
    rows = read_log(path)
    whole = [row for row in rows if row.get("step") and None not in row.values() and int(row["step"]) <= step]
    _write_log(path, list(rows[0]) if rows else ["step"], whole)


def _write_log(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    write_whole(path, _csv(columns, [dict(zip(columns, columns, strict=True)), *rows]))


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.DictWriter(text, columns).writerows(rows)
    return text.getvalue().encode()


def _means(losses: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for each in losses for name in each)
    columns = {name: [each[name] for each in losses if name in each] for name in names}
    return {name: sum(values) / len(values) for name, values in columns.items()}


def _short(values: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name} {value:.3f}" for name, value in values.items() if not name.startswith(("lcc_", "mse_")) or len(values) < 6
    )


def state_of(folder: Path) -> dict[str, Any] | None:
    """The batch that comes next and the step, of a run that was begun; None for a new one."""
    path = folder / STATE
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {"consumed": int(state["urgentmos_consumed"]), "step": int(state["global_step"])}
    except Exception as e:  # a damaged file shows itself as any of half a dozen classes
        raise UsageError(f"{path} cannot be read ({reason(e)}). Remove it: the run begins again.") from e
