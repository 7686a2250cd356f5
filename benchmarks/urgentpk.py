"""Measure how fast URGENT-PK (mel, ResNet34) judges pairs of 3 s on a CPU; prints two tables of ratios.

    python benchmarks/urgentpk.py [--repeats 5] [--cores 2] [--systems 6] [--only ranking]

forwards: CPU seconds of one pair's way through the ResNet, on one core, by batch size and form of the net. Batches do not
    help: their activations are so large that the allocator fetches them again from the system in every layer.
ranking: some systems on one content, all ordered pairs, from waveforms to numbers: as Algorithm 1 of the paper reads (one pair
    at a time, features of both clips for every pair, the cores shared by each convolution) against features once per clip
    and `judge_pairs`. Wall-clock and CPU seconds.

All forms take turns in every repetition; medians are printed, so that a busy machine disturbs them alike. Weights are random,
which costs no other time than trained ones.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import permutations

import torch
from torch import Tensor

from urgentmos.nets.urgentpk import UrgentPk, fused_for_inference, judge_pairs

SAMPLES = 48_000
Task = Callable[[], object]


def interleaved(tasks: dict[str, Task], repeats: int, warm_up: int = 1) -> dict[str, tuple[float, float]]:
    """Median (wall-clock, CPU) seconds of each task; every task runs `warm_up` times before the clock does."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    for repeat in range(-warm_up, repeats):
        for name, task in tasks.items():
            wall, cpu = time.perf_counter(), time.process_time()
            task()
            if repeat >= 0:
                taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: (statistics.median(w for w, _ in t), statistics.median(c for _, c in t)) for name, t in taken.items()}


def forwards(net: UrgentPk, repeats: int) -> None:
    """One core: batches of 1, 2, 6, 15, 30; the net as it is, channels last, folded, both."""
    torch.set_num_threads(1)
    forms = {
        "as released": net,
        "channels last": UrgentPk(net.config).eval().to(memory_format=torch.channels_last),
        "folded": fused_for_inference(net).to(memory_format=torch.contiguous_format),
        "folded, channels last": fused_for_inference(net),
    }
    sizes = (1, 2, 6, 15, 30)
    x = torch.randn(max(sizes), 120, 1 + SAMPLES // 80)

    def forward(form: UrgentPk, size: int) -> Task:
        return lambda: form.compare(x[:size], x[:size])

    taken = interleaved({f"{name}/{size}": forward(form, size) for name, form in forms.items() for size in sizes}, repeats)
    base = taken["as released/1"][1]
    print(f"CPU seconds of a forward per pair of 3 s, one core (in brackets: {base:.3f} s / this)\n")
    print(f"{'pairs in a batch':24}" + "".join(f"{size:>16}" for size in sizes))
    for name in forms:
        per_pair = [taken[f"{name}/{size}"][1] / size for size in sizes]
        print(f"{name:24}" + "".join(f"{seconds:9.3f} ({base / seconds:4.2f})" for seconds in per_pair))


def algorithm_1(net: UrgentPk, clips: Tensor) -> list[Tensor]:
    """Clips of one content (S, T) -> (1, 3) for each ordered pair, one at a time, features of both for every pair."""
    n_samples = torch.tensor([clips.shape[1]])
    return [net(clips[list(pair)][None], n_samples) for pair in permutations(range(len(clips)), 2)]


def ranking(net: UrgentPk, repeats: int, cores: int, systems: int) -> None:
    """Algorithm 1 one pair at a time against features once and judge_pairs, on `cores` cores each."""
    clips = 0.1 * torch.randn(systems, SAMPLES)
    n_samples = torch.full((systems,), SAMPLES)
    pairs = list(permutations(range(systems), 2))
    fused = fused_for_inference(net)

    def one_by_one() -> list[Tensor]:
        torch.set_num_threads(cores)
        return algorithm_1(net, clips)

    def one_batch() -> Tensor:
        torch.set_num_threads(cores)
        return net(torch.stack([clips[list(pair)] for pair in pairs]), torch.full((len(pairs),), SAMPLES))

    def judged(form: UrgentPk, threads: int) -> Task:
        return lambda: judge_pairs(form, form.features(clips, n_samples), pairs, threads)

    taken = interleaved(
        {
            f"one pair at a time, {cores} torch threads": one_by_one,
            f"one batch of all pairs, {cores} torch threads": one_batch,
            "judge_pairs as released, 1 core": judged(net, 1),
            f"judge_pairs as released, {cores} cores": judged(net, cores),
            "judge_pairs folded, 1 core": judged(fused, 1),
            f"judge_pairs folded, {cores} cores": judged(fused, cores),
        },
        repeats,
    )
    n = len(pairs)
    wall_base, cpu_base = next(iter(taken.values()))
    print(f"\n{systems} systems, {n} ordered pairs of 3 s: seconds per pair (in brackets: the first row's / this)\n")
    print(f"{'':44}{'wall-clock':>16}{'CPU':>16}")
    for name, (wall, cpu) in taken.items():
        print(f"{name:44}{wall / n:9.3f} ({wall_base / wall:4.2f}){cpu / n:9.3f} ({cpu_base / cpu:4.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--systems", type=int, default=6)
    parser.add_argument("--only", choices=["ranking"])
    options = parser.parse_args()
    torch.manual_seed(0)
    net = UrgentPk().eval()
    with torch.inference_mode():
        if options.only != "ranking":
            forwards(net, options.repeats)
        ranking(net, options.repeats, options.cores, options.systems)


if __name__ == "__main__":
    main()
