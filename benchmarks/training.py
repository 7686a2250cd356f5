"""Training: audio seconds per second, share of padding, share of time in the loader; pairs in the batch against one by one.

    python benchmarks/training.py [--steps 10] [--contents 24] [--equal-seconds 60]

Clips are synthetic: a gliding tone in noise, whose level is the system's and makes its opinion score. The net is UrgentMOS
in its pocket size. "in the batch" encodes each clip once and judges all its pairs; "one pair at a time" encodes both clips
of every pair and takes a step for it. With --equal-seconds both then learn for that long from the same weights, and are
validated on contents that neither was trained on.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch

from urgentmos.clips.clip import Clip
from urgentmos.training.config import TrainConfig, make_config
from urgentmos.training.data import Data, Plan, Reader
from urgentmos.training.plans import Planner
from urgentmos.training.run import _prepare
from urgentmos.training.tasks import Task, to_tensors

RATE = 16_000
SYSTEMS = 6


def make_data(folder: Path, contents: int, first: int = 0) -> Data:
    """Clips of 2 to 6 s, `SYSTEMS` of each content; `first` is the number of the first content."""
    rng = np.random.default_rng(first)
    clips = []
    for u in range(first, first + contents):
        seconds = float(rng.uniform(2, 6))
        phase = np.cumsum(rng.uniform(100, 250) + 40 * np.sin(np.arange(int(seconds * RATE)) / RATE * rng.uniform(2, 9)))
        tone = np.sin(2 * np.pi * phase / RATE) + np.sin(6 * np.pi * phase / RATE) / 2
        for s in range(SYSTEMS):
            path = folder / f"{s}_{u}.flac"
            wave = 0.1 * tone + 10 ** (-2.2 + 0.2 * s) * rng.standard_normal(len(tone))
            soundfile.write(path, (rng.uniform(0.3, 1.0) * wave).clip(-1, 1), RATE)
            metrics: dict[str, float | None] = {"mos_overall": 4.8 - 0.6 * s + rng.normal(0, 0.2)}
            clips.append(Clip(path.stem, str(path), f"s{s}", f"u{u}", "bench", seconds, metrics=metrics))
    return Data(clips)


def steps(task: Task, reader: Reader, plans: list[Plan]) -> tuple[float, float]:
    """(seconds in all, seconds in the loader) of one optimiser step for each plan."""
    optimiser = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=1e-5)
    loading, begun = 0.0, time.perf_counter()
    for index, plan in enumerate(plans):
        before = time.perf_counter()
        item = reader[index, plan]
        loading += time.perf_counter() - before
        optimiser.zero_grad()
        task.losses(to_tensors(item, task.device))[0].backward()
        optimiser.step()
    return time.perf_counter() - begun, loading


def one_by_one(plans: list[Plan]) -> list[Plan]:
    """Each pair in a batch of its own."""
    return [Plan([pair.a, pair.b], [pair]) for plan in plans for pair in plan.pairs]


def learn_for(seconds: float, task: Task, reader: Reader, plans: Iterator[Plan], lr: float) -> tuple[int, int]:
    """(steps, pairs) taken within `seconds` of wall-clock time, the loader's included."""
    optimiser = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=lr)
    end, taken, judged = time.perf_counter() + seconds, 0, 0
    for index, plan in enumerate(plans):
        if time.perf_counter() > end:
            break
        optimiser.zero_grad()
        task.losses(to_tensors(reader[index, plan], task.device))[0].backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimiser.step()
        taken, judged = taken + 1, judged + len(plan.pairs)
    return taken, judged


def equal_time(task: Task, reader: Reader, planner: Planner, valid: Data, seconds: float, lr: float) -> None:
    """Both ways from the same weights for the same time; then pairs and scores of held-out contents."""
    start = copy.deepcopy(task.state_dict())
    plans = list(Planner(valid, "mos_overall", "reference", 60.0, 8, 100.0, 0, 30.0).epoch(0))
    ear = Reader(valid, ["mos_overall"], reader.rate, reader.min_samples, 30.0, "mos_overall")
    items = [ear[index, plan] for index, plan in enumerate(plans)]
    print(f"\nafter {seconds:.0f} s of learning{'steps':>9}{'pairs':>9}{'acc_0.5':>9}{'acc_0':>9}{'SRCC':>9}")
    for name in ("in the batch", "one pair at a time"):
        task.load_state_dict(start)
        epochs = (plan for epoch in range(10**6) for plan in planner.epoch(epoch))
        chosen = epochs if name == "in the batch" else (one for plan in epochs for one in shuffled(one_by_one([plan])))
        taken, pairs = learn_for(seconds, task, reader, chosen, lr)
        validation = task.judge(items).values
        row = (validation["accuracy"], validation["accuracy_0"], validation["srcc_mos_overall"])
        print(f"{name:25}{taken:9}{pairs:9}" + "".join(f"{value:9.3f}" for value in row))


def shuffled(plans: list[Plan]) -> list[Plan]:
    """In an order of their own, so that neighbouring steps are not about one content."""
    return [plans[i] for i in np.random.default_rng(len(plans)).permutation(len(plans))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--contents", type=int, default=24)
    parser.add_argument("--batch-seconds", type=float, default=60.0)
    parser.add_argument("--equal-seconds", type=float, default=0.0, help="time that each way learns; 0: not compared")
    parser.add_argument("--lr", type=float, default=3e-4)
    options = parser.parse_args()
    config: TrainConfig = make_config({"model": "f1c1m5-dref", "size": "pocket", "device": "cpu"})
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(Path(folder), options.contents)
        task = _prepare(config, data, Data([]), print).task.train()
        planner = Planner(data, "mos_overall", "reference", options.batch_seconds, 8, 100.0, 0, 30.0)
        plans = [plan for epoch in range(99) for plan in planner.epoch(epoch)][: options.steps]
        net = task.net
        reader = Reader(data, ["mos_overall"], net.rate, net.min_samples, 30.0, "mos_overall")  # type: ignore[arg-type]
        steps(task, reader, plans[:1])  # warm up
        print(f"{'':22}{'audio s/s':>11}{'pairs/s':>9}{'padding':>9}{'in loader':>11}")
        few = one_by_one(plans[:1])
        for name, rows in (("in the batch", plans), ("one pair at a time", few)):
            seconds, loading = steps(task, reader, rows)
            lengths = [[data.clips[i].duration or 0.0 for i in plan.clips] for plan in rows]
            audio, padded = sum(map(sum, lengths)), sum(max(x) * len(x) for x in lengths)
            pairs = sum(len(plan.pairs) for plan in rows)
            share, waiting = 1 - audio / padded, loading / seconds
            print(f"{name:22}{audio / seconds:11.1f}{pairs / seconds:9.1f}{share:9.1%}{waiting:11.1%}")
        if options.equal_seconds:
            valid = make_data(Path(folder), 12, first=10_000)
            equal_time(task, reader, planner, valid, options.equal_seconds, options.lr)


if __name__ == "__main__":
    main()
