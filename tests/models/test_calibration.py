"""Intervals: they hold what they promise on new clips and contents, follow where errors grow, and say when they cannot."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.errors import UsageError
from urgentmos.models.calibration import (
    calibrate,
    check_calibration,
    contents_needed,
    coverage,
    fit_intervals,
    interval,
    intervals,
)


def clips(rng: np.random.Generator, n: int, *, spread: float = 0.3, bias: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Predicted scores of 1.5..4.5, and measured ones that are off by more where they are low."""
    x = rng.uniform(1.5, 4.5, n)
    return x, x + bias + spread * (5 - x) / 2 * rng.standard_normal(n)


def groups_of(rng: np.random.Generator, n: int, each: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n contents of `each` clips that err alike: most of the error is the content's."""
    x = rng.uniform(2, 4, (n, each))
    y = x + 0.5 * rng.standard_normal((n, 1)) + 0.1 * rng.standard_normal((n, each))
    return x.ravel(), y.ravel(), np.repeat(np.arange(n), each)


def wrapped(row: dict[str, list[float]], level: float, metric: str = "made_up") -> dict[str, Any]:
    """A calibration of one metric without a range."""
    return {"level": level, "metrics": {metric: row}}


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("bins", [1, 5])
def test_new_clips_are_covered_as_promised(level: float, bins: int) -> None:
    shares = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        made = wrapped(fit_intervals(*clips(rng, 300), level, bins), level)
        shares.append(coverage(made, "made_up", *clips(rng, 1000)))
    # the mean is at least the level; the finite sample makes it exceed it by 2 / (n + 1) in a bin of n, and no more
    assert level - 0.01 < np.mean(shares) < level + 2 * bins / 300 + 0.015


def test_each_part_of_the_scale_is_covered() -> None:
    rng = np.random.default_rng(0)
    made = wrapped(fit_intervals(*clips(rng, 5000), 0.9, 8), 0.9)
    x, y = clips(rng, 20_000)
    for low in np.arange(1.5, 4.5, 0.5):
        part = (x >= low) & (x < low + 0.5)
        assert 0.86 < coverage(made, "made_up", x[part], y[part]) < 0.95
    one_bin = wrapped(fit_intervals(*clips(rng, 5000), 0.9, 1), 0.9)
    assert coverage(one_bin, "made_up", x[x < 2], y[x < 2]) < 0.86, "what the bins are for"


def test_few_clips_are_covered_too() -> None:
    """At the smallest size, where only a finite-sample quantile holds its promise."""
    n, level = contents_needed(0.9), 0.9
    shares = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        made = wrapped(fit_intervals(*clips(rng, n), level, 1), level)
        shares.append(coverage(made, "made_up", *clips(rng, 200)))
    assert n == 19 and 0.885 < np.mean(shares) < 0.915


def test_new_contents_are_covered_where_contents_are_told_and_not_otherwise() -> None:
    with_contents, without = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        x, y, groups = groups_of(rng, 25, 20)
        new_x, new_y, _ = groups_of(rng, 400, 1)
        for told, shares in ((groups, with_contents), (None, without)):
            made = wrapped(fit_intervals(x, y, 0.9, 1, told), 0.9)
            shares.append(coverage(made, "made_up", new_x, new_y))
    assert np.mean(with_contents) > 0.895
    assert np.mean(without) < np.mean(with_contents) - 0.015, "500 clips of 25 contents are not 500 independent clips"


def test_a_content_counts_once_however_many_clips_it_has() -> None:
    rng = np.random.default_rng(3)
    x, y = clips(rng, 60)
    copies = np.concatenate([np.full(50, x[0]), x[1:]]), np.concatenate([np.full(50, y[0]), y[1:]])
    names = [*["first"] * 50, *(f"c{i}" for i in range(1, 60))]
    once, many = fit_intervals(x, y, 0.9, 1), fit_intervals(*copies, 0.9, 1, names)
    assert once["low"] == many["low"] and once["high"] == many["high"]


def test_a_biased_model_is_set_right() -> None:
    rng = np.random.default_rng(1)
    made = wrapped(fit_intervals(*clips(rng, 3000, bias=-0.8), 0.9, 5), 0.9)
    low, high = interval(made, "made_up", 3.0)
    assert abs((low + high) / 2 - 2.2) < 0.1
    assert coverage(made, "made_up", *clips(rng, 5000, bias=-0.8)) > 0.88 > 0.5 > coverage(made, "made_up", *clips(rng, 5000))


@given(
    knots=st.lists(st.integers(-50, 50), min_size=1, max_size=9, unique=True).map(sorted),
    x=st.floats(-60, 60),
    seed=st.integers(0, 99),
)
def test_ends_are_interpolated_between_knots_and_constant_beyond(knots: list[int], x: float, seed: int) -> None:
    low = np.random.default_rng(seed).standard_normal(len(knots)).tolist()
    row = {"knots": knots, "low": low, "high": [value + 1 for value in low]}
    found = interval({"level": 0.9, "metrics": {"made_up": row}}, "made_up", x)
    expected = x + np.interp(x, knots, low)
    assert found == pytest.approx((expected, expected + 1), abs=1e-9)


def test_a_higher_level_is_never_narrower() -> None:
    x, y = clips(np.random.default_rng(2), 800)
    widths = []
    for level in (0.5, 0.8, 0.9, 0.95):
        low, high = interval(wrapped(fit_intervals(x, y, level, 4), level), "made_up", 3.0)
        widths.append(high - low)
    assert widths == sorted(widths) and widths[0] < widths[-1]


@settings(max_examples=60)
@given(
    n=st.integers(1, 200),
    bins=st.integers(1, 30),
    level=st.floats(0.05, 0.97),
    seed=st.integers(0, 999),
    decimals=st.sampled_from([0, 1, 9]),
    each=st.integers(1, 5),
)
def test_any_scores_give_a_calibration_or_a_reason(
    n: int, bins: int, level: float, seed: int, decimals: int, each: int
) -> None:
    rng = np.random.default_rng(seed)
    x, y = (np.round(values, decimals) for values in clips(rng, n))
    groups = np.arange(n) // each
    if len(np.unique(groups)) < contents_needed(level):
        with pytest.raises(UsageError, match="contents, and there are"):
            fit_intervals(x, y, level, bins, groups)
        return
    made = wrapped(fit_intervals(x, y, level, bins, groups), level, "mos_overall")
    check_calibration(json.loads(json.dumps(made)), "config.json")
    assert len(made["metrics"]["mos_overall"]["knots"]) <= bins
    for score in (-100.0, 1.0, 3.3, 5.0, 100.0):
        low, high = interval(made, "mos_overall", score)
        assert 1 <= low <= high <= 5
    order = rng.permutation(n)
    assert fit_intervals(x[order], y[order], level, bins, groups[order]) == made["metrics"]["mos_overall"]


def test_missing_labels_are_left_out() -> None:
    x, y = clips(np.random.default_rng(4), 200)
    holes = np.where(np.arange(200) % 2, y, np.nan)
    assert fit_intervals(x, holes, 0.9, 3) == fit_intervals(x[1::2], y[1::2], 0.9, 3)


def test_metrics_are_calibrated_by_name_and_ranges_end_intervals() -> None:
    x, y = clips(np.random.default_rng(5), 200)
    made = calibrate({"pesq": x, "estoi": x}, {"pesq": y, "estoi": y, "utmos": y}, level=0.8, bins=3)
    assert made["level"] == 0.8 and list(made["metrics"]) == ["pesq", "estoi"]
    told = intervals(made, {"pesq": 4.6, "utmos": 3.0, "estoi": None})
    assert list(told) == ["pesq"] and told["pesq"][1] == pytest.approx(4.6439)
    with pytest.raises(UsageError, match="no measured values of sdr"):
        calibrate({"sdr": x}, {"pesq": y})
    with pytest.raises(UsageError, match="pesq: intervals of level"):
        calibrate({"pesq": x[:5]}, {"pesq": y[:5]})


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"level": 1.0}, "level between 0 and 1"),
        ({"bins": 0}, "at least one bin"),
        ({"groups": ["a"]}, "equally many"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(how: dict[str, Any], said: str) -> None:
    x, y = clips(np.random.default_rng(6), 50)
    with pytest.raises(UsageError, match=said):
        fit_intervals(x, y, **how)


GOOD = {"level": 0.9, "metrics": {"pesq": {"knots": [1.0, 2.0], "low": [-1.0, -0.5], "high": [1.0, 0.5]}}}


def changed(**parts: Any) -> dict[str, Any]:
    return {"level": 0.9, "metrics": {"pesq": {**GOOD["metrics"]["pesq"], **parts}}}  # type: ignore[index]


@pytest.mark.parametrize(
    ("calibration", "said"),
    [
        ([], "indices must be"),
        ({"level": 0.9}, "metrics"),
        ({**GOOD, "level": 90}, "not between 0 and 1"),
        ({"level": 0.9, "metrics": {"pesq": {}}}, "knots"),
        (changed(knots=[2.0, 1.0]), "do not rise"),
        (changed(low=[0.0]), "2 knots, 1 low"),
        (changed(low=[float("nan"), 0.0]), "not finite"),
        (changed(high=["a", 0.0]), "not finite"),
        (changed(low=[3.0, 0.0]), "above its high end"),
    ],
    ids=str,
)
def test_a_garbled_calibration_is_refused_with_its_file(calibration: Any, said: str) -> None:
    check_calibration(GOOD, "x")
    with pytest.raises(UsageError, match=f"m/config.json: its intervals cannot be understood.*{said}"):
        check_calibration(calibration, "m/config.json")
