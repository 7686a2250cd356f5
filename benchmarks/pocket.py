"""Measure the cost of a score by pocket, DNSMOS and Distill-MOS, and of a whole ranking by pocket.

    OMP_NUM_THREADS=1 python benchmarks/pocket.py [--seconds 3 10] [--repeats 9] [--systems 23] [--contents 300] [--jobs 2]

Judges get decoded samples of noise and take turns, one thread each. In its turn a judge scores BLOCK clips in a row. The first
one warms it up and does not count, as when a folder is scored; "cold" are those first clips, after the judges before it have
emptied the caches. The table of each length holds medians. pocket is listed as `score` (with onnxruntime, from the check of
the samples to the intervals), and as its network alone, log-mel included, with onnxruntime and with torch; DNSMOS as
`speechmos` runs it and as our labeller does (P.835 and P.808, both); Distill-MOS as its package runs it. Starts are cold
processes: `urgentmos score CLIP`. The ranking goes from files (16-bit FLAC of 7 s, synthetic) to intervals, decoding included,
by the command line.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile

import urgentmos
from urgentmos.common.console import table
from urgentmos.labellers import LABELLERS, Settings, Signals

RATE = 16_000
BLOCK = 4
COMMAND = [sys.executable, "-c", "from urgentmos.cli import main; main()"]


def judges() -> dict[str, Callable[[np.ndarray], object]]:
    """name -> a function of samples (T,) at RATE."""
    import torch
    from speechmos import dnsmos

    from urgentmos.common.packaged import PACKAGED
    from urgentmos.judges.loading import torch_backend
    from urgentmos.judges.onnx import ONNX, open_backend

    torch.set_num_threads(1)
    light = urgentmos.load("pocket")
    alone, _ = open_backend(PACKAGED["pocket"] / ONNX)
    heavy, *_ = torch_backend(PACKAGED["pocket"], "cpu", False)
    own = {
        name: next(row for row in LABELLERS if row.name == name).load(Settings({}, "cpu")) for name in ("dnsmos", "distill_mos")
    }
    return {
        "pocket, score": lambda wave: light.score(wave, sample_rate=RATE),
        "pocket, onnxruntime, network alone": lambda wave: alone.encode([wave]),
        "pocket, torch, network alone": lambda wave: heavy.encode([wave]),
        "DNSMOS, speechmos": lambda wave: dnsmos.run(wave, RATE),
        "DNSMOS, our labeller": lambda wave: own["dnsmos"](Signals(wave, RATE)),
        "Distill-MOS": lambda wave: own["distill_mos"](Signals(wave, RATE)),
    }


def per_clip(seconds: Sequence[float], repeats: int) -> None:
    contenders = judges()
    rng = np.random.default_rng(0)
    warm: dict[tuple[str, float], float] = {}
    cold: dict[tuple[str, float], float] = {}
    for length in seconds:
        taken: dict[str, list[list[float]]] = {name: [] for name in contenders}
        for _ in range(repeats + 1):
            waves = [(0.1 * rng.standard_normal(int(length * RATE))).astype(np.float32) for _ in range(BLOCK)]
            for name, judge in contenders.items():
                taken[name].append([_timed(judge, wave) for wave in waves])
        for name, turns in taken.items():  # the first turn loads what is loaded late
            warm[name, length] = statistics.median(took for turn in turns[1:] for took in turn[1:])
            cold[name, length] = statistics.median(turn[0] for turn in turns[1:])
    for length in seconds:
        print(f"\nClips of {length:g} s")
        rows = []
        for name in contenders:
            took = warm[name, length]
            numbers = f"{1000 * took:.1f}", f"{took / length:.5f}", f"{took / warm['pocket, score', length]:.1f}"
            rows.append([name, *numbers, f"{1000 * cold[name, length]:.1f}"])
        table(["judge", "ms", "RTF", "times pocket", "cold ms"], rows)


def _timed(judge: Callable[[np.ndarray], object], wave: np.ndarray) -> float:
    start = time.perf_counter()
    judge(wave)
    return time.perf_counter() - start


def start_up() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.wav")
        soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(5 * RATE), RATE)
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([*COMMAND, "score", str(path)], check=True, capture_output=True)
            taken.append(time.perf_counter() - start)
    print(f"\nCold `urgentmos score clip.wav`: {statistics.median(taken):.2f} s (median of 5, files in the page cache)")


def ranking(systems: int, contents: int, jobs: int) -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for s in range(systems):
            Path(folder, f"s{s:02d}").mkdir()
        for c in range(contents):
            speech = np.convolve(rng.standard_normal(7 * RATE), np.hanning(24), "same") / 20
            for s in range(systems):
                noisy = speech + 0.002 * s * rng.standard_normal(len(speech))
                soundfile.write(Path(folder, f"s{s:02d}", f"u{c:04d}.flac"), np.clip(noisy, -1, 1), RATE, subtype="PCM_16")
        environment = {**os.environ, "OMP_NUM_THREADS": str(jobs)}
        start = time.perf_counter()
        subprocess.run(
            [*COMMAND, "rank", folder, "-o", f"{folder}/ranking.json"], check=True, capture_output=True, env=environment
        )
        took = time.perf_counter() - start
    print(f"Ranking {systems} systems x {contents} contents of 7 s, {jobs} threads: {took:.0f} s ({took / 60:.1f} min)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, nargs="+", default=[3.0, 10.0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--systems", type=int, default=23)
    parser.add_argument("--contents", type=int, default=300, help="0: no ranking")
    parser.add_argument("--jobs", type=int, default=2, help="threads of the ranking")
    args = parser.parse_args()
    per_clip(args.seconds, args.repeats)
    start_up()
    if args.contents:
        ranking(args.systems, args.contents, args.jobs)


if __name__ == "__main__":
    main()
