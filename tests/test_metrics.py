"""The table of metrics: complete, consistent, and the only place where ranges and directions live."""

from dataclasses import FrozenInstanceError
from math import inf, isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.errors import UsageError
from urgentmos.metrics import CATEGORIES, HUMAN, METRICS, TABLE1, Metric, canonical, direction, metric, parse_metrics

rows = pytest.mark.parametrize("row", METRICS.values(), ids=list(METRICS))


def test_table_1_of_the_paper_is_there_by_category() -> None:
    by_category = {c: {m for m in TABLE1 if METRICS[m].category == c} for c in CATEGORIES}
    assert by_category == {
        "noise_distortion": {"pesq", "pesqc2", "dnsmos_ovrl", "lsd", "sdr"},
        "naturalness": {"mos_overall", "utmos", "distill_mos", "nisqa_mos", "scoreq"},
        "intelligibility": {"estoi", "sbert", "lps"},
        "speaker": {"spksim"},
        "spectral": {"mcd"},
    }
    assert len(TABLE1) == 15


def test_the_further_rows_are_there() -> None:
    sigmos = {f"sigmos_{d}" for d in ("ovrl", "sig", "noise", "col", "disc", "loud", "reverb")}
    further = {"dnsmos_sig", "dnsmos_bak", "dnsmos_p808", "plcmos", "spksim_ge2e", "lps_pocketsphinx"} | sigmos
    assert set(METRICS) - set(TABLE1) == further


@rows
def test_a_row_is_consistent(row: Metric) -> None:
    assert METRICS[row.name] is row
    assert row.low < row.high and row.paper_low < row.paper_high
    assert row.category in CATEGORIES
    assert row.title and row.source
    assert row.min_seconds > 0
    assert row.rate is None or row.rate > 0
    if row.better == "lower":
        assert row.low == 0  # a distance


@rows
def test_a_stand_in_has_its_own_name_and_lies_in_the_same_category(row: Metric) -> None:
    if row.stands_in_for is not None:
        original = METRICS[row.stands_in_for]
        assert row.name != original.name and not row.table1
        assert (row.category, row.better, row.needs_reference) == (original.category, original.better, original.needs_reference)


def test_distances_are_the_only_ones_where_less_is_better() -> None:
    assert {m.name for m in METRICS.values() if m.better == "lower"} == {"lsd", "mcd"}
    assert {name for name in METRICS if direction(name) < 0} == {"lsd", "mcd"} and direction("my_metric") == 1


def test_intrusive_metrics_are_those_that_compare_with_a_clean_signal() -> None:
    table1 = {"pesq", "pesqc2", "lsd", "sdr", "estoi", "sbert", "lps", "spksim", "mcd"}
    assert {m.name for m in METRICS.values() if m.needs_reference} == table1 | {"spksim_ge2e", "lps_pocketsphinx"}


@pytest.mark.parametrize(
    "name, practice, paper",
    [
        ("pesq", (0.999, 4.6439), (1, 4.5)),
        ("pesqc2", (0.999, 4.6439), (1, 4.5)),
        ("sdr", (-50, 50), (-inf, inf)),
        ("estoi", (-1, 1), (0, 1)),
        ("lps", (-inf, 1), (-inf, 1)),
        ("sbert", (-1, 1), (-1, 1)),
        ("utmos", (-inf, inf), (1, 5)),
        ("nisqa_mos", (-inf, inf), (1, 5)),
        ("scoreq", (-inf, inf), (1, 5)),
        ("lsd", (0, inf), (0, inf)),
        ("mcd", (0, inf), (0, inf)),
        ("mos_overall", (1, 5), (1, 5)),
    ],
)
def test_ranges_as_practised_and_as_the_paper_has_them(name: str, practice: tuple, paper: tuple) -> None:
    assert METRICS[name].range() == practice
    assert METRICS[name].range("paper") == paper


@given(st.sampled_from(list(METRICS)), st.floats(-1e6, 1e6), st.sampled_from(["practice", "paper"]))
def test_clipping_lands_in_the_range_and_moves_no_further_than_it_must(name: str, value: float, profile) -> None:
    row = METRICS[name]
    low, high = row.range(profile)
    clipped = row.clip(value, profile)
    assert low <= clipped <= high
    assert row.clip(clipped, profile) == clipped
    if low <= value <= high:
        assert clipped == value
    else:
        assert clipped in (low, high) and isfinite(clipped)


def test_rows_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        METRICS["pesq"].low = 0  # type: ignore[misc]


def test_the_released_name_of_mos_is_understood() -> None:
    assert canonical("mos") == "mos_overall" == metric("mos").name
    assert canonical("something") == "something"
    assert all(name in METRICS for name in HUMAN)


def test_an_unknown_metric_lists_the_names() -> None:
    with pytest.raises(UsageError, match=r"unknown metric 'peskq'.*pesq.*mcd"):
        metric("peskq")


def test_metrics_come_in_the_order_asked_for_and_once() -> None:
    offered = ["pesq", "estoi", "mos_overall"]
    assert parse_metrics("all", offered) == offered
    assert parse_metrics(" estoi , pesq,estoi,", offered) == ["estoi", "pesq"]
    assert parse_metrics("mos", offered) == ["mos_overall"]
    assert parse_metrics("all", iter(offered)) == offered


@pytest.mark.parametrize(
    "text, says", [("", "no metric named"), (" , ", "no metric named"), ("sdr", "sdr is not offered here")]
)
def test_what_is_not_offered_is_refused_with_the_choice(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=rf"{says}.*all, pesq, estoi"):
        parse_metrics(text, ["pesq", "estoi"])


def test_an_unknown_name_among_good_ones_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown metric 'psq'"):
        parse_metrics("pesq,psq", ["pesq"])
