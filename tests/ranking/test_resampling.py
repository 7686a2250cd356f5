"""Resampling: weights, errors, intervals, and the joint test of all pairs."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from urgentmos.ranking.resampling import (
    content_weights,
    n_sign_patterns,
    open_interval,
    scale_interval,
    share_better,
    sign_flip_interval,
    sign_flip_p,
    standard_errors,
    t_test_p,
    uneven_p,
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


ends = st.sampled_from([(-np.inf, np.inf), (1.0, 5.0), (0.0, np.inf), (-np.inf, 2.0), (-50.0, 50.0)])


@given(ends, st.floats(0, 1), st.floats(0, 3), st.integers(2, 60), st.floats(0.5, 0.999))
def test_intervals_of_means_hold_the_score_and_stay_on_the_scale(bounds, share, error, n, confidence):
    low_end, high_end = (x if np.isfinite(x) else y for x, y in zip(bounds, (-3.0, 3.0), strict=True))
    score, error, n = np.array([low_end + share * (high_end - low_end)]), np.array([error]), np.array([n])
    score = np.clip(score, *bounds)
    low, high = scale_interval(score, error, n, confidence, *bounds)
    assert bounds[0] <= low[0] <= score[0] <= high[0] <= bounds[1]
    mirrored = scale_interval(-score, error, n, confidence, -bounds[1], -bounds[0])
    assert_allclose([-mirrored[1][0], -mirrored[0][0]], [low[0], high[0]], atol=1e-6)
    wider = scale_interval(score, error, n, min(0.9999, confidence + 0.1 * (1 - confidence)), *bounds)
    assert wider[0][0] <= low[0] + 1e-9 and high[0] <= wider[1][0] + 1e-9


def test_far_from_the_ends_of_the_scale_it_is_students_and_one_content_has_none():
    score, error, n = np.array([0.5]), np.array([0.2]), np.array([12])
    assert_allclose(scale_interval(score, error, n, 0.95, -500, 500), open_interval(score, error, n, 0.95), rtol=1e-3)
    unknown = scale_interval(score, np.array([np.nan]), np.array([1]), 0.95, 0, 1)
    assert (unknown[0][0], unknown[1][0]) == (-np.inf, np.inf)


def test_intervals_near_the_end_of_the_scale_cover_better_than_students():
    rng = np.random.default_rng(0)
    values = np.clip(rng.normal(4.8, 0.8, (4000, 8)), 1, 5)
    truth = np.clip(rng.normal(4.8, 0.8, 2_000_000), 1, 5).mean()
    mean, error, n = values.mean(1), values.std(1, ddof=1) / np.sqrt(8), np.full(4000, 8)
    cover = [
        np.mean((low <= truth) & (truth <= high))
        for low, high in (scale_interval(mean, error, n, 0.95, 1, 5), open_interval(mean, error, n, 0.95))
    ]
    assert cover[1] < 0.93 < cover[0] < 0.98


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


@given(
    arrays(float, st.integers(1, 20), elements=st.integers(-20, 40).map(lambda k: k / 10)),
    st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]),
)
@settings(max_examples=300)
def test_the_sign_flip_interval_holds_0_exactly_where_the_test_does_not_reject_it(values, confidence):
    low, high = sign_flip_interval(values, confidence, seed=0)
    p = sign_flip_p(values[None], seed=0)[0]
    assert low <= values.mean() <= high
    if p > 1 - confidence + 1e-12:
        assert low <= 0 <= high
    else:
        assert low >= 0 or high <= 0
    assert np.isinf(low) or (low >= values.min() - 1e-12 and high <= values.max() + 1e-12)
    assert sign_flip_interval(-values, confidence, seed=0) == (-high, -low)


@given(arrays(float, st.integers(6, 11), elements=st.integers(-20, 40).map(lambda k: k / 7)), st.floats(-2, 5))
def test_the_sign_flip_interval_is_what_the_test_does_not_reject(values, shift):
    low, high = sign_flip_interval(values, 0.95, seed=0)
    if min(abs(shift - low), abs(shift - high)) > 1e-6:
        rejected = sign_flip_p((values - shift)[None], seed=0)[0] <= 0.05 + 1e-12
        assert rejected == (shift < low or shift > high)


def test_sign_flip_intervals_cover():
    rng = np.random.default_rng(0)
    for n in (8, 30):
        limits = np.array([sign_flip_interval(rng.normal(1, 2, n), 0.95, seed=0) for _ in range(400)])
        assert 0.93 <= np.mean((limits[:, 0] <= 1) & (limits[:, 1] >= 1)) <= 0.98


def test_too_few_contents_have_no_sign_flip_interval():
    assert sign_flip_interval(np.ones(5), 0.95, seed=0) == (-np.inf, np.inf)
    assert sign_flip_interval(np.arange(1.0, 7.0), 0.95, seed=0) == (1.0, 6.0)
    assert sign_flip_interval(np.zeros(0), 0.95, seed=0) == (-np.inf, np.inf)


def test_steps_add_up_to_the_number_of_patterns():
    for n_contents in (1, 5, 12, 13):
        steps: list[int] = []
        sign_flip_p(np.ones((3, n_contents)), seed=0, step=steps.append)
        assert sum(steps) == n_sign_patterns(n_contents)


def test_contents_that_hardly_speak_are_no_evidence():
    clear = np.concatenate([np.full(5, 1.0), np.full(40, 1e-6)])[None]
    assert sign_flip_p(clear, seed=0)[0] < 0.001
    assert uneven_p(clear)[0] >= 0.06  # five contents: 2 ** -4
    assert uneven_p(np.ones((1, 20)))[0] < 0.001
    assert_array_equal(uneven_p(np.zeros((2, 4))), 1.0)


def test_t_test_is_scipys_and_nothing_is_no_evidence():
    differences = np.random.default_rng(4).normal(0.3, 1, (3, 10))
    assert_allclose(t_test_p(differences), stats.ttest_1samp(differences, 0, axis=1).pvalue)
    assert_array_equal(t_test_p(np.zeros((2, 5))), 1.0)
    assert_array_equal(t_test_p(np.ones((2, 1))), 1.0)
