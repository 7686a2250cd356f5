"""The looks of a ranking: JSON, table, groups and letters."""

import json
from math import inf, nan

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.ranking_result import Ranking, SystemRank, tie_groups, tie_letters

ROWS = (
    SystemRank("best", 1, 1, 1, 12.0, 11.0, 12.0, 4.5),
    SystemRank("middle of three", 2, 2, 3, 5.25, -0.001, 7.0),
    SystemRank("last", 3, 2, 3, 0.0, -inf, inf, 2.0),
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
        "ties": (("middle of three", "last"),),
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
        "system_id": "best", "rank": 1, "rank_low": 1, "rank_high": 1, "score": 12.0, "low": 11.0, "high": 12.0, "mos": 4.5
    }  # fmt: skip
    assert "mos" not in got["systems"][1]
    assert got["systems"][2]["low"] is got["systems"][2]["high"] is None
    assert got["win_rate"]["best"] == {"last": 1.0, "middle of three": None}
    assert got["ties"] == [["middle of three", "last"]]
    assert "correlation" not in ranking(correlation=None).to_dict()


def test_table():
    assert ranking().table() == "\n".join(
        [
            "rank  system           score   95 % interval  ranks  ties  listeners' MOS",
            "   1  best             12.00  11.00 .. 12.00      1                  4.50",
            "   2  middle of three   5.25    0.00 .. 7.00    2-3  a                  -",
            "   3  last              0.00               -    2-3  a               2.00",
        ]
    )
    bare = tuple(SystemRank(s.system_id, s.rank, s.rank_low, s.rank_high, s.score, s.low, s.high) for s in ROWS)
    assert "MOS" not in ranking(systems=bare).table()


@given(st.integers(1, 7).flatmap(lambda n: st.lists(st.booleans(), min_size=n * n, max_size=n * n)))
def test_groups_are_exactly_the_maximal_runs_of_alike_neighbours(cells):
    n = int(len(cells) ** 0.5)
    upper = np.triu(np.array(cells).reshape(n, n), 1)
    clear = (upper | upper.T).astype(float)
    names = [str(i) for i in range(n)]
    runs = [(a, b) for a in range(n) for b in range(a + 2, n + 1) if not clear[a:b, a:b].any()]
    maximal = [(a, b) for a, b in runs if not any((c <= a and b <= d) and (c, d) != (a, b) for c, d in runs)]
    assert tie_groups(names, clear) == tuple(tuple(names[a:b]) for a, b in sorted(maximal))


def test_letters_go_on_after_z():
    names = [str(i) for i in range(30)]
    letters = tie_letters(names, [(names[i], names[i + 1]) for i in range(29)])
    assert letters["0"] == "a"
    assert letters["1"] == "a b"
    assert letters["27"] == "aa ab"
    assert tie_letters(["x"], []) == {"x": ""}
