"""Tests of dependent correlations against published numbers; intervals against simulations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.evaluation.significance import bootstrap_test, clusters_of, draws, interval, steiger, williams

# r_a, r_b, r_ab, n, and t of Williams and z of Steiger as the R package cocor prints them for public data sets.
PUBLISHED = [(-0.1741, 0.2015, 0.3734, 646, -9.0340, -8.6124), (0.8066, 0.2383, 0.2255, 177, 9.3823, 8.5460)]


@pytest.mark.parametrize(("r_a", "r_b", "r_ab", "n", "t", "z"), PUBLISHED)
def test_published_examples(r_a: float, r_b: float, r_ab: float, n: int, t: float, z: float) -> None:
    assert williams(r_a, r_b, r_ab, n).statistic == pytest.approx(t, rel=3e-4)  # correlations are printed to 4 digits
    assert steiger(r_a, r_b, r_ab, n).statistic == pytest.approx(z, rel=3e-4)


@given(st.floats(-0.9, 0.9), st.floats(-0.9, 0.9), st.floats(-0.9, 0.9), st.integers(5, 500))
def test_the_other_way_round_is_the_negative(r_a: float, r_b: float, r_ab: float, n: int) -> None:
    for test in (williams, steiger):
        here, there = test(r_a, r_b, r_ab, n), test(r_b, r_a, r_ab, n)
        np.testing.assert_allclose([here.statistic, here.p], [-there.statistic, there.p], atol=1e-9)


def test_equal_predictors_do_not_differ_and_three_rows_say_nothing() -> None:
    assert williams(0.5, 0.5, 1.0, 50) == steiger(0.5, 0.5, 1.0, 50) == (0.0, 1.0)
    assert np.isnan(williams(0.5, 0.2, 0.1, 3)).all() and np.isnan(steiger(0.5, 0.2, np.nan, 30)).all()


def test_equally_good_predictors_are_rarely_told_apart() -> None:
    rng = np.random.default_rng(0)
    p = {williams: [], steiger: []}
    for _ in range(400):
        y = rng.normal(size=40)
        a, b = y + rng.normal(size=40), y + rng.normal(size=40)
        trio = [np.corrcoef(*pair)[0, 1] for pair in ((a, y), (b, y), (a, b))]
        for test, found in p.items():
            found.append(test(*trio, 40).p)
    for found in p.values():
        assert 0.02 < np.mean(np.array(found) < 0.05) < 0.09


def test_clusters_keep_their_rows_together() -> None:
    groups = clusters_of(["u", "v", "u", "w"])
    assert [g.tolist() for g in groups] == [[0, 2], [1], [3]]
    seen = draws(lambda rows: np.array([np.sum(rows == 0) - np.sum(rows == 2), len(rows)]), groups, 50, 0)
    assert (seen[:, 0] == 0).all() and len(set(seen[:, 1])) > 1


def test_draws_are_reproducible() -> None:
    groups = clusters_of(list(range(9)))
    one, two, other = (draws(lambda rows: rows.astype(float), groups, 5, seed) for seed in (3, 3, 4))
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_an_interval_holds_its_value_and_stays_in_range() -> None:
    rng = np.random.default_rng(0)
    low, high = interval(0.98, 0.98 + 0.01 * rng.normal(size=100), 30, "correlation") or (0, 0)
    assert -1 <= low < 0.98 < high <= 1


def test_a_share_that_never_failed_is_not_known_to_be_one() -> None:
    for n, least in ((3, 0.3), (30, 0.75), (300, 0.95)):
        low, high = interval(1.0, np.ones(100), n, "share") or (0, 0)
        assert low < 1 - 1 / n and high == 1.0
        assert interval(0.0, np.zeros(100), n, "share") == pytest.approx((0.0, 1 - low))
        assert low > least or n == 3


def test_draws_that_are_all_alike_tell_no_error_of_a_correlation() -> None:
    assert interval(1.0, np.ones(100), 30, "correlation") is None


def test_too_few_clusters_or_draws_give_no_interval() -> None:
    assert interval(0.5, np.linspace(0.4, 0.6, 100), 1, "plain") is None
    assert interval(0.5, np.full(100, np.nan), 30, "plain") is None
    assert interval(np.nan, np.linspace(0.4, 0.6, 100), 30, "plain") is None


def test_the_interval_of_a_correlation_covers() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for k in range(120):
        y = rng.normal(size=30)
        x = 0.8 * y + 0.6 * rng.normal(size=30)
        found = draws(lambda rows, x=x, y=y: np.array([np.corrcoef(x[rows], y[rows])[0, 1]]), clusters_of(range(30)), 100, k)
        low, high = interval(float(np.corrcoef(x, y)[0, 1]), found[:, 0], 30, "correlation") or (0, 0)
        hits += low < 0.8 < high
    assert hits > 0.88 * 120


def test_a_paired_bootstrap_sees_a_real_difference_only() -> None:
    rng = np.random.default_rng(2)
    assert bootstrap_test(0.5, 0.5 + 0.05 * rng.normal(size=200), 40).p < 1e-6
    assert bootstrap_test(0.02, 0.02 + 0.05 * rng.normal(size=200), 40).p > 0.5
    assert bootstrap_test(0.0, np.zeros(200), 40) == (0.0, 1.0)
