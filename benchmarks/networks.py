"""Measure whole runs of a network on a CPU against the plain way to do the same; prints up to three tables.

    python benchmarks/networks.py [--only score once pk] [--quick] [--repeats 3] [--seconds 3] [--systems 6 23] ...

score: clips of 2 to 12 s through `Network.score_clips`, files to metrics, against the passes of the encoder, and of the rest
    of the net, over each clip by itself, without padding; the share of padding that is computed, and the peak memory.
once: all pairs of some systems on one content, files to verdicts, against encoding both clips of every pair again (those pairs
    are timed for the first number of systems and multiplied for the others), and against the sum of its parts.
pk: the votes of URGENT-PK, files to who beats whom, against Algorithm 1 of its paper as it reads: one ordered pair at a time,
    features of both clips for every pair, the cores shared by each convolution. Both do as many passes through the ResNet.

The plain ways start from decoded clips. `score` and `once` are about UrgentMOS of the base size: WavLM base+, one category
of 5 metrics, pairs. Weights are random, which costs no other time than trained ones, and clips are noise. After a warm-up
all forms take turns (in pk on every content) and medians count, so that a busy machine disturbs them alike.
"""

import argparse
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations, permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from urgentpk import Task, algorithm_1, interleaved

from urgentmos.audio import samples as audio
from urgentmos.clips.clip import Clip
from urgentmos.common.console import table
from urgentmos.judges.network import Network
from urgentmos.judges.torch import backend_of
from urgentmos.nets.presets import parse_preset
from urgentmos.nets.urgentmos import UrgentMos
from urgentmos.nets.urgentpk import UrgentPk

RATE = 16_000
PRESET = "f1c1m5-dref"
ENCODER, REST, PARTS = "  encoder alone, clip by clip", "  rest of the net, clip by clip", "sum of the parts of that"
AGAIN, PLAIN = "each pair encoded again", "Algorithm 1, pair by pair"
Taken = dict[str, tuple[float, float]]  # wall-clock and CPU seconds


class Recordings(NamedTuple):
    """Files of noise and what is in them, content by content; within a content all systems are equally long."""

    clips: list[Clip]
    waves: list[np.ndarray]  # (T,) each


def record(folder: str, seconds: Sequence[float], systems: int = 1) -> Recordings:
    """One content per entry of `seconds`."""
    import soundfile

    rng = np.random.default_rng(0)
    clips, waves = [], []
    for content, length in enumerate(seconds):
        for system in range(systems):
            path = Path(folder) / f"{system}-{content}.wav"
            soundfile.write(path, 0.1 * rng.standard_normal(round(length * RATE)).clip(-9, 9), RATE)
            clips.append(Clip(path.stem, str(path), f"system {system}", f"content {content}"))
            waves.append(audio.load(path).wave)
    return Recordings(clips, waves)


def base_size() -> tuple[UrgentMos, Any, Network]:
    """The net, its judge, and the predictor over both."""
    net = UrgentMos(parse_preset(PRESET))
    judge = backend_of(net, "cpu")
    return net, judge, Network(judge, PRESET, "random", net.metrics, ranks_by="mos_overall")


def print_costs(title: str, taken: Taken, base: str, unit: str, count: float) -> None:
    """Seconds per `unit`, of which there are `count`, and in brackets how many times as long the row `base` takes."""
    print(f"\n{title}\nper {unit}; in brackets: time of `{base}` / time of this\n")
    rows = []
    for name, seconds in taken.items():
        cells = [f"{s / count:.4f} ({b / s:.2f})" for s, b in zip(seconds, taken[base], strict=True)]
        rows.append([name, *cells])
    table(["", "wall-clock s", "core-s"], rows, numbers=(1, 2))
    sys.stdout.flush()


# ---- score


