"""Strengths: a published example, the peer library, and what must hold for any counts."""

import choix
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from urgentmos.errors import UsageError
from urgentmos.ranking.bradley_terry import Games, fit, moments

# "Bradley-Terry model", Wikipedia, section "Worked example": row wins against column; its strengths, normalised.
WIKIPEDIA = np.array([[0, 2, 0, 1], [3, 0, 5, 0], [0, 3, 0, 1], [4, 0, 3, 0]], float)
WIKIPEDIA_SHARES = [0.139, 0.226, 0.143, 0.492]


def counts(n_systems: int, highest: int = 9):
    whole = arrays(float, (n_systems, n_systems), elements=st.integers(0, highest).map(float))
    return whole.map(lambda w: w * (1 - np.eye(n_systems)))


def symmetric(values: np.ndarray) -> np.ndarray:
    return np.triu(values, 1) + np.triu(values, 1).T


def log_likelihood(theta: np.ndarray, log_nu: float, wins: np.ndarray, ties: np.ndarray) -> float:
    """Davidson's likelihood, written out pair by pair."""
    total = 0.0
    for i in range(len(wins)):
        for j in range(i):
            a, b = np.exp(theta[i]), np.exp(theta[j])
            tie = np.exp(log_nu) * np.sqrt(a * b)
            outcomes = ((wins[i, j], a), (wins[j, i], b), (ties[i, j], tie))
            total += sum(n * np.log(weight / (a + b + tie)) for n, weight in outcomes if n > 0)
    return float(total)


def test_wikipedias_worked_example():
    strengths = np.exp(fit(WIKIPEDIA, prior=0).theta)
    assert_allclose(strengths / strengths.sum(), WIKIPEDIA_SHARES, atol=5e-4)


@given(counts(4))
@settings(max_examples=60)
def test_without_ties_and_prior_it_is_choix(wins):
    wins = wins + (1 - np.eye(4))
    games = [(i, j) for i in range(4) for j in range(4) for _ in range(int(wins[i, j]))]
    peer = choix.ilsr_pairwise(4, games, tol=1e-10)
    assert_allclose(fit(wins, prior=0).theta, peer - peer.mean(), atol=1e-6)


def test_with_ties_it_is_the_maximum_of_davidsons_likelihood():
    rng = np.random.default_rng(0)
    wins = rng.integers(1, 8, (4, 4)) * (1.0 - np.eye(4))
    ties = symmetric(rng.integers(1, 6, (4, 4)).astype(float))
    found = fit(wins, ties, prior=0)
    best = minimize(lambda x: -log_likelihood(np.append(x[:3], 0), x[3], wins, ties), np.zeros(4), tol=1e-12)
    theta = np.append(best.x[:3], 0)
    assert_allclose(found.theta, theta - theta.mean(), atol=1e-4)
    assert_allclose(found.nu, np.exp(best.x[3]), rtol=1e-4)


@given(counts(5), counts(5))
@settings(max_examples=60)
def test_strengths_are_finite_centred_and_mirror_the_results(wins, ties):
    ties = symmetric(ties)
    found = fit(wins, ties)
    assert np.isfinite(found.theta).all()
    assert abs(found.theta.sum()) < 1e-9
    assert_allclose(fit(wins.T, ties).theta, -found.theta, atol=1e-7)
    order = np.array([3, 0, 4, 1, 2])
    assert_allclose(fit(wins[np.ix_(order, order)], ties[np.ix_(order, order)]).theta, found.theta[order], atol=1e-7)


@given(counts(4))
@settings(max_examples=30)
def test_expected_wins_equal_observed_wins(wins):
    """The likelihood equations: at the maximum every system wins as often as its strength says."""
    wins = wins + 0.5 * (1 - np.eye(4))
    found = fit(wins, prior=0)
    mean, _, _ = moments(found.theta, found.nu)
    assert_allclose(((wins + wins.T) * (mean + 0.5)).sum(1), wins.sum(1), atol=1e-6)


