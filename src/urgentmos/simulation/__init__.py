"""Degradations that make training speech from clean speech, each with a seed and a description in JSON.

A clip is made by a chain of steps, in the order in which they were applied; an empty chain is the clean clip:
`[{"name": "reverb", "setting": {...}, "step": 2, "seed": 71}, {"name": "opus", "setting": {...}, "step": 4, "seed": 9}]`.
Same signal, chain and sources: same samples. What comes out is in time with what went in, so that it can be measured
against the clean signal. `step` is the place of the setting on the ladder of its degradation, from mild (0) to strong.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from urgentmos.common.untrusted import shown
from urgentmos.errors import UsageError
from urgentmos.simulation.base import RATE, Degradation, Signal, Sources

__all__ = ["RATE", "Degradation", "Signal", "Sources", "chain_step", "degradations", "known_orders", "simulate"]

Step = Mapping[str, Any]  # name, setting, step, seed
Chain = Sequence[Step]
PEAK = 0.99  # what is louder is turned down as a whole, so that files hold it unclipped


@cache
def degradations() -> dict[str, Degradation]:
    """name -> degradation, all that there are, whether or not this machine has what they need."""
    from urgentmos.simulation import channel, codecs, enhancers, loss, neural, noise, parametric, regressors, vocoders

    modules = (noise, channel, codecs, loss, enhancers, neural, regressors, vocoders, parametric)
    rows = [row for module in modules for row in module.DEGRADATIONS]
    table = {row.name: row for row in rows}
    assert len(table) == len(rows), "two degradations share a name"
    return table


def chain_step(name: str, step: int, seed: int) -> dict[str, Any]:
    """The description of one step. UsageError for a degradation or a step that does not exist."""
    row = degradations().get(name)
    if row is None:
        raise UsageError(f"there is no degradation {shown(name)}. Choose one of: {', '.join(degradations())}.")
    if not 0 <= step < len(row.ladder):
        raise UsageError(f"{name} has the steps 0 to {len(row.ladder) - 1}, not {step}.")
    return {"name": name, "setting": dict(row.ladder[step]), "step": step, "seed": seed}


def simulate(signal: Signal, chain: Chain, sources: Sources = Sources()) -> Signal:  # noqa: B008 (frozen)
    """(T,) float32 at RATE -> (T,) float32 within -PEAK..PEAK, in time with the input.

    UsageError for a step that is not understood or needs what this machine lacks; RuntimeError if a degradation gives
    something that is no sound (a fault of ours).
    """
    out = np.asarray(signal, dtype=np.float32)
    for step in chain:
        row = degradations().get(str(step.get("name")))
        if row is None:
            raise UsageError(f"there is no degradation {shown(step.get('name'))}. Choose one of: {', '.join(degradations())}.")
        missing = row.missing()
        if missing:
            raise UsageError(f"{row.name} needs {', '.join(missing)}. Install it, or leave this degradation out.")
        out = row.apply(out, np.random.default_rng(int(step["seed"])), sources, **step["setting"])
        if out.shape != np.shape(signal) or not np.isfinite(out).all():
            raise RuntimeError(f"{row.name} with {dict(step['setting'])} made {out.shape} samples of {np.shape(signal)}")
    peak = float(np.abs(out).max(initial=0.0))
    return np.asarray(out * (PEAK / peak) if peak > PEAK else out, dtype=np.float32)


def known_orders(chains: Sequence[Chain]) -> list[tuple[int, int]]:
    """Pairs (better, worse) of places in `chains`, all of one content, whose order follows from how they were made.

    Better is a clip from which the other was made by further steps (clean from everything), and of two that differ in one
    step's place on its ladder, the one with the milder setting.
    """
    return [(i, j) for i, a in enumerate(chains) for j, b in enumerate(chains) if i != j and _is_milder(a, b)]


def _is_milder(a: Chain, b: Chain) -> bool:
    if len(a) < len(b):
        return list(b[: len(a)]) == list(a)
    if len(a) != len(b):
        return False
    different = [(x, y) for x, y in zip(a, b, strict=True) if x != y]
    if len(different) != 1:
        return False
    x, y = different[0]
    return bool(x["name"] == y["name"] and x["seed"] == y["seed"] and x["step"] < y["step"])
