"""Measure the cost of each labeller on one core, for short and longer clips, and against the code it replaces.

    python benchmarks/labellers.py [--repeat N]

Prints core-seconds per second of audio (CPU time of the process, one thread) on the clips of examples/: as they are
(about 3 s), and joined to about 10 s. Labellers whose weights are in no package are left out. The peers are what the
URGENT challenge scripts call; a ratio above 1 means that ours is faster.
"""
# ruff: noqa: E402

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # read when numpy starts

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from urgentmos.audio import samples as audio
from urgentmos.common.console import table
from urgentmos.errors import UrgentmosError
from urgentmos.labellers import LABELLERS, Settings, Signals

EXAMPLES = Path(__file__).parents[1] / "examples"
RATE = 16_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="passes over the clips; the fastest counts")
    repeat = parser.parse_args().repeat
    warnings.simplefilter("ignore")
    short = example_signals("noisy")
    long = joined(short, 3)
    print(
        f"{len(short)} clips of {mean_seconds(short):.1f} s on average, {len(long)} of {mean_seconds(long):.1f} s; one thread\n"
    )
    ours = labeller_costs(short, long, repeat)
    peer_costs(short, ours, repeat)


def example_signals(system: str) -> list[Signals]:
    """The clips of one system of examples/, with their clean signals."""
    signals = []
    for path in sorted((EXAMPLES / "systems" / system).glob("*.flac")):
        signals.append(Signals(audio.load(path).wave, RATE, audio.load(EXAMPLES / "clean" / path.name).wave))
    return signals


def joined(signals: list[Signals], count: int) -> list[Signals]:
    """Every `count` neighbours as one longer clip."""
    groups = [signals[i : i + count] for i in range(0, len(signals) - count + 1, count)]
    return [Signals(np.concatenate([s.wave for s in g]), RATE, np.concatenate([s.pair()[0] for s in g])) for g in groups]


def mean_seconds(signals: list[Signals]) -> float:
    return float(np.mean([len(s.wave) for s in signals])) / RATE


def cost(work: Callable[[Signals], object], signals: list[Signals], repeat: int) -> float:
    """Core-seconds per second of audio; the first clip warms up."""
    work(fresh(signals[0]))
    seconds = sum(len(s.wave) for s in signals) / RATE
    taken = []
    for _ in range(repeat):
        start = time.process_time()
        for s in signals:
            work(fresh(s))
        taken.append(time.process_time() - start)
    return min(taken) / seconds


def fresh(s: Signals) -> Signals:
    """The same signals with another reference array, so that no labeller has it cached."""
    assert s.reference is not None
    return Signals(s.wave, s.rate, s.reference + np.float32(np.random.default_rng().uniform(0, 1e-7)))


def labeller_costs(short: list[Signals], long: list[Signals], repeat: int) -> dict[str, float]:
    rows, costs = [], {}
    for row in LABELLERS:
        if row.weights:
            continue
        try:
            start = time.perf_counter()
            measure = row.load(Settings())
            loading = time.perf_counter() - start
        except UrgentmosError as e:
            rows.append([row.name, str(e), "", ""])
            continue
        if "torch" in row.packages:
            import torch

            torch.set_num_threads(1)
        costs[row.name] = cost(measure, short, repeat)
        rows.append([row.name, f"{loading:.2f}", f"{costs[row.name]:.4f}", f"{cost(measure, long, repeat):.4f}"])
    rows.append(["all", "", f"{sum(costs.values()):.4f}", f"{sum(float(r[3]) for r in rows if r[3]):.4f}"])
    table(["labeller", "load (s)", "short clips (core-s/s)", "longer clips (core-s/s)"], rows, numbers=(1, 2, 3))
    return costs


def peer_costs(signals: list[Signals], ours: dict[str, float], repeat: int) -> None:
    rows = []
    for name, title, peer in peers():
        if name in ours:
            theirs = cost(peer, signals, repeat)
            rows.append([name, title, f"{theirs:.4f}", f"{theirs / ours[name]:.1f}"])
    print()
    table(["labeller", "peer", "peer (core-s/s)", "ratio"], rows, numbers=(2, 3))


def peers() -> list[tuple[str, str, Callable[[Signals], object]]]:
    """(labeller, package that the challenge scripts call, function); those whose packages are absent are left out."""
    functions: list[tuple[str, str, Callable[[Signals], object]]] = []
    try:
        import pysptk
        from fastdtw import fastdtw
        from scipy.spatial.distance import euclidean

        def mcd(s: Signals) -> object:
            window = pysptk.sptk.hamming(1024)
            cepstra = []
            for wave in s.pair():
                frames = np.lib.stride_tricks.sliding_window_view(wave.astype(np.float64), 1024)[::256]
                cepstra.append([pysptk.sptk.mcep(f * window, 23, 0.42, eps=1e-6, etype=1) for f in frames])
            return fastdtw(*map(np.array, cepstra), dist=euclidean)

        functions.append(("mcd", "pysptk + fastdtw", mcd))
    except ImportError:
        print("(pysptk or fastdtw is not installed: MCD is not compared)")
    try:
        import onnxruntime
        from speechmos import dnsmos

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        folder = Path(dnsmos.__file__).parent / "dnsmos_models"
        model = dnsmos.DNSMOS(str(folder / "sig_bak_ovr.onnx"), str(folder / "model_v8.onnx"))
        model.onnx_sess = onnxruntime.InferenceSession(str(folder / "sig_bak_ovr.onnx"), options)
        model.p808_onnx_sess = onnxruntime.InferenceSession(str(folder / "model_v8.onnx"), options)
        functions.append(("dnsmos", "speechmos", lambda s: model(s.wave, RATE, False)))
    except ImportError:
        print("(speechmos needs librosa: DNSMOS is not compared)")
    return functions


if __name__ == "__main__":
    main()
