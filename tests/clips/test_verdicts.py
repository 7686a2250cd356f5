"""Eq. 6 and the accuracies, on cases small enough to count by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.clips.verdicts import (
    NAMES,
    THRESHOLDS,
    A,
    B,
    Judged,
    PairLabels,
    ab_accuracy_by_gap,
    correct,
    difference,
    random_judge,
    share,
    sweep,
    verdict_code,
    verdicts,
)

NAN = float("nan")


def derived(*cmos: float) -> PairLabels:
    return PairLabels(np.array(cmos), np.full(len(cmos), NAN))


def native(*codes: float) -> PairLabels:
    return PairLabels(np.full(len(codes), NAN), np.array(codes))


def accuracies(judged: Judged, labels: PairLabels, delta: float = 0.5) -> tuple[float, float]:
    right = correct(judged, labels, delta)
    return share(right.delta), share(right.zero)


# ---- Eq. 6


@pytest.mark.parametrize(
    ("cmos", "name"),
    [(-0.51, "b"), (-0.5, "tie"), (-0.49, "tie"), (0.0, "tie"), (0.49, "tie"), (0.5, "tie"), (0.51, "a")],
)
def test_differences_of_exactly_delta_are_ties_on_both_sides(cmos: float, name: str) -> None:
    assert NAMES[float(verdicts(cmos, 0.5))] == name


def test_a_difference_that_is_delta_on_paper_is_a_tie() -> None:
    assert 4.4 - 3.9 > 0.5  # what floating point says
    assert verdicts(difference(4.4, 3.9), 0.5) == 0 and difference(4.4, 3.9) == 0.5


def test_nan_has_no_verdict() -> None:
    assert np.isnan(verdicts(difference(NAN, 3.0), 0.5))


def test_without_a_threshold_only_equal_clips_are_ties() -> None:
    assert verdicts(np.array([1e-6, 0.0, -1e-6]), 0.0).tolist() == [1, 0, -1]


@given(st.floats(-4, 4), st.floats(0, 2))
def test_the_other_order_has_the_other_verdict(cmos: float, delta: float) -> None:
    assert verdicts(-cmos, delta) == -verdicts(cmos, delta)


@pytest.mark.parametrize(("text", "code"), [("a", A), ("A", A), ("B is better than A.", B), ("Tie", 0.0), ("A > B", A)])
def test_verdicts_in_words(text: str, code: float) -> None:
    assert verdict_code(text) == code


@pytest.mark.parametrize("text", ["", "0", "c", "a b", "not a"])
def test_what_is_no_verdict_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no verdict"):
        verdict_code(text)


# ---- accuracies


def test_a_scalar_predictor_has_the_threshold_of_the_labels() -> None:
    labels = derived(1.0, 0.2, 0.5, -0.6)
    judged = Judged(gap=np.array([0.6, 0.5, 0.7, -0.4]))  # a, tie, a, tie against a, tie, tie, b
    assert accuracies(judged, labels) == (0.5, 1.0)


def test_equal_labels_are_left_out_of_acc_0_and_an_undecided_predictor_is_wrong() -> None:
    judged = Judged(gap=np.array([1.0, 0.0, 0.3]))
    right = correct(judged, derived(0.0, 1.0, 0.1), 0.5)
    assert np.isnan(right.zero[0]) and right.zero[1:].tolist() == [0.0, 1.0]


def test_nan_on_either_side_is_not_counted() -> None:
    right = correct(Judged(gap=np.array([NAN, 1.0, 1.0])), derived(1.0, NAN, 1.0), 0.5)
    assert np.isnan(right.delta).tolist() == [True, True, False] and np.isnan(right.zero).tolist() == [True, True, False]


def test_without_native_ties_each_predicted_tie_is_an_error() -> None:
    close = Judged(gap=np.array([0.1, -0.1, 0.2, 0.9]))  # scores that lie close together, as on SpeechJudge
    assert accuracies(close, native(A, B, A, A)) == (0.25, 1.0)


def test_native_ties_are_ties_at_any_delta_and_left_out_of_acc_0() -> None:
    judged = Judged(gap=np.array([0.2, 2.0]))
    for delta, accuracy in ((0.1, 0.5), (0.5, 1.0), (3.0, 0.5)):
        assert accuracies(judged, native(0.0, A), delta)[0] == accuracy
    assert np.isnan(correct(judged, native(0.0, A), 0.5).zero[0])


def test_a_classifier_does_not_depend_on_delta_and_is_asked_for_the_likelier_side() -> None:
    judged = Judged(verdict=np.array([0.0, A, B]), leaning=np.array([A, A, A]))
    labels = native(A, A, B)
    assert accuracies(judged, labels, 0.1) == accuracies(judged, labels, 2.0) == (2 / 3, 2 / 3)
    assert sweep(judged, labels).tolist() == [2 / 3] * len(THRESHOLDS)


def test_a_verdict_without_probabilities_that_says_tie_is_wrong_in_acc_0() -> None:
    assert accuracies(Judged(verdict=np.array([0.0, A])), native(A, A)) == (0.5, 0.5)


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=30), st.floats(0, 2))
def test_mirrored_pairs_have_the_same_accuracy(pairs: list[tuple[float, float]], delta: float) -> None:
    said, label = np.array(pairs).T
    here = accuracies(Judged(gap=said), derived(*label), delta)
    there = accuracies(Judged(gap=-said), derived(*-label), delta)
    np.testing.assert_equal(here, there)


def test_the_sweep_moves_the_predictors_threshold_and_not_the_labels() -> None:
    judged = Judged(gap=np.array([0.2, -0.2, 0.0]))
    found = sweep(judged, derived(1.0, -1.0, 0.0), 0.5, (0.0, 0.1, 0.2, 0.5))
    assert found.tolist() == [1.0, 1.0, 1 / 3, 1 / 3]


def test_random_guesses_are_right_a_third_and_half_of_the_time() -> None:
    rng = np.random.default_rng(1)
    labels = native(*rng.choice([A, 0.0, B], 30_000))
    acc_delta, acc_0 = accuracies(random_judge(30_000, 0), labels)
    assert acc_delta == pytest.approx(1 / 3, abs=0.01) and acc_0 == pytest.approx(1 / 2, abs=0.015)


# ---- by the size of the difference


def test_bins_are_closed_below_and_open_above_and_end_at_two() -> None:
    gap = np.array([0.0, 0.39, 0.4, -0.4, 1.99, 2.0, 1.0])
    right = np.array([A, A, A, B, A, A, A])
    bins, mean = ab_accuracy_by_gap(np.array([A, B, A, A, A, B, A]), right, gap)
    assert [b["n"] for b in bins] == [2, 2, 1, 0, 1] and [b["accuracy"] for b in bins] == [0.5, 0.5, 1.0, None, 1.0]
    assert mean == pytest.approx(4 / 6)  # the pair at 2.0, which is wrong, is not counted


def test_ties_of_the_listeners_are_not_counted_and_those_of_the_judge_are_wrong() -> None:
    bins, mean = ab_accuracy_by_gap(np.array([A, 0.0]), np.array([0.0, A]), np.array([0.1, 0.1]))
    assert bins[0]["n"] == 1 and mean == 0.0
