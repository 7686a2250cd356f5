"""Bradley-Terry strengths with ties, from counts of wins and ties; many data sets at once; numpy/scipy only.

The model is Davidson's (1970, "On extending the Bradley-Terry model to accommodate ties in paired comparison
experiments", JASA 65): with strengths theta on the logit scale and a tie parameter nu >= 0,

    P(i beats j) : P(tie) : P(j beats i)  =  exp(d / 2) : nu : exp(-d / 2),   d = theta_i - theta_j.

Without ties nu is 0 and this is Bradley and Terry's model. The log-likelihood is concave in (theta, log nu), so Newton's
method finds its one maximum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import linprog
from scipy.sparse.csgraph import connected_components

from urgentmos.errors import UsageError

Array = np.ndarray  # float64 unless a docstring states another type

PRIOR = 1.0
MAX_STEPS = 200
TOLERANCE = 1e-10  # of the last Newton step, in logits
LONGEST_STEP = 3.0  # logits; far from the maximum the quadratic model is not to be trusted further


@dataclass(frozen=True)
class Strengths:
    """A fit. `theta` (..., S) logits with mean 0; `nu` (...) the tie parameter, 0 where nothing tied."""

    theta: Array
    nu: Array
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Games:
    """Comparisons of S systems on U contents and how they ended; the diagonals are 0."""

    wins: Array  # (S, S, U) how often the row system won, fractions included
    ties: Array  # (S, S, U), symmetric
    played: Array  # (S, S, U) bool

    @cached_property
    def total(self) -> Array:
        """(S, S) contents on which two systems were compared."""
        return np.asarray(self.played.sum(2), float)

    @cached_property
    def complete(self) -> bool:
        """Whether every content compares all systems."""
        n_systems, _, n_contents = self.played.shape
        return bool(self.total.sum() == n_systems * (n_systems - 1) * n_contents)

    def gradient(self, theta: Array, nu: Array) -> Array:
        """(S + 1, U) each content's part of the gradient of the log-likelihood in (theta, log nu), at theta (S,) and nu ()."""
        mean, _, p_tie = moments(theta, nu)
        balance = (self.wins.sum(1) - self.wins.sum(0)) / 2
        in_theta = balance - np.einsum("ij,iju->iu", mean, self.played)
        if not nu > 0:
            return np.vstack([in_theta, np.zeros(balance.shape[1])])
        in_log_nu = (self.ties.sum((0, 1)) - np.einsum("ij,iju->u", p_tie, self.played)) / 2
        return np.vstack([in_theta, in_log_nu])


def fit(
    wins: Array,
    ties: Array | None = None,
    *,
    prior: float = PRIOR,
    systems: Sequence[str] | None = None,
    start: Strengths | None = None,
) -> Strengths:
    """Most likely strengths of S systems.

    wins (S, S): wins[i, j] is how often i beat j; fractions are welcome. ties (S, S), symmetric: how often they tied.
    A batch (B, S, S) gives `theta` (B, S); with a batch nothing is checked and the prior must be on.

    prior: every system is given `prior / S` extra wins and as many losses against each other one, so that a system that
    won or lost everything keeps a finite strength and groups that never met are comparable. With 1.0 the weight is that
    of Jeffreys' prior in a complete design, sum of leverages = S - 1 (Firth 1993, "Bias reduction of maximum likelihood
    estimates", Biometrika 80), which also removes the first-order bias of the strengths. 0 is plain maximum likelihood.

    Raises UsageError when prior is 0 and no finite strengths exist (it names the groups of systems), and when Newton's
    method does not converge. With the prior on, groups that never met and all-win systems are named in `warnings`.
    """
    wins = np.asarray(wins, float)
    ties = np.zeros_like(wins) if ties is None else np.asarray(ties, float)
    n_systems = wins.shape[-1]
    if not prior >= 0:
        raise UsageError(f"prior {prior:g} is negative. Use 0 for plain maximum likelihood, or 1, the default.")
    warnings: tuple[str, ...] = ()
    if wins.ndim == 2:
        names = [str(i) for i in range(n_systems)] if systems is None else list(systems)
        warnings = _check(wins, ties, names, prior)
    batch = (wins + prior_wins(n_systems, prior)).reshape(-1, n_systems, n_systems)
    theta, nu = _newton(batch, ties.reshape(batch.shape), start)
    return Strengths(theta.reshape(wins.shape[:-1]), nu.reshape(wins.shape[:-2]), warnings)


