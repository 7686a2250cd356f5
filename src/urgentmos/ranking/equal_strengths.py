"""Are two systems equally strong? Score statistics of all pairs from one Bradley-Terry fit, content by content; numpy only.

The evidence of a content on a pair is its term of the effective score of their difference: the gradient of the log-likelihood
where the two are equal, along the direction in which all other parameters keep up. Neyman's C(alpha) test (Hall and Mathiason
1990, "On large-sample estimation and testing in parametric models", International Statistical Review 58) allows any consistent
estimate of the other parameters, here the fit of all systems; the common strength of the pair is the likeliest one. Terms of
effective scores may have their signs flipped (Hemerik, Goeman and Finos 2020, "Robust testing in generalized linear models by
sign flipping score contributions", Journal of the Royal Statistical Society B 82).

A pair costs S^2 for each of a few steps, not a fit of its own with S^3 a step.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from urgentmos.ranking.bradley_terry import Games, Strengths, information, prior_wins

Array = np.ndarray  # float64 unless a docstring states another type

_MAX_STEPS = 100
_TOLERANCE = 1e-9
_LONGEST = 3.0  # logits of one step


class _Field(NamedTuple):
    """The fit of all S systems."""

    theta: Array
    nu: Array
    counts: Array  # (S, S), with the prior's
    inverse: Array  # (S + 1, S + 1) of the information


class _Change(NamedTuple):
    """(P, S) each: what the games of one system with all others change by when it gets the pair's common strength."""

    mean: Array  # expected outcome
    p_tie: Array
    weight: Array  # information on the difference of strengths
    cross: Array  # on this difference and log nu
    tie: Array  # on log nu


def differences(games: Games, fitted: Strengths, prior: float, first: Array, second: Array, rows: int) -> Iterator[Array]:
    """(P, U) in chunks of `rows` pairs first[p], second[p] (P,) int: how much each content speaks for the first system.

    prior: that of `bradley_terry.fit`, above 0. A content in which neither takes part, directly or through others, adds 0.
    """
    theta, nu = fitted.theta, fitted.nu
    counts = games.total + 2 * prior_wins(len(theta), prior)
    field = _Field(theta, nu, counts, np.linalg.inv(information(counts, theta, nu)))
    balance = (games.wins.sum((1, 2)) - games.wins.sum((0, 2))) / 2
    gradient = games.gradient(theta, nu)
    played = np.asarray(games.played, float)
    for start in range(0, len(first), rows):
        pair = first[start : start + rows], second[start : start + rows]
        level = _common(field, pair, balance)
        changes = [_change(field, level, pair, side) for side in (0, 1)]
        direction = _direction(field, pair, changes)
        added = direction @ gradient
        for own, change in zip(pair, changes, strict=True):
            along = direction[np.arange(len(own)), own][:, None] - direction[:, :-1]
            part = along * change.mean + direction[:, -1:] * change.p_tie
            added -= np.einsum("pk,pku->pu", part, played[own])
        yield added


def _common(field: _Field, pair: tuple[Array, Array], balance: Array) -> Array:
    """(P,) the likeliest common strength of each pair, all other parameters being those of the fit."""
    i, j = pair
    rows = np.arange(len(i))
    counts = field.counts[i] + field.counts[j]
    counts[rows, i] = counts[rows, j] = 0.0
    goal = balance[i] + balance[j]  # the games of the two with each other cancel out
    level = (field.theta[i] + field.theta[j]) / 2
    root = np.exp(field.theta / 2)
    for _ in range(_MAX_STEPS):
        own = np.exp(level / 2)[:, None]
        win, loss = own / root, root / own
        total = win + loss + field.nu
        mean = (win - loss) / (2 * total)
        slope = (counts * ((win + loss) / (4 * total) - mean**2)).sum(1)
        miss = goal - (counts * mean).sum(1)
        step = np.clip(np.divide(miss, slope, out=np.zeros_like(miss), where=slope > 0), -_LONGEST, _LONGEST)
        level = level + step
        if np.abs(step).max(initial=0.0) < _TOLERANCE:
            break
    return np.asarray(level)


def _change(field: _Field, level: Array, pair: tuple[Array, Array], side: int) -> _Change:
    """For the first (0) or second (1) system of each pair; the games of the two with each other count with the first."""
    own, other = pair[side], pair[1 - side]
    rows = np.arange(len(own))
    there = field.theta[None, :] - level[:, None]
    there[rows, own] = there[rows, other] = 0.0
    now = _moments(-there, field.nu)
    before = _moments(field.theta[own][:, None] - field.theta[None, :], field.nu)
    counts = field.counts[own]
    changes = [
        now[0] - before[0],
        now[2] - before[2],
        counts * (now[1] - before[1]),
        counts * (before[0] * before[2] - now[0] * now[2]),
        counts * (now[2] * (1 - now[2]) - before[2] * (1 - before[2])),
    ]
    for change in changes:
        change[rows, own] = 0.0
        if side == 1:
            change[rows, other] = 0.0
    return _Change(*changes)


def _moments(difference: Array, nu: Array) -> tuple[Array, Array, Array]:
    """Those of `bradley_terry.moments`, for differences of strengths."""
    win = np.exp(difference / 2)
    loss = 1 / win
    total = win + loss + nu
    mean = (win - loss) / (2 * total)
    return mean, (win + loss) / (4 * total) - mean**2, nu / total


def _direction(field: _Field, pair: tuple[Array, Array], changes: list[_Change]) -> Array:
    """(P, S + 1) x with (information where the pair is equal) x = (1 at the first, -1 at the second).

    Conjugate gradients, preconditioned with the inverse information of the fit, from which it differs in the rows of two
    systems and little elsewhere: a handful of steps.
    """
    rows = np.arange(len(pair[0]))
    tied = bool(field.nu > 0)

    def times(x: Array, plain: Array) -> Array:
        product = plain.copy()
        for own, change in zip(pair, changes, strict=True):
            gap = x[rows, own][:, None] - x[:, :-1]
            flow = change.weight * gap
            if tied:
                flow += change.cross * x[:, -1:]
                product[:, -1] += (change.cross * gap).sum(1) + change.tie.sum(1) * x[:, -1]
            product[:, :-1] -= flow
            product[rows, own] += flow.sum(1)
        return product

    residual = np.zeros((len(rows), len(field.inverse)))
    residual[rows, pair[0]], residual[rows, pair[1]] = 1.0, -1.0
    x = np.zeros_like(residual)
    ahead = residual @ field.inverse
    size = (residual * ahead).sum(1)
    goal = _TOLERANCE**2 * size
    search, plain = ahead, residual.copy()  # plain: search @ (information of the fit), which needs no product
    for _ in range(_MAX_STEPS):
        product = times(search, plain)
        along = (search * product).sum(1)
        length = np.divide(size, along, out=np.zeros_like(size), where=along > 0)[:, None]
        x += length * search
        residual -= length * product
        ahead = residual @ field.inverse
        grown = (residual * ahead).sum(1)
        if (grown <= goal).all():
            break
        again = np.divide(grown, size, out=np.zeros_like(size), where=size > 0)[:, None]
        search, plain = ahead + again * search, residual + again * plain
        size = grown
    return x