def test_two_systems_have_a_closed_form_also_with_fractions():
    found = fit(np.array([[0, 6.5], [2.5, 0]]), prior=0)
    assert found.theta[0] - found.theta[1] == pytest.approx(np.log(6.5 / 2.5))
    with_prior = fit(np.array([[0, 8.0], [0, 0]]), prior=1)
    assert with_prior.theta[0] - with_prior.theta[1] == pytest.approx(np.log(8.5 / 0.5))


def test_a_negative_prior_is_refused():
    with pytest.raises(UsageError, match="negative"):
        fit(WIKIPEDIA, prior=-1)


def test_the_prior_fades_with_data():
    assert_allclose(fit(1e6 * WIKIPEDIA).theta, fit(WIKIPEDIA, prior=0).theta, atol=1e-4)


def test_groups_that_never_met_are_named():
    wins = np.zeros((4, 4))
    wins[0, 1] = wins[1, 0] = wins[2, 3] = wins[3, 2] = 1
    with pytest.raises(UsageError, match=r"\(a, b\); \(c, d\).*keep the prior on"):
        fit(wins, prior=0, systems=list("abcd"))
    assert "(a, b); (c, d)" in fit(wins, systems=list("abcd")).warnings[0]


def test_a_system_that_won_everything_needs_the_prior():
    wins = np.array([[0, 3, 2], [0, 0, 1], [0, 1, 0]], float)
    with pytest.raises(UsageError, match=r"\(a\); \(b, c\).*infinite"):
        fit(wins, prior=0, systems=list("abc"))
    kept = fit(wins, systems=list("abc"))
    assert kept.theta.argmax() == 0
    assert "(a); (b, c)" in kept.warnings[0]


def test_ties_that_let_strengths_run_away_are_noticed():
    """a ties with b, b with c, a beats c: all linked both ways, and still no finite maximum."""
    wins = np.array([[0, 0, 5], [0, 0, 0], [0, 0, 0]], float)
    ties = np.array([[0, 3, 0], [3, 0, 3], [0, 3, 0]], float)
    with pytest.raises(UsageError, match="infinite"):
        fit(wins, ties, prior=0)
    assert np.isfinite(fit(wins, ties).theta).all()


def test_a_batch_is_the_single_fits_one_by_one():
    rng = np.random.default_rng(1)
    wins = rng.integers(0, 5, (20, 4, 4)) * (1.0 - np.eye(4))
    ties = np.stack([symmetric(t) for t in rng.integers(0, 3, (20, 4, 4)).astype(float)])
    ties[3] = 0
    batch = fit(wins, ties)
    for k in range(20):
        single = fit(wins[k], ties[k])
        assert_allclose(batch.theta[k], single.theta, atol=1e-8)
        assert_allclose(batch.nu[k], single.nu, atol=1e-6)
    warm = fit(wins, ties, start=fit(wins.sum(0), ties.sum(0)))
    assert_allclose(warm.theta, batch.theta, atol=1e-8)


def test_the_gradient_of_each_content_is_its_part_of_the_likelihood():
    rng = np.random.default_rng(2)
    outcome = rng.integers(0, 3, (4, 4, 5))
    played = np.triu(np.ones((4, 4)), 1)[:, :, None] * (rng.random((4, 4, 5)) < 0.7)
    first, second, tie = ((outcome == k) * played for k in range(3))
    wins, ties = first + second.swapaxes(0, 1), tie + tie.swapaxes(0, 1)
    games = Games(wins, ties, (played + played.swapaxes(0, 1)) > 0)
    theta, log_nu = rng.normal(size=4), -0.3
    gradient = games.gradient(theta, np.exp(log_nu))
    for u in range(5):
        for k in range(5):
            step = 1e-6 * np.eye(5)[k]
            ends = [
                log_likelihood(theta + sign * step[:4], log_nu + sign * step[4], wins[:, :, u], ties[:, :, u])
                for sign in (1, -1)
            ]
            assert gradient[k, u] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)
