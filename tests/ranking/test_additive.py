"""Means with content effects: against least squares written out, and what each content adds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from urgentmos.ranking.additive import fit

N_SYSTEMS, N_CONTENTS = 4, 7


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    """(S, U) scores with holes; every system and every content has a score, and the first content links all systems."""
    scores = draw(arrays(float, (N_SYSTEMS, N_CONTENTS), elements=st.integers(2, 10).map(lambda k: k / 2)))
    missing = draw(arrays(bool, (N_SYSTEMS, N_CONTENTS)))
    missing[:, 0] = missing[0] = False
    return np.where(missing, np.nan, scores)


def least_squares(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(S,) system + mean content effect, by a design matrix with a row per score."""
    known = np.argwhere(~np.isnan(scores))
    design = np.zeros((len(known), sum(scores.shape)))
    for row, (s, u) in enumerate(known):
        design[row, s] = design[row, len(scores) + u] = 1
    root = np.sqrt(weights[known[:, 1]])
    effects = np.linalg.lstsq(design * root[:, None], scores[known[:, 0], known[:, 1]] * root, rcond=None)[0]
    return effects[: len(scores)] + (weights * effects[len(scores) :]).sum() / weights.sum()


@given(tables())
def test_means_are_those_of_least_squares(scores):
    assert_allclose(fit(scores).mean, least_squares(scores, np.ones(N_CONTENTS)), atol=1e-9)


@given(tables())
@settings(max_examples=25)
def test_influence_is_the_derivative_in_the_weight_of_a_content(scores):
    step = 1e-4 * np.eye(N_CONTENTS)
    slopes = [(least_squares(scores, 1 + e) - least_squares(scores, 1 - e)) / 2e-4 for e in step]
    assert_allclose(fit(scores).influence, np.array(slopes).T, atol=1e-6)


@given(tables())
def test_what_contents_add_sums_to_the_difference_of_two_means(scores):
    fitted = fit(scores)
    first, second = np.triu_indices(N_SYSTEMS, 1)
    added = np.concatenate(list(fitted.differences(first, second, 4)))
    assert_allclose(added.sum(1), fitted.mean[first] - fitted.mean[second], atol=1e-9)
    turned = np.concatenate(list(fitted.differences(second, first, 1)))
    assert_allclose(turned, -added, atol=1e-12)


def test_without_holes_it_is_the_difference_of_the_scores():
    scores = np.random.default_rng(0).normal(size=(3, 8))
    fitted = fit(scores)
    first, second = np.triu_indices(3, 1)
    assert_array_equal(fitted.mean, scores.mean(1))
    assert_allclose(next(fitted.differences(first, second, 9)), (scores[first] - scores[second]) / 8, atol=1e-12)
    assert_allclose(fitted.influence, (scores - scores.mean(1, keepdims=True)) / 8, atol=1e-12)


def test_groups_that_share_no_content_have_means_of_their_own():
    scores = np.full((4, 6), np.nan)
    scores[:2, :3], scores[2:, 3:] = [[1, 2, 3], [2, 3, 4]], [[5, 6, 7], [7, 7, 7]]
    fitted = fit(scores)
    assert_allclose(fitted.mean, [2, 3, 6, 7])
    assert fitted.group[0] == fitted.group[1] != fitted.group[2] == fitted.group[3]
    across = next(fitted.differences(np.array([0, 0]), np.array([2, 1]), 9))
    assert_array_equal(across[0], 0)
    assert across[1].sum() == pytest.approx(-1)


@given(st.floats(-1e6, 1e6))
def test_equal_systems_differ_by_nothing_wherever_the_scale_lies(offset):
    scores = np.array([[1.0, 2, np.nan, 4], [1, 2, 3, np.nan], [0, 5, 3, 1]]) + offset
    added = next(fit(scores).differences(np.array([0]), np.array([1]), 9))
    assert_allclose(added.sum(), fit(scores).mean[0] - fit(scores).mean[1], atol=1e-6)
    same = np.array([[1.0, 2, 3], [1, 2, np.nan], [0, 5, 1]]) + offset
    same[1, 2] = np.nan
    assert_array_equal(next(fit(np.vstack([same[:1], same[:1], same[1:]])).differences(np.array([0]), np.array([1]), 9)), 0)
