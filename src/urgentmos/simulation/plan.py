"""The plan of degradations for each content: ladders of known order, single steps, and combinations.

Drawn family by family, so that a family with many degradations is not heard more often than one with few.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from urgentmos.simulation import chain_step, degradations, neural

# In the order in which damage happens on the way from a mouth to an ear.
ORDER = ("room", "noise", "channel", "enhancer", "vocoder", "codec", "loss")
# How often a family is drawn. Vocoder-like damage most: nothing else resembles what neural codecs and TTS do.
SHARES = {"noise": 1.5, "room": 0.8, "channel": 1.6, "codec": 1.8, "loss": 0.8, "enhancer": 2.2, "vocoder": 3.0}
# Enhancers that hear the same mixture as the neural ones, if step and seed are the same.
OF_THE_SAME_LADDER = ("spectral_subtraction", "wiener", "mmse_lsa", "residual_gate")
SINGLE, LADDER, COMBINED = 0.45, 0.25, 0.3  # kinds of plan entries


def usable(held_out: Sequence[str] = ()) -> dict[str, list[str]]:
    """family -> names of degradations for which this machine has everything, less those held out."""
    by_family: dict[str, list[str]] = {family: [] for family in ORDER}
    for name, row in degradations().items():
        if name not in held_out and not row.missing():
            by_family[row.family].append(name)
    return {family: names for family, names in by_family.items() if names}


def plan_content(rng: np.random.Generator, n_clips: int, families: dict[str, list[str]]) -> list[list[dict[str, Any]]]:
    """At least `n_clips` chains for one content, the clean one first; ladders may make it one more."""
    chains: list[list[dict[str, Any]]] = [[]]
    while len(chains) < n_clips:
        kind = rng.random()
        if kind < SINGLE:
            chains.append([_drawn(rng, families)])
        elif kind < SINGLE + LADDER:
            chains += _ladder(rng, families)
        else:
            chains.append(_combined(rng, families))
    return chains


def plan_enhancers(rng: np.random.Generator, n_clips: int) -> list[list[dict[str, Any]]]:
    """One noisy mixture as a listening test of enhancers has it: the clean clip, the mixture, and what enhancers make of it.

    At most `n_clips` chains; neural enhancers come first, as far as this machine has them, then a choice of the others.
    """
    step, seed = int(rng.integers(len(neural.SNRS))), int(rng.integers(2**31))
    there = [name for name in neural.NAMES if not degradations()[name].missing()]
    more = [OF_THE_SAME_LADDER[i] for i in rng.permutation(len(OF_THE_SAME_LADDER))]
    return [[], *([chain_step(name, step, seed)] for name in (*there, *more))][:n_clips]


def _drawn(rng: np.random.Generator, families: dict[str, list[str]], family: str | None = None) -> dict[str, Any]:
    if family is None:
        names = list(families)
        shares = np.array([SHARES[name] for name in names])
        family = names[int(rng.choice(len(names), p=shares / shares.sum()))]
    name = families[family][int(rng.integers(len(families[family])))]
    return chain_step(name, int(rng.integers(len(degradations()[name].ladder))), int(rng.integers(2**31)))


def _ladder(rng: np.random.Generator, families: dict[str, list[str]]) -> list[list[dict[str, Any]]]:
    """Two places on one ladder with one seed."""
    first = _drawn(rng, families)
    steps = len(degradations()[first["name"]].ladder)
    if steps < 2:
        return [[first]]
    chosen = sorted(int(step) for step in rng.choice(steps, 2, replace=False))
    return [[chain_step(first["name"], step, first["seed"])] for step in chosen]


def _combined(rng: np.random.Generator, families: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Two or three steps of different families, in the order of the signal's way."""
    drawn: dict[str, dict[str, Any]] = {}
    wanted = min(2 if rng.random() < 0.7 else 3, len(families))
    while len(drawn) < wanted:
        step = _drawn(rng, families)
        drawn.setdefault(degradations()[step["name"]].family, step)
    return [drawn[family] for family in ORDER if family in drawn]