@contextmanager
def counted(net: UrgentMos) -> Iterator[dict[str, list[int]]]:
    """What goes through the encoders and through the transformers behind them: [all samples or frames, the real ones]."""
    seen = {"encoder": [0, 0], "AMPM": [0, 0]}

    def whole(_: Any, args: tuple[Tensor, ...]) -> None:
        seen["encoder"][0] += args[0].numel()

    def real(_: Any, args: tuple[Tensor, Tensor]) -> None:
        seen["encoder"][1] += int(args[1].sum())

    def frames(_: Any, args: tuple[Tensor, Tensor]) -> None:
        seen["AMPM"][0] += args[0].shape[0] * args[0].shape[1]
        seen["AMPM"][1] += int(args[1].sum())

    encoder: Any = net.encoders[0]
    hooks = [encoder.model.register_forward_pre_hook(whole), encoder.register_forward_pre_hook(real)]
    hooks += [category.register_forward_pre_hook(frames) for category in net.ampm.categories.values()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def score(options: argparse.Namespace) -> None:
    """Padding and memory in a first run, which warms up too; then time."""
    lengths = np.random.default_rng(0).uniform(options.shortest, options.longest, options.clips)
    net, _, network = base_size()
    with tempfile.TemporaryDirectory() as folder:
        clips, waves = record(folder, lengths.tolist())
        before = peak_mb()
        with counted(net) as seen:
            list(network.score_clips(clips))
        peak = peak_mb()
        encoder = net.encoders[0]
        alone = [(torch.from_numpy(wave)[None], torch.tensor([len(wave)])) for wave in waves]
        frames = [encoder(*clip) for clip in alone]
        taken = interleaved(
            {
                "score_clips": lambda: list(network.score_clips(clips)),
                ENCODER: lambda: [encoder(*clip) for clip in alone],
                REST: lambda: [net.absolute(net.encode_frames([clip])) for clip in frames],
            },
            options.repeats,
            warm_up=0,
        )
    taken[PARTS] = added(taken[ENCODER], taken[REST])
    title = f"scoring {len(clips)} clips of {min(lengths):.1f} to {max(lengths):.1f} s, {sum(lengths):.0f} s in all"
    print_costs(title, taken, ENCODER, "second of audio", float(sum(lengths)))
    shares = ", ".join(f"{1 - real / whole:.1%} in the {part}" for part, (whole, real) in seen.items())
    weights = sum(p.numel() * p.element_size() for p in net.parameters()) / 2**20
    print(f"\npadding that is computed: {shares}")
    print(f"peak memory of the process: {peak:.0f} MB, {before:.0f} MB before the first clip ({weights:.0f} MB of weights)")


def peak_mb() -> float:
    """Of this process, ever."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# ---- once


def once(options: argparse.Namespace) -> None:
    """Every number of systems; the pairs of the first number are encoded one by one, too."""
    _, judge, network = base_size()
    few = options.systems[0]
    with tempfile.TemporaryDirectory() as folder:
        clips, waves = record(folder, [options.seconds], max(options.systems))
        features = [judge.encode([wave])[0] for wave in waves]
        tasks: dict[str, Task] = {
            "each pair": lambda: [judge.judge(judge.encode([a, b]), [(0, 1), (1, 0)]) for a, b in combinations(waves[:few], 2)]
        }
        for n in options.systems:
            tasks[f"once {n}"] = of_first(network.judge_contents, clips, n)
            tasks[f"encode {n}"] = of_first(lambda some: [judge.encode([wave]) for wave in some], waves, n)
            tasks[f"judge {n}"] = of_first(lambda some: judge.judge(some, list(permutations(range(len(some)), 2))), features, n)
        taken = interleaved(tasks, options.repeats)
    for n in options.systems:
        n_pairs, timed = n * (n - 1) // 2, few * (few - 1) // 2
        print_costs(
            f"all pairs of {n} systems on one content of {options.seconds:g} s",
            {
                AGAIN: scaled(taken["each pair"], n_pairs / timed),
                "judge_contents": taken[f"once {n}"],
                PARTS: added(taken[f"encode {n}"], taken[f"judge {n}"]),
                f"  encode {n} clips one by one": taken[f"encode {n}"],
                f"  judge {n * (n - 1)} ordered pairs": taken[f"judge {n}"],
            },
            AGAIN,
            "content",
            1,
        )
        if n != few:
            print(f"\n({AGAIN}: {timed} pairs were timed and multiplied by {n_pairs / timed:.1f})")


def of_first(work: Callable[[Any], object], things: Sequence[Any], n: int) -> Task:
    """`work` on the first `n` of `things`."""
    return lambda: work(things[:n])


def scaled(seconds: tuple[float, float], factor: float) -> tuple[float, float]:
    return seconds[0] * factor, seconds[1] * factor


def added(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return a[0] + b[0], a[1] + b[1]


# ---- pk


def pk(options: argparse.Namespace) -> None:
    """Content by content."""
    n, contents = options.systems[0], options.contents
    net = UrgentPk().eval()
    network = Network(backend_of(net, "cpu"), "urgentpk", "random", ("mos_overall",), ranks_by="mos_overall")
    with tempfile.TemporaryDirectory() as folder:
        clips, waves = record(folder, [options.seconds] * contents, n)
        algorithm_1(net, torch.from_numpy(np.stack(waves[:2])))  # warms up
        rounds = [pk_content(net, network, clips[i : i + n], waves[i : i + n], options) for i in range(0, n * contents, n)]
    taken = {name: (sum(r[name][0] for r in rounds), sum(r[name][1] for r in rounds)) for name in rounds[0]}
    title = f"ranking {n} systems on {contents} contents of {options.seconds:g} s by URGENT-PK (mel, ResNet34)"
    print_costs(title, taken, PLAIN, "ordered pair", n * (n - 1) * contents)


def pk_content(
    net: UrgentPk, network: Network, clips: list[Clip], waves: list[np.ndarray], options: argparse.Namespace
) -> Taken:
    """Both forms in turns on the clips of one content."""
    together = torch.from_numpy(np.stack(waves))
    tasks: dict[str, Task] = {
        PLAIN: lambda: algorithm_1(net, together),
        "judge_contents": lambda: network.judge_contents(clips),
    }
    return interleaved(tasks, options.repeats, warm_up=0)


RUNS: dict[str, Callable[[argparse.Namespace], None]] = {"score": score, "once": once, "pk": pk}
QUICK = {"repeats": 1, "seconds": 1.0, "systems": [2, 3], "contents": 2, "clips": 4, "shortest": 0.5, "longest": 1.5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS), help="parts to run")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one repetition: shows that it runs, not how fast")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of the clips of once and pk")
    parser.add_argument("--systems", type=int, nargs="+", default=[6, 23], help="of once; pk takes the first number")
    parser.add_argument("--contents", type=int, default=8, help="of pk")
    parser.add_argument("--clips", type=int, default=32, help="of score")
    parser.add_argument("--shortest", type=float, default=2.0, help="seconds, of score")
    parser.add_argument("--longest", type=float, default=12.0, help="seconds, of score")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    torch.manual_seed(0)
    print(f"torch {torch.__version__} on {torch.get_num_threads()} threads, medians of {options.repeats} repetitions")
    with torch.inference_mode():
        for name in sorted(options.only, key=list(RUNS).index):  # score first: the peak of memory is then its own
            RUNS[name](options)


if __name__ == "__main__":
    main()
