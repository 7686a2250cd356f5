"""Lightning modules: what one step of UrgentMOS, URGENT-PK and UTMOS minimises, and how good each is on validation data.

Every step draws its random numbers (dropout) from the seed and the batch's number, so a run that was killed goes on as if it
had not been. Losses are divided by the number of labels in all processes together: two processes with one half of a batch
each take the very step that one process with the whole batch takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from urgentmos.nets.encoder import Encoder
from urgentmos.nets.layers import Bounded
from urgentmos.nets.losses import (
    NO_VERDICT,
    LossConfig,
    PairLabels,
    label_counts,
    masked_mse,
    symmetric_pairs,
    urgentmos_losses,
    verdict_of,
    without_pairs,
)
from urgentmos.nets.ncpm import Comparison
from urgentmos.nets.urgentmos import Encoded, UrgentMos
from urgentmos.nets.urgentpk import UrgentPk
from urgentmos.nets.utmos import Utmos
from urgentmos.training.cache import branch
from urgentmos.training.config import TrainConfig
from urgentmos.training.optimisers import build_optimiser

Item = Mapping[str, Any]  # what data.Reader yields


@dataclass(frozen=True)
class Judged:
    """How good a net is on validation data."""

    score: float  # larger is better; what chooses the best models
    values: dict[str, float]  # everything that was measured
    objectives: dict[str, float]  # smaller is better; URGENT-PK keeps the best models by each


class Task(lightning.LightningModule):
    """The part that all three tasks share: tensors of a batch, randomness, optimiser, schedule."""

    net: torch.nn.Module

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.settings = config
        self.consumed = 0  # number of the batch that comes next
        self.shown: dict[str, float] = {}  # losses of the last batch

    # ---- one step

    def on_train_batch_start(self, batch: Item, batch_idx: int) -> None:
        seed = (self.settings.seed * 1_000_003 + int(batch["index"])) * 64 + self.global_rank
        torch.manual_seed(seed % 2**63)

    def training_step(self, batch: Item, batch_idx: int) -> Tensor:
        total, parts = self.losses(to_tensors(batch, self.device))
        self.shown = {"loss": float(total.detach()), **parts}
        self.consumed = int(batch["index"]) + 1
        return total

    def losses(self, batch: Item) -> tuple[Tensor, dict[str, float]]:
        """The loss of one batch of tensors, and its parts for the log."""
        raise NotImplementedError

    def judge(self, batches: Iterable[Item]) -> Judged:
        """How good the net is on these batches. In eval mode, without gradients; the mode is set back."""
        raise NotImplementedError

    # ---- optimiser

    def configure_optimizers(self) -> Any:
        c = self.settings
        optimiser = build_optimiser([p for p in self.parameters() if p.requires_grad], c)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step, c))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["urgentmos_consumed"] = self.consumed

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.consumed = checkpoint["urgentmos_consumed"]

    # ---- processes

    def over_processes(self, counts: Sequence[int]) -> list[float]:
        """Counts of this process -> the mean count over all processes, by which sums are divided."""
        total = torch.tensor(counts, dtype=torch.float64, device="cpu")
        world = self.trainer.world_size if self._trainer is not None else 1
        if world > 1:
            total = total.to(self.device)
            torch.distributed.all_reduce(total)
            total = total / world
        return [float(x) for x in total.tolist()]


def rate_at(step: int, config: TrainConfig) -> float:
    """The learning rate of a step, as a share of config.lr."""
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    if config.schedule == "constant":
        return rise
    left = max(1, config.steps - config.warmup)
    return rise * max(0.0, 1.0 - max(0, step - config.warmup) / left)


def to_tensors(batch: Item, device: torch.device) -> dict[str, Any]:
    """Arrays of a batch as tensors on the device; labels one by one."""

    def move(value: Any) -> Any:
        return torch.from_numpy(value).to(device) if isinstance(value, np.ndarray) else value

    moved = {key: move(value) for key, value in batch.items()}
    moved["labels"] = {key: move(value) for key, value in batch["labels"].items()}
    return moved


def scaled(loss: Tensor, here: int, mean: float) -> Tensor:
    """A mean over `here` labels -> what this process adds to the mean over the labels of all processes."""
    return loss * (here / mean) if mean else loss * 0.0


class UrgentMosTask(Task):
    """Masked losses of all metrics, CMOS and verdicts of the pairs within a batch; each clip is encoded once."""

    net: UrgentMos

    def __init__(self, config: TrainConfig, net: UrgentMos, variances: Mapping[str, float] | None = None) -> None:
        """variances: metric -> variance of its labels, for metrics whose errors are counted in standard deviations."""
        super().__init__(config)
        self.net = net
        weights = {m: config.metric_weights.get(m, 1.0) / v for m, v in (variances or {}).items()}
        loss = LossConfig(
            absolute=config.absolute,
            comparative=config.comparative,
            regression=config.regression,
            verdict=config.verdict,
            average=config.average,
            delta=config.delta,
            ties=config.ties,
            metric_weights={**config.metric_weights, **weights},
        )
        self.loss = loss if net.ncpm is not None else without_pairs(loss)

    def encode(self, batch: Item) -> Encoded:
        """Through the encoders, or from cached features where there are some."""
        encoders: list[Encoder] = list(self.net.encoders)  # type: ignore[arg-type]
        if batch["states"] is None:
            return self.net.encode(batch["wave"], batch["n_samples"])
        columns = [[None if clip is None else clip[k] for clip in batch["states"]] for k in range(len(encoders))]
        return self.net.encode_frames([branch(e, c, self.device) for e, c in zip(encoders, columns, strict=True)])

    def pair_labels(self, batch: Item) -> PairLabels:
        """Verdicts by Eq. 6 where only the CMOS is known; native verdicts stay, and have no CMOS unless requested."""
        cmos, verdict = batch["cmos"], batch["verdict"]
        verdict = torch.where(verdict == NO_VERDICT, verdict_of(cmos, self.loss), verdict)
        if self.settings.native_cmos:
            signs = torch.tensor([1.0, -1.0, 0.0], device=cmos.device)[verdict.clamp(min=0)]
            cmos = torch.where(cmos.isnan() & (verdict != NO_VERDICT), signs, cmos)
        return PairLabels(cmos, verdict)

    def losses(self, batch: Item) -> tuple[Tensor, dict[str, float]]:
        encoded = self.encode(batch)
        predicted = self.net.absolute(encoded)
        labels = {metric: value for metric, value in batch["labels"].items() if metric in predicted}
        pairs = self.pair_labels(batch)
        first, second = batch["first"], batch["second"]
        if self.settings.symmetric:
            first, second, pairs = symmetric_pairs(first, second, pairs)
        mean = self.over_processes(label_counts(labels, pairs))
        comparison = None
        if self.net.ncpm is not None and encoded.sides is not None:
            sides = Encoded({}, encoded.n_frames, encoded.sides)  # without the features, which pairs do not need
            if not len(first):  # a pair without labels: every parameter takes part in every step
                first = second = torch.zeros(1, dtype=torch.long, device=self.device)
                pairs = PairLabels(torch.full((1,), torch.nan, device=self.device), torch.full_like(first, NO_VERDICT))
            output = self.net.compare(sides.pick(first), sides.pick(second))
            comparison = Comparison(output.cmos.float(), output.logits.float())
        scores = {metric: value.float() for metric, value in predicted.items()}
        categories = {name: tuple(ranges) for name, ranges in self.net.config.categories.items()}
        loss = urgentmos_losses(scores, labels, categories, comparison, pairs, self.loss, mean)
        parts = {f"loss_{metric}": float(value.detach()) for metric, value in loss.metrics.items()}
        return loss.total, {**parts, "loss_cmos": float(loss.regression.detach()), "loss_verdict": float(loss.verdict.detach())}

    @torch.no_grad()
    def judge(self, batches: Iterable[Item]) -> Judged:
        """Score: the mean Spearman correlation over metrics, plus the accuracy of verdicts (both orders averaged)."""
        self.eval()
        predictions: dict[str, list[np.ndarray]] = {}
        labels: dict[str, list[np.ndarray]] = {}
        right: list[tuple[int, int]] = []  # (three classes, ordered only), -1 where the pair does not count
        for arrays in batches:
            batch = to_tensors(arrays, self.device)
            with autocast(self):
                encoded = self.encode(batch)
                predicted = self.net.absolute(encoded)
                if len(batch["first"]) and encoded.sides is not None:
                    sides = Encoded({}, encoded.n_frames, encoded.sides)
                    a, b = sides.pick(batch["first"]), sides.pick(batch["second"])
                    forth, back = self.net.compare(a, b).logits.float(), self.net.compare(b, a).logits.float()
                    right += right_verdicts(forth.softmax(1) + back.softmax(1)[:, [1, 0, 2]], self.pair_labels(batch))
            for metric in predicted.keys() & batch["labels"].keys():
                predictions.setdefault(metric, []).append(predicted[metric].float().cpu().numpy())
                labels.setdefault(metric, []).append(arrays["labels"][metric])
        self.train()
        values = correlations_of(predictions, labels)
        score = _mean([value for name, value in values.items() if name.startswith("srcc_")])
        for k, name in enumerate(("accuracy", "accuracy_0")):
            counted = [place[k] for place in right if place[k] >= 0]
            if counted:
                values[name] = _mean(counted)
        return Judged(score + values.get("accuracy", 0.0), values, {})


def right_verdicts(p: Tensor, labels: PairLabels) -> list[tuple[int, int]]:
    """(P, 3) probabilities of a, b, tie -> per pair 1, 0, or -1 where it does not count: (verdict, order without ties)."""
    three = torch.where(labels.verdict == NO_VERDICT, -1, (p.argmax(dim=1) == labels.verdict).long())
    ordered = torch.where(labels.cmos.isnan(), (labels.verdict == 0).float() - (labels.verdict == 1).float(), labels.cmos)
    two = torch.where(ordered == 0, -1, ((p[:, 0] > p[:, 1]) == (ordered > 0)).long())
    return list(zip(three.tolist(), two.tolist(), strict=True))


def correlations_of(predicted: Mapping[str, list[np.ndarray]], labels: Mapping[str, list[np.ndarray]]) -> dict[str, float]:
    """srcc_METRIC, lcc_METRIC and mse_METRIC of those that are defined; a constant side has no correlation and counts 0."""
    from scipy.stats import pearsonr, spearmanr

    values: dict[str, float] = {}
    for metric in sorted(predicted):
        x, y = np.concatenate(predicted[metric]).astype(float), np.concatenate(labels[metric]).astype(float)
        there = np.isfinite(x) & np.isfinite(y)
        x, y = x[there], y[there]
        if len(y) < 2:
            continue
        flat = np.ptp(x) == 0 or np.ptp(y) == 0
        values[f"srcc_{metric}"] = 0.0 if flat else float(spearmanr(x, y)[0])
        values[f"lcc_{metric}"] = 0.0 if flat else float(pearsonr(x, y)[0])
        values[f"mse_{metric}"] = float(np.mean((x - y) ** 2))
    return values


def autocast(task: Task) -> Any:
    """bfloat16 where training computes in it."""
    device = task.device.type
    wanted = task._trainer is not None and str(task.trainer.precision).startswith("bf16")
    return torch.autocast(device, torch.bfloat16, enabled=wanted)


def start_at_means(net: UrgentMos, means: Mapping[str, float]) -> None:
    """Set the bias of each head so that it starts at the mean of its labels."""
    for metric, mean in means.items():
        head: Any = net.ampm.heads[metric]
        with torch.no_grad():
            head.linear.bias.fill_(inverse(head.bound, mean))


def inverse(bound: Bounded, value: float, reach: float = 200.0) -> float:
    """The number that a range-constraining activation maps to `value`, by bisection; within +-`reach`, or `value` itself."""
    low, high = min(-reach, 2 * value), max(reach, 2 * value)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if float(bound(torch.tensor(middle))) < value else (low, middle)
    return (low + high) / 2


class UrgentPkTask(Task):
    """0.5 BCE of which sounds better + 0.5 MSE of both opinion scores; padding masked."""

    net: UrgentPk

    def __init__(self, config: TrainConfig, net: UrgentPk) -> None:
        super().__init__(config)
        self.net = net

    def said(self, batch: Item) -> tuple[Tensor, Tensor, Tensor]:
        """(P, 3) of the net, (P,) who wins, (P, 2) opinion scores; each clip through the encoder once."""
        rows, n_frames = self.net.features(batch["wave"], batch["n_samples"])
        first, second = batch["first"], batch["second"]
        common = torch.minimum(n_frames[first], n_frames[second])
        longest = int(common.max())
        out = self.net.compare(rows[first][:, :, :longest], rows[second][:, :, :longest], common)
        mos = torch.stack([batch["judge"][first], batch["judge"][second]], dim=1)
        return out.float(), (mos[:, 0] > mos[:, 1]).float(), mos

    def losses(self, batch: Item) -> tuple[Tensor, dict[str, float]]:
        pairs = len(batch["first"])
        mean = self.over_processes([pairs])[0]
        if not pairs:  # a process without a share still takes part in the exchange
            total = torch.stack([p.sum() for p in self.parameters() if p.requires_grad]).sum() * 0.0
            return total, {"loss_bce": 0.0, "loss_mse": 0.0}
        out, wins, mos = self.said(batch)
        bce = scaled(functional.binary_cross_entropy_with_logits(out[:, 0], wins), pairs, mean)
        mse = scaled(functional.mse_loss(out[:, 1:], mos), pairs, mean)
        total = self.settings.bce * bce + self.settings.mse * mse
        return total, {"loss_bce": float(bce.detach()), "loss_mse": float(mse.detach())}

    @torch.no_grad()
    def judge(self, batches: Iterable[Item]) -> Judged:
        """Objectives: the loss and its two parts, over all pairs. Score: minus the loss."""
        self.eval()
        sums, n, right = np.zeros(2), 0, 0
        for arrays in batches:
            batch = to_tensors(arrays, self.device)
            if not len(batch["first"]):
                continue
            with autocast(self):
                out, wins, mos = self.said(batch)
            bce = functional.binary_cross_entropy_with_logits(out[:, 0], wins, reduction="sum")
            sums += [float(bce), float((out[:, 1:] - mos).square().mean(dim=1).sum())]
            right += int(((out[:, 0] > 0) == (wins > 0.5)).sum())
            n += len(wins)
        self.train()
        bce_mean, mse_mean = (float(x) for x in sums / max(n, 1))
        objectives = {"bce": bce_mean, "mse": mse_mean}
        objectives = {"loss": self.settings.bce * bce_mean + self.settings.mse * mse_mean, **objectives}
        return Judged(-objectives["loss"], {**objectives, "accuracy": right / max(n, 1)}, objectives)


class UtmosTask(Task):
    """UTMOS fine-tuned on opinion scores (the UTMOS_ft baseline of the URGENT-PK paper): MSE against the judge's labels."""

    net: Utmos

    def __init__(self, config: TrainConfig, net: Utmos) -> None:
        super().__init__(config)
        self.net = net.requires_grad_(True)

    def scores(self, batch: Item) -> Tensor:
        """(B,); each clip alone, since the net knows no padding."""
        each = [self.net(x[None, :n]) for x, n in zip(batch["wave"], batch["n_samples"].tolist(), strict=True)]
        return torch.cat(each)

    def losses(self, batch: Item) -> tuple[Tensor, dict[str, float]]:
        label = batch["judge"]
        here = int((~label.isnan()).sum())
        loss = scaled(masked_mse(self.scores(batch).float(), label), max(here, 1), self.over_processes([here])[0])
        return loss, {f"loss_{self.settings.judge}": float(loss.detach())}

    @torch.no_grad()
    def judge(self, batches: Iterable[Item]) -> Judged:
        """Score: the Spearman correlation."""
        self.eval()
        predicted: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        for arrays in batches:
            with autocast(self):
                predicted.append(self.scores(to_tensors(arrays, self.device)).float().cpu().numpy())
            labels.append(arrays["judge"])
        self.train()
        metric = self.settings.judge
        values = correlations_of({metric: predicted}, {metric: labels})
        return Judged(values.get(f"srcc_{metric}", 0.0), values, {})


TASKS: dict[type, Callable[..., Task]] = {UrgentMos: UrgentMosTask, UrgentPk: UrgentPkTask, Utmos: UtmosTask}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0
