"""Plans of batches: complete, bounded, reproducible, fair shares."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.clips.clip import Clip
from urgentmos.training.data import Data, Pair
from urgentmos.training.plans import PairPlanner, Planner, Stream, belong, share


def data(lengths: list[float], contents: int = 3, systems: int = 4) -> Data:
    clips = [
        Clip(
            f"c{k}",
            f"c{k}.wav",
            f"s{k % systems}",
            f"u{k // systems % contents}",
            "x" if k % 2 else "y",
            length,
            metrics={"mos_overall": 1 + (k * 0.37) % 4},
        )
        for k, length in enumerate(lengths)
    ]
    return Data(clips)


def planner(found: Data, scope: str = "reference", seconds: float = 20.0, **more: object) -> Planner:
    usual = {"homologous": 4, "pairs_per_clip": 100.0, "seed": 1, "max_seconds": 10.0}
    return Planner(found, "mos_overall", scope, seconds, **{**usual, **more})  # type: ignore[arg-type]


LENGTHS = st.lists(st.floats(0.1, 12.0), min_size=1, max_size=40)


@given(LENGTHS, st.sampled_from(["reference", "corpus", "any", ""]), st.integers(0, 5))
@settings(max_examples=60)
def test_an_epoch_holds_each_clip_once_within_the_budget(lengths: list[float], scope: str, epoch: int) -> None:
    found = data(lengths)
    plans = planner(found, scope).epoch(epoch)
    assert Counter(i for plan in plans for i in plan.clips) == Counter(range(len(lengths)))
    for plan in plans:
        padded = max(min(lengths[i], 10.0) for i in plan.clips) * len(plan.clips)
        assert padded <= 20.0 + 1e-6 or len(plan.clips) <= 2  # a pair stays together, however long
        for pair in plan.pairs:
            a, b = found.clips[pair.a], found.clips[pair.b]
            assert pair.a != pair.b and {pair.a, pair.b} <= set(plan.clips) and belong(a, b, scope)
            assert pair.cmos == pytest.approx(a.metrics["mos_overall"] - b.metrics["mos_overall"])


@given(LENGTHS, st.integers(2, 4), st.sampled_from(["reference", "any"]))
@settings(max_examples=40)
def test_shares_make_up_the_batch(lengths: list[float], world: int, scope: str) -> None:
    plan = planner(data(lengths), scope).epoch(0)[0]
    parts = [share(plan, rank, world, "contents" if scope == "reference" else "clips") for rank in range(world)]
    assert sorted(i for part in parts for i in part.clips) == sorted(plan.clips)
    if scope == "reference":
        assert sorted(p for part in parts for p in part.pairs) == sorted(plan.pairs)
    else:
        assert max(len(part.clips) for part in parts) - min(len(part.clips) for part in parts) <= 1


def test_order_follows_the_seed_and_the_epoch_and_nothing_else() -> None:
    found = data([1.0] * 40)
    assert planner(found).epoch(3) == planner(found).epoch(3)
    assert planner(found).epoch(3) != planner(found).epoch(4) and planner(found).epoch(3) != planner(found, seed=2).epoch(3)


def test_homologous_clips_travel_together_without_pairs_of_one_system() -> None:
    plans = planner(data([1.0] * 24, contents=6)).epoch(0)
    assert sum(len(plan.pairs) for plan in plans) == 6 * 2  # of four systems two are in each corpus
    assert not belong(*(Clip("a", "a", "s", "u", "c"), Clip("b", "b", "s", "u", "c")), "reference")


def test_padding_is_small_where_lengths_differ() -> None:
    lengths = list(np.random.default_rng(0).uniform(1, 10, 400))
    plans = planner(data(lengths), "", 60.0).epoch(0)
    real = sum(lengths[i] for plan in plans for i in plan.clips)
    padded = sum(max(lengths[i] for i in plan.clips) * len(plan.clips) for plan in plans)
    assert 1 - real / padded < 0.1


@given(st.integers(0, 30))
def test_a_stream_that_starts_late_gives_the_rest(start: int) -> None:
    found = planner(data([1.0] * 40))
    whole, late = iter(Stream(found)), iter(Stream(found, start))
    for _ in range(start):
        next(whole)
    assert [next(whole) for _ in range(5)] == [next(late) for _ in range(5)]


@given(st.lists(st.integers(10, 50), min_size=2, max_size=8), st.sampled_from([0.0, 0.3, 1.0]))
def test_delta_cleaning_leaves_pairs_that_are_clearly_apart_in_both_orders(tenths: list[int], delta: float) -> None:
    clips = [Clip(str(k), str(k), f"s{k}", "u", "c", 1.0, metrics={"mos_overall": x / 10}) for k, x in enumerate(tenths)]
    pairs = PairPlanner(Data(clips), "mos_overall", delta, 3, 0, 30.0).all_pairs()
    wanted = {
        (i, j)
        for i in range(len(tenths))
        for j in range(len(tenths))
        if i != j and abs(tenths[i] - tenths[j]) > round(10 * delta)
    }
    assert {(p.a, p.b) for p in pairs} == wanted and len(pairs) == len(wanted)
    plans = PairPlanner(Data(clips), "mos_overall", delta, 3, 0, 30.0).epoch(0)
    assert Counter(p for plan in plans for p in plan.pairs) == Counter(pairs) and all(len(p.pairs) <= 3 for p in plans)


@pytest.mark.parametrize(("second", "places"), [(2, 8), (1, 10)])
def test_a_native_pair_of_one_content_costs_no_batch_of_its_own(second: int, places: int) -> None:
    """Clips 0 and 2 are of one content, 1 of another corpus: only a pair across them is read apart from its contents."""
    found = data([2.0] * 8, contents=2)
    pair = Pair(0, second, 1.0, 0, native=True)
    plans = planner(Data(found.clips, [pair]), seconds=8.0).epoch(0)
    assert sum(len(plan.clips) for plan in plans) == places
    assert any(own.native for plan in plans for own in plan.pairs)
