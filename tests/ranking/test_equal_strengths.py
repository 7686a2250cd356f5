"""Score statistics of equal strengths: against the same written out densely, and against a fit of each pair of its own."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import brentq

from urgentmos.ranking import resampling
from urgentmos.ranking.bradley_terry import PRIOR, Games, fit, information, linked, moments, prior_wins
from urgentmos.ranking.equal_strengths import differences


def games_of(n_systems: int, n_contents: int, missing: float, seed: int, step: float = 0.5) -> Games:
    """Comparisons of scores of linked systems; with step > 0 the scores are rounded to it, so that there are ties."""
    rng = np.random.default_rng(seed)
    scores = np.linspace(0, 2, n_systems)[:, None] + rng.normal(size=(n_systems, n_contents))
    scores = np.round(scores / step) * step if step else scores
    scores[rng.random(scores.shape) < missing] = np.nan
    gap = scores[:, None] - scores[None]
    played = ~np.isnan(gap) & ~np.eye(n_systems, dtype=bool)[:, :, None]
    games = Games((played & (gap > 0)).astype(float), (played & (gap == 0)).astype(float), played)
    assert len(set(linked(games.total > 0))) == 1
    return games


def densely(games: Games, i: int, j: int) -> np.ndarray:
    """(U,) of one pair: the common strength by bisection, the direction by a dense solve, the gradient at that point."""
    fitted = fit(games.wins.sum(2), games.ties.sum(2))
    counts = games.total + 2 * prior_wins(len(games.wins), PRIOR)
    balance = (games.wins.sum(2) - games.wins.sum(2).T) / 2
    others = [k for k in range(len(counts)) if k not in (i, j)]

    def at(level: float) -> np.ndarray:
        theta = fitted.theta.copy()
        theta[[i, j]] = level
        return theta

    def miss(level: float) -> float:
        mean = moments(at(level), fitted.nu)[0]
        return sum((balance[s, others] - counts[s, others] * mean[s, others]).sum() for s in (i, j))

    theta = at(brentq(miss, -30, 30, xtol=1e-13)) if others else at(float(fitted.theta[[i, j]].mean()))
    contrast = np.zeros(len(counts) + 1)
    contrast[i], contrast[j] = 1, -1
    return np.linalg.solve(information(counts, theta, fitted.nu), contrast) @ games.gradient(theta, fitted.nu)


@pytest.mark.parametrize(("n_systems", "missing", "step"), [(2, 0.2, 0.5), (3, 0.3, 0.5), (5, 0.3, 0.0), (8, 0.5, 1.0)])
def test_it_is_the_effective_score_of_the_difference(n_systems, missing, step):
    games = games_of(n_systems, 14, missing, seed=n_systems, step=step)
    first, second = np.triu_indices(n_systems, 1)
    fitted = fit(games.wins.sum(2), games.ties.sum(2))
    chunked = np.concatenate(list(differences(games, fitted, PRIOR, first, second, 3)))
    expected = np.array([densely(games, i, j) for i, j in zip(first, second, strict=True)])
    assert_allclose(chunked, expected, atol=1e-6)


def refitted(games: Games, i: int, j: int) -> np.ndarray:
    """(U,) as `densely`, but at the likeliest strengths of all with the two held equal: merged, and fitted again."""
    wins, ties = games.wins.sum(2) + prior_wins(len(games.wins), PRIOR), games.ties.sum(2)
    others = [k for k in range(len(wins)) if k != j]

    def merged(counts: np.ndarray) -> np.ndarray:
        counts = counts.copy()
        counts[i] += counts[j]
        counts[:, i] += counts[:, j]
        return counts[np.ix_(others, others)] * (1 - np.eye(len(others)))

    held = fit(merged(wins)[None], merged(ties)[None], prior=0.0)
    theta, nu = np.empty(len(wins)), held.nu[0]
    theta[others] = held.theta[0]
    theta[j] = theta[i]
    contrast = np.zeros(len(wins) + 1)
    contrast[i], contrast[j] = 1, -1
    counts = wins + wins.T + ties
    return np.linalg.solve(information(counts, theta, nu), contrast) @ games.gradient(theta, nu)


@pytest.mark.parametrize(("n_systems", "n_contents", "missing"), [(3, 8, 0.2), (4, 12, 0.3), (6, 20, 0.4), (10, 12, 0.2)])
def test_p_values_are_those_of_a_fit_for_each_pair(n_systems, n_contents, missing):
    """One fit for all pairs moves no p-value by more than the random sign patterns do."""
    games = games_of(n_systems, n_contents, missing, seed=1)
    first, second = np.triu_indices(n_systems, 1)
    fitted = fit(games.wins.sum(2), games.ties.sum(2))
    one = np.concatenate(list(differences(games, fitted, PRIOR, first, second, 50)))
    each = np.array([refitted(games, i, j) for i, j in zip(first, second, strict=True)])
    assert_allclose(resampling.sign_flip_p(one, 0), resampling.sign_flip_p(each, 0), atol=0.01)
    assert_allclose(resampling.uneven_p(one), resampling.uneven_p(each), atol=0.01)


def test_turning_a_pair_round_turns_its_statistic_round():
    games = games_of(5, 10, 0.3, seed=2)
    fitted = fit(games.wins.sum(2), games.ties.sum(2))
    i, j = np.array([0, 1, 4]), np.array([3, 2, 0])
    there, back = (next(differences(games, fitted, PRIOR, a, b, 9)) for a, b in ((i, j), (j, i)))
    assert_allclose(there, -back, atol=1e-8)