def prior_wins(n_systems: int, prior: float) -> Array:
    """(S, S) the wins that the prior adds: `prior / S` each way between any two systems."""
    return (prior / n_systems) * (1 - np.eye(n_systems))


def information(counts: Array, theta: Array, nu: Array) -> Array:
    """(..., S + 1, S + 1) minus the Hessian of the log-likelihood in (theta, log nu), as if theta had mean 0.

    counts (..., S, S): comparisons of i with j, ties included. The row of log nu is the identity's where nu is 0.
    """
    mean, variance, p_tie = moments(theta, nu)
    n_systems = theta.shape[-1]
    weight = counts * variance
    hessian = np.zeros((*theta.shape[:-1], n_systems + 1, n_systems + 1))
    hessian[..., :-1, :-1] = -weight + 1 / n_systems
    diagonal = np.arange(n_systems)
    hessian[..., diagonal, diagonal] += weight.sum(-1)
    cross = -(counts * mean * p_tie).sum(-1)
    hessian[..., :-1, -1] = hessian[..., -1, :-1] = cross
    hessian[..., -1, -1] = np.where(nu > 0, (counts * p_tie * (1 - p_tie)).sum((-2, -1)) / 2, 1.0)
    return hessian


def moments(theta: Array, nu: Array) -> tuple[Array, Array, Array]:
    """Mean and variance of x = 1/2, 0, -1/2 for a win, a tie, a loss of i against j, and P(tie); each (..., S, S).

    theta (..., S) logits, nu (...). The diagonal is that of two equals.
    """
    half = (theta[..., :, None] - theta[..., None, :]) / 2
    win, loss, tie = np.exp(half), np.exp(-half), nu[..., None, None]
    total = win + loss + tie
    mean = (win - loss) / (2 * total)
    return mean, (win + loss) / (4 * total) - mean**2, tie / total


def _log_likelihood(balance: Array, n_ties: Array, counts: Array, theta: Array, log_nu: Array) -> Array:
    half = (theta[:, :, None] - theta[:, None, :]) / 2
    log_total = np.logaddexp(np.logaddexp(half, -half), log_nu[:, None, None])
    log_nu = np.where(n_ties > 0, log_nu, 0.0)
    value: Array = (balance * theta).sum(1) + n_ties * log_nu - (counts * log_total).sum((1, 2)) / 2
    return value


def _newton(wins: Array, ties: Array, start: Strengths | None) -> tuple[Array, Array]:
    """theta (B, S), nu (B,) that maximise the likelihood of wins and ties (B, S, S); UsageError if they do not settle."""
    swapped = wins.swapaxes(1, 2)
    counts = (wins + swapped + ties) * (1 - np.eye(wins.shape[1]))
    balance = (wins - swapped).sum(2) / 2
    n_ties = ties.sum((1, 2)) / 2
    tied = n_ties > 0
    if start is None:
        theta, log_nu = np.zeros(balance.shape), np.zeros(len(wins))
    else:
        theta = np.broadcast_to(start.theta, balance.shape).copy()
        log_nu = np.broadcast_to(np.log(np.where(start.nu > 0, start.nu, 1.0)), len(wins)).copy()
    log_nu[~tied] = -np.inf
    level = _log_likelihood(balance, n_ties, counts, theta, log_nu)
    for _ in range(MAX_STEPS):
        nu = np.exp(log_nu)
        mean, _, p_tie = moments(theta, nu)
        gradient = np.empty((len(wins), wins.shape[1] + 1))
        gradient[:, :-1] = balance - (counts * mean).sum(2)
        gradient[:, -1] = np.where(tied, n_ties - (counts * p_tie).sum((1, 2)) / 2, 0.0)
        step = np.linalg.solve(information(counts, theta, nu), gradient[..., None])[..., 0]
        longest = np.abs(step).max(1)
        if longest.max() < TOLERANCE:
            return theta - theta.mean(1, keepdims=True), nu
        step *= np.minimum(1.0, LONGEST_STEP / np.maximum(longest, 1e-300))[:, None]
        theta, log_nu, level = _climb(theta, log_nu, level, step, (balance, n_ties, counts))
    raise UsageError(
        f"the Bradley-Terry fit did not settle in {MAX_STEPS} steps. Keep the prior on, or rank with --scoring binary."
    )


