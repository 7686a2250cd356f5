"""The looks of a ranking: JSON, table, and what is said of systems that cannot be told apart."""

import json
from dataclasses import replace
from math import inf, nan

from hypothesis import given
from hypothesis import strategies as st

from urgentmos.ranking.result import Ranking, SystemRank, tie_groups

ROWS = (
    SystemRank("best", 1, 1, 1, 12.0, 11.0, 12.0, 4.5),
    SystemRank("middle of three", 2, 2, 3, 5.25, -0.001, 7.0, None, ("last",)),
    SystemRank("last", 3, 2, 3, 0.0, -inf, inf, 2.0, ("middle of three",)),
)


def ranking(**change):
    fields = {
        "model": "pocket",
        "version": "1.0",
        "scoring": "binary",
        "confidence": 0.95,
        "n_contents": 6,
        "systems": ROWS,
        "win_rate": {"best": {"last": 1.0, "middle of three": nan}},
        "correlation": {"krcc": 1.0, "srcc": None, "lcc": 0.5},
        "samples": 1000,
        "seed": 0,
        "warnings": ("One.",),
    }
    return Ranking(**(fields | change))


def test_json_is_the_contract_and_holds_no_infinity():
    got = json.loads(json.dumps(ranking().to_dict(), allow_nan=False))
    assert set(got) == {
        *("model", "version", "scoring", "confidence", "n_contents", "n_systems", "sources", "systems", "win_rate", "ties"),
        *("samples", "seed", "warnings", "correlation"),
    }
    assert (got["model"], got["version"], got["n_systems"]) == ("pocket", "1.0", 3)
    assert got["systems"][0] == {
        "system_id": "best", "rank": 1, "rank_low": 1, "rank_high": 1, "score": 12.0, "low": 11.0, "high": 12.0,
        "not_distinguishable_from": [], "mos": 4.5
    }  # fmt: skip
    assert got["systems"][1]["not_distinguishable_from"] == ["last"]
    assert "mos" not in got["systems"][1]
    assert got["systems"][2]["low"] is got["systems"][2]["high"] is None
    assert got["win_rate"]["best"] == {"last": 1.0, "middle of three": None}
    assert got["ties"] == [["middle of three", "last"]]
    assert "correlation" not in ranking(correlation=None).to_dict()


def test_table():
    assert ranking().table() == "\n".join(
        [
            "rank  system           score   95 % interval  ranks  not distinguishable from rank  listeners' MOS",
            "   1  best             12.00  11.00 .. 12.00      1                                           4.50",
            "   2  middle of three   5.25    0.00 .. 7.00    2-3  3                                           -",
            "   3  last              0.00               -    2-3  2                                        2.00",
        ]
    )
    assert "MOS" not in ranking(systems=tuple(replace(s, mos=None) for s in ROWS)).table()


def systems_of(ranks: list[int], pairs: set[frozenset[int]]) -> tuple[SystemRank, ...]:
    """Systems s0, s1, ... with these ranks, where the pairs of places are not distinguishable."""
    return tuple(
        SystemRank(
            f"s{i}",
            rank,
            rank,
            rank,
            0.0,
            0.0,
            0.0,
            None,
            tuple(f"s{j}" for j in range(len(ranks)) if frozenset((i, j)) in pairs),
        )
        for i, rank in enumerate(ranks)
    )


def test_ranks_that_are_not_distinguishable_are_ranges_without_the_own_one():
    every = {frozenset((i, j)) for i in range(5) for j in range(i)}
    assert ranking(systems=systems_of([1, 2, 3, 4, 5], every)).alike() == {
        "s0": "2-5", "s1": "1, 3-5", "s2": "1-2, 4-5", "s3": "1-3, 5", "s4": "1-4"
    }  # fmt: skip
    some = {frozenset(p) for p in ((0, 1), (0, 3), (0, 4))}
    assert ranking(systems=systems_of([1, 2, 3, 4, 5], some)).alike()["s0"] == "2, 4-5"


def test_a_shared_rank_stands_for_all_that_share_it_or_for_none():
    shared = [1, 2, 2, 4]
    both = {frozenset(p) for p in ((0, 1), (0, 2), (1, 2), (1, 3))}
    assert ranking(systems=systems_of(shared, both)).alike() == {"s0": "2", "s1": "1-4", "s2": "1-2", "s3": "s1"}


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    n = draw(st.integers(1, 8))
    pairs = [(i, j) for i in range(n) for j in range(i) if draw(st.booleans())]
    linked = {frozenset(p) for p in pairs}
    return {str(i): [str(j) for j in range(n) if frozenset((i, j)) in linked and i != j] for i in range(n)}


@given(graphs())
def test_two_systems_share_a_group_exactly_if_they_are_alike_and_groups_are_maximal(alike):
    groups = tie_groups(alike)
    together = {frozenset((a, b)) for group in groups for a in group for b in group if a != b}
    assert together == {frozenset((a, b)) for a in alike for b in alike[a]}
    names = list(alike)
    for group in groups:
        assert len(group) >= 2 and list(group) == sorted(group, key=names.index)
        assert not any(set(group) <= set(alike[other]) for other in names if other not in group)
    assert len(set(groups)) == len(groups)


def test_a_first_system_whose_rival_is_no_neighbour_is_in_a_group_with_it():
    """The README's table had no letter for the first system, which could not be told apart from the fourth."""
    alike = {"clean": ["rnnoise"], "b": ["c", "rnnoise"], "c": ["b", "rnnoise"], "rnnoise": ["clean", "b", "c"]}
    assert tie_groups(alike) == (("clean", "rnnoise"), ("b", "c", "rnnoise"))
