"""Resampling: weights, errors, intervals, and the joint test of all pairs."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from urgentmos.resampling import (
    content_weights,
    open_interval,
    share_better,
    sign_flip_p,
    standard_errors,
    t_test_p,
    vote_interval,
)


def test_every_resample_has_as_many_contents_and_a_seed_fixes_it():
    weights = content_weights(7, 50, seed=3)
    assert_array_equal(weights.sum(1), 7)
    assert_array_equal(weights, content_weights(7, 50, seed=3))
    assert (weights != content_weights(7, 50, seed=4)).any()


def test_the_error_of_a_mean_is_the_textbooks():
    values = np.random.default_rng(0).normal(size=(3, 12))
    draws = content_weights(12, 40_000, seed=0) @ values.T / 12
    error = standard_errors(draws, np.full(3, 12))
    assert_allclose(error, stats.sem(values, axis=1), rtol=0.02)
    assert np.isnan(standard_errors(draws, np.array([1, 12, 12]))[0])


def test_open_interval_is_students():
    low, high = open_interval(np.array([2.0]), np.array([0.5]), np.array([8]), 0.9)
    assert_allclose([low[0], high[0]], stats.t.interval(0.9, 7, 2.0, 0.5))
    low, high = open_interval(np.array([2.0]), np.array([np.nan]), np.array([1]), 0.9)
    assert (low[0], high[0]) == (-np.inf, np.inf)


@given(st.integers(1, 30), st.floats(0, 1), st.floats(0, 20), st.floats(0.5, 0.999))
def test_vote_intervals_hold_the_score_and_stay_possible(most, share, error, confidence):
    score, n = np.array([share * most]), np.array([6])
    low, high = vote_interval(score, np.array([error]), n, confidence, most)
    assert 0 <= low[0] <= score[0] <= high[0] <= most
    mirrored = vote_interval(most - score, np.array([error]), n, confidence, most)
    assert_allclose([most - mirrored[1][0], most - mirrored[0][0]], [low[0], high[0]], atol=1e-6)


def test_share_better_counts_draws():
    draws = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0], [3.0, np.nan]])
    assert_allclose(share_better(draws), [[0.5, 0.5], [0.5, 0.5]])
    assert_allclose(share_better(draws[:2]), [[0.5, 0.75], [0.25, 0.5]])


def test_one_pair_is_fishers_permutation_test():
    difference = np.random.default_rng(1).normal(0.5, 1, 9)
    expected = stats.permutation_test((difference,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip_p(difference[None], seed=0)[0] == pytest.approx(expected)


def stepdown_by_hand(differences: np.ndarray) -> np.ndarray:
    """Westfall and Young's algorithm, written out over all 2 ** U patterns."""
    size = np.sqrt((differences**2).sum(1))
    statistic = lambda signs: np.abs((differences * signs).sum(1)) / size  # noqa: E731
    seen = statistic(1.0)
    patterns = [statistic(np.array(s)) for s in product((1.0, -1.0), repeat=differences.shape[1])]
    p, floor = np.empty(len(seen)), 0.0
    left = list(np.argsort(-seen))
    while left:
        k = left[0]
        floor = max(floor, np.mean([pattern[left].max() >= seen[k] - 1e-9 for pattern in patterns]))
        p[k] = floor
        left.pop(0)
    return p


@given(arrays(float, (4, 5), elements=st.integers(-9, 9).map(float)))
@settings(max_examples=50)
def test_many_pairs_are_the_step_down_procedure(differences):
    differences[:, 0] += 0.5
    assert_allclose(sign_flip_p(differences, seed=0), stepdown_by_hand(differences))


def test_unanimous_differences_win_from_six_contents_on_whatever_the_number_of_pairs():
    for n_pairs in (1, 10, 300):
        for n_contents, smallest in ((2, 0.5), (5, 0.0625), (6, 0.03125), (8, 0.0078125)):
            assert_allclose(sign_flip_p(np.ones((n_pairs, n_contents)), seed=0), smallest)


def test_equal_systems_and_silent_contents():
    differences = np.array([[0.0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]])
    assert_allclose(sign_flip_p(differences, seed=0), [1.0, 0.5])
    assert_allclose(sign_flip_p(np.zeros((2, 3)), seed=0), 1.0)


def test_random_patterns_agree_with_all_of_them():
    few = np.random.default_rng(2).normal(0.4, 1, (3, 12))
    many = np.hstack([few, np.zeros((3, 1)), np.full((3, 1), 1e-12)])
    assert_allclose(sign_flip_p(many, seed=0), sign_flip_p(few, seed=0), atol=0.03)


@pytest.mark.parametrize("n_contents", [6, 20])
def test_any_false_claim_among_five_equal_systems_is_rarer_than_five_percent(n_contents):
    rng = np.random.default_rng(3)
    first, second = np.triu_indices(5, 1)
    claims = 0
    for _ in range(200):
        scores = rng.standard_normal((5, n_contents))
        claims += sign_flip_p(scores[first] - scores[second], seed=0).min() <= 0.05
    assert claims / 200 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


def test_t_test_is_scipys_and_nothing_is_no_evidence():
    differences = np.random.default_rng(4).normal(0.3, 1, (3, 10))
    assert_allclose(t_test_p(differences), stats.ttest_1samp(differences, 0, axis=1).pvalue)
    assert_array_equal(t_test_p(np.zeros((2, 5))), 1.0)
    assert_array_equal(t_test_p(np.ones((2, 1))), 1.0)
