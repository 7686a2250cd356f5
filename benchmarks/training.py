"""Training: audio seconds per second, share of padding, share of time in the loader; pairs in the batch against one by one.

    python benchmarks/training.py [--steps 10] [--contents 24]

Clips are synthetic; the net is UrgentMOS in its pocket size. "in the batch" encodes each clip once and judges all its pairs;
"one pair at a time" encodes both clips of every pair and takes a step for it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from urgentmos.clips import Clip
from urgentmos.training.config import TrainConfig, make_config
from urgentmos.training.data import Data, Plan, Planner, Reader
from urgentmos.training.run import _prepare
from urgentmos.training.tasks import Task, to_tensors

RATE = 16_000
SYSTEMS = 6


def make_data(folder: Path, contents: int) -> Data:
    """Noise of 2 to 6 s, `SYSTEMS` clips of each content."""
    rng = np.random.default_rng(0)
    clips = []
    for u in range(contents):
        seconds = float(rng.uniform(2, 6))
        for s in range(SYSTEMS):
            path = folder / f"{s}_{u}.flac"
            soundfile.write(path, 0.1 * rng.standard_normal(int(seconds * RATE)).clip(-9, 9), RATE)
            metrics: dict[str, float | None] = {"mos_overall": 1 + (s + u % 2) % 5}
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--contents", type=int, default=24)
    parser.add_argument("--batch-seconds", type=float, default=60.0)
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


if __name__ == "__main__":
    main()