def _climb(
    theta: Array, log_nu: Array, level: Array, step: Array, data: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    """One step, halved for each data set until its likelihood no longer falls (beyond rounding)."""
    for _ in range(30):
        moved, moved_nu = theta + step[:, :-1], log_nu + step[:, -1]
        reached = _log_likelihood(*data, moved, moved_nu)
        fell = reached < level - 1e-9 * (1 + np.abs(level))
        if not fell.any():
            break
        step = np.where(fell[:, None], step / 2, step)
    return moved, moved_nu, reached


def _check(wins: Array, ties: Array, names: list[str], prior: float) -> tuple[str, ...]:
    """Warnings with the prior on; UsageError where plain maximum likelihood has no finite answer."""
    met = (wins + wins.T + ties) > 0
    groups = _groups(met, "weak", names)
    if len(groups) > 1:
        sentence = f"{len(groups)} groups of systems were never compared with each other: {_listed(groups)}"
        if prior <= 0:
            raise UsageError(f"{sentence}. Add contents that they share, or keep the prior on.")
        return (f"{sentence}. Their order across groups is the prior's, not the data's.",)
    blocks = _groups((wins + ties) > 0, "strong", names)
    if len(blocks) > 1:
        sentence = f"some systems won every comparison with the others; in groups: {_listed(blocks)}"
        if prior <= 0:
            raise UsageError(f"{sentence}. Their strengths are infinite: keep the prior on, or rank with --scoring binary.")
        return (f"{sentence}. How far these groups lie apart is the prior's, not the data's.",)
    if prior <= 0 and ties.any() and not _has_maximum(wins, ties):
        raise UsageError(
            "with these ties the most likely strengths are infinite. Keep the prior on, or rank with --scoring binary."
        )
    return ()


def linked(met: Array) -> Array:
    """(S,) int, equal for systems that a chain of comparisons links; met (S, S) bool."""
    return np.asarray(connected_components(met, directed=False)[1])


def _groups(links: Array, connection: str, names: list[str]) -> list[list[str]]:
    n_groups, label = connected_components(links, directed=True, connection=connection)
    groups = [sorted(n for n, g in zip(names, label, strict=True) if g == k) for k in range(n_groups)]
    return sorted(groups)


def _listed(groups: list[list[str]]) -> str:
    return "; ".join(f"({', '.join(g)})" for g in groups)


def _has_maximum(wins: Array, ties: Array) -> bool:
    """Whether the likelihood has a finite maximum: no direction in which no observed outcome gets less likely.

    Strongly connected wins and ties are enough without nu (Ford 1957), not with it: if A ties with B, B with C, and A
    beats C, then nu and all distances can grow together. A linear programme looks for such a direction.
    """
    n_systems = len(wins)
    rows = []
    for i in range(n_systems):
        for j in range(i + 1, n_systems):
            win = np.zeros(n_systems + 1)
            win[i], win[j] = 0.5, -0.5
            outcomes = {"win": win, "loss": -win, "tie": np.eye(n_systems + 1)[-1]}
            seen = {"win": wins[i, j] > 0, "loss": wins[j, i] > 0, "tie": ties[i, j] > 0}
            rows += [outcomes[a] - outcomes[b] for a in outcomes for b in outcomes if seen[a] and a != b]
    gains = np.array(rows)
    bounds = [(0.0, 0.0)] + [(-1.0, 1.0)] * n_systems
    best = linprog(-gains.sum(0), A_ub=-gains, b_ub=np.zeros(len(gains)), bounds=bounds)
    return bool(best.fun > -1e-9)
