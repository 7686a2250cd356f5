"""Simulate how many contents a ranking or a gate needs; prints a table.

    python benchmarks/power.py [--datasets 200]

The effect d is the mean difference of two systems on a content over its standard deviation from content to content; with
normal differences the better one wins a share Phi(d) of the contents. S systems stand d apart from their neighbours. A
cell is the share of neighbouring pairs that are told apart at 95 %, under mean scores and binary votes, or how often the
gate of two builds fails. The first block, d = 0, is what chance alone does: for rank, any claim at all among S equal systems.
"""

import argparse
from typing import Literal

import numpy as np
from scipy.stats import norm

from urgentmos.ranking.comparison import Comparison
from urgentmos.ranking.gate import gate
from urgentmos.ranking.rank import rank

EFFECTS = (0.0, 0.2, 0.3, 0.5, 0.8, 1.2)
CONTENTS = (6, 10, 20, 50, 100, 200)
SYSTEMS = (2, 5, 20)


def simulated(rng: np.random.Generator, n_systems: int, n_contents: int, effect: float) -> np.ndarray:
    """(S, U) scores: equal steps of `effect` standard deviations of a difference, a difficulty that clips share, noise."""
    quality = effect * np.sqrt(2) * np.arange(n_systems)[:, None]
    return quality + rng.standard_normal((1, n_contents)) + rng.standard_normal((n_systems, n_contents))


def told_apart(scoring: Literal["mos", "binary"], n_systems: int, n_contents: int, effect: float, datasets: int) -> float:
    """Share of neighbours told apart; with effect 0, share of data sets in which any two are."""
    rng = np.random.default_rng([3, n_systems, n_contents])
    names = [[f"{i:03}" for i in range(n)] for n in (n_systems, n_contents)]
    shares = []
    for _ in range(datasets):
        scores = simulated(rng, n_systems, n_contents, effect)
        p_value = rank(*names, scores=scores, scoring=scoring, samples=2).p_value
        p = np.array([[p_value[a].get(b, 1.0) for b in names[0]] for a in names[0]])
        shares.append((p <= 0.05).any() if effect == 0 else (np.diagonal(p, 1) <= 0.05).mean())
    return float(np.mean(shares))


def gate_fails(n_contents: int, effect: float, datasets: int) -> float:
    """How often the gate finds a build worse that is worse by `effect`."""
    rng = np.random.default_rng([4, n_contents])
    drawn = rng.normal(effect, 1, size=(datasets, n_contents))
    rows = ([Comparison("old", "new", np.nan, np.nan, np.nan, float(x), "a") for x in content] for content in drawn)
    return float(np.mean([gate(row).worse for row in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--datasets", type=int, default=200)
    datasets = parser.parse_args().datasets
    print("| d | wins | | " + " | ".join(f"{n} contents" for n in CONTENTS) + " |\n|" + "---|" * (len(CONTENTS) + 3))
    for effect in EFFECTS:
        head = f"| {effect:g} | {100 * norm.cdf(effect):.0f} % |"
        cells = [f"{100 * gate_fails(n, effect, (3 if effect else 15) * datasets):.0f} %" for n in CONTENTS]
        print(f"{head} gate | {' | '.join(cells)} |", flush=True)
        for scoring in ("mos", "binary"):
            for n_systems in SYSTEMS:
                runs = max(20, datasets * 2 // n_systems) if effect else datasets
                cells = [f"{100 * told_apart(scoring, n_systems, n, effect, runs):.0f} %" for n in CONTENTS]
                print(f"{head} `{scoring}`, {n_systems} systems | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
