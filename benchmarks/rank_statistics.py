"""Check the coverage and error rates of rankings on simulated systems with known truth; prints three tables.

    python benchmarks/rank_statistics.py [--datasets 300]

coverage: how often low..high holds the true score, mean over systems and the worst system, nominal 95 %.
false claims: how often at least one truly equal pair is told apart (at most 5 %), how often all true ranks lie in their
rank intervals (at least 95 %), and how often a truly different pair is told apart (the more the better).
time: seconds and peak memory of one ranking of 23 systems on 300 contents with 1000 bootstrap samples.
"""

import argparse
import resource
import time
from collections.abc import Callable
from typing import get_args

import numpy as np

from urgentmos.ranking import bradley_terry
from urgentmos.ranking.names import Scoring
from urgentmos.ranking.rank import ecs_votes, pairwise_from_scores, rank

Array = np.ndarray
NOISE: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "skewed": lambda rng, shape: rng.exponential(size=shape) - 1,
}


def simulated(rng: np.random.Generator, quality: Array, n_contents: int, noise: str, missing: float = 0.0) -> Array:
    """(S, U) scores: the system's quality, a difficulty that the content's clips share, and noise of each clip."""
    scores = quality[:, None] + rng.standard_normal((1, n_contents)) + NOISE[noise](rng, (len(quality), n_contents))
    scores = np.round(scores, 1)
    scores[rng.random(scores.shape) < missing] = np.nan
    return scores


def truth(quality: Array, noise: str, scoring: Scoring) -> Array:
    """(S,) score that ever more contents lead to; votes and means per content."""
    scores = simulated(np.random.default_rng(99), quality, 40_000, noise)
    if scoring == "mos":
        return scores.mean(1)
    pairs = pairwise_from_scores(scores, link="soft" if scoring == "soft" else "binary")
    if scoring != "bradley-terry":
        return ecs_votes(pairs, scoring).mean(1)
    ties = pairs == 0.5
    return bradley_terry.fit(np.where(ties, 0, np.nan_to_num(pairs)).sum(2), ties.sum(2)).theta


def coverage(quality: Array, n_contents: int, noise: str, scoring: Scoring, datasets: int, samples: int = 300) -> Array:
    """(S,) share of simulated data sets in which a system's interval holds its true score."""
    rng = np.random.default_rng(1)
    systems, contents = [f"{i:03}" for i in range(len(quality))], [f"{i:03}" for i in range(n_contents)]
    target = truth(quality, noise, scoring) * (n_contents if scoring in ("binary", "soft") else 1)
    hits = np.zeros(len(quality))
    for _ in range(datasets):
        scores = simulated(rng, quality, n_contents, noise)
        ranking = rank(systems, contents, scores=scores, scoring=scoring, samples=samples)
        for row in ranking.systems:
            i = int(row.system_id)
            hits[i] += row.low - 1e-9 <= target[i] <= row.high + 1e-9
    return hits / datasets


def claims(
    quality: Array, n_contents: int, noise: str, scoring: Scoring, datasets: int, missing: float = 0.0
) -> tuple[float, float, float]:
    """Shares of data sets with a false claim, with all true ranks covered, and of truly different pairs told apart."""
    rng = np.random.default_rng(2)
    systems, contents = [f"{i:03}" for i in range(len(quality))], [f"{i:03}" for i in range(n_contents)]
    false = covered = power = 0.0
    differ = quality[:, None] > quality[None, :]
    for _ in range(datasets):
        scores = simulated(rng, quality, n_contents, noise, missing)
        ranking = rank(systems, contents, scores=scores, scoring=scoring, samples=2)
        rows = sorted(ranking.systems, key=lambda s: s.system_id)
        best, worst = np.array([s.rank_low for s in rows]), np.array([s.rank_high for s in rows])
        p = np.array([[ranking.p_value[a].get(b, 1.0) for b in systems] for a in systems])
        above = np.array([[a.score > b.score for b in rows] for a in rows])
        apart = (p <= 0.05) & above
        false += bool((apart & ~differ).any())
        true_best = 1 + differ.sum(0)
        true_worst = len(quality) - differ.sum(1)
        covered += bool(((best <= true_best) & (true_worst <= worst)).all())
        power += float((apart & differ).sum() / max(1, differ.sum()))
    return false / datasets, covered / datasets, power / datasets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--datasets", type=int, default=300)
    datasets = parser.parse_args().datasets
    print("coverage (mean, worst system)\nsystems  contents  noise    " + "".join(f"{s:>16}" for s in get_args(Scoring)))
    for quality in (np.array([0, 0.5]), np.linspace(0, 1, 5), np.linspace(0, 3, 5)):
        for n_contents in (4, 8, 20, 60):
            for noise in NOISE:
                hits = [coverage(quality, n_contents, noise, s, datasets) for s in get_args(Scoring)]
                cells = "".join(f"{h.mean():>9.3f} {h.min():>6.3f}" for h in hits)
                print(f"{len(quality)} 0..{quality[-1]:<4g} {n_contents:>6}  {noise:<8}{cells}", flush=True)
    print("\nfalse claims, ranks covered, power\nquality             contents  missing  noise    scoring")
    for quality in (np.zeros(2), np.zeros(5), np.array([0, 0, 0, 2, 2.0]), np.zeros(10), np.linspace(0, 4, 5)):
        for n_contents, missing in ((6, 0), (8, 0), (20, 0), (20, 0.4), (60, 0)):
            for noise in NOISE:
                for scoring in ("binary", "mos", "bradley-terry"):
                    if missing and scoring == "binary":
                        continue
                    false, covered, power = claims(quality, n_contents, noise, scoring, datasets, missing)
                    name = ",".join(f"{q:g}" for q in quality)
                    line = f"{name:<20} {n_contents:>7}  {missing:>7}  {noise:<8} {scoring:<14}"
                    print(f"{line} {false:.3f} {covered:.3f} {power:.3f}", flush=True)
    print("\ntime, 23 systems x 300 contents")
    scores = simulated(np.random.default_rng(0), np.linspace(0, 2, 23), 300, "normal")
    for scoring in get_args(Scoring):
        start = time.perf_counter()
        rank([str(i) for i in range(23)], [str(i) for i in range(300)], scores=scores, scoring=scoring)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{scoring:<14} {time.perf_counter() - start:.2f} s, peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
