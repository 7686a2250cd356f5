"""Which pairs there are, which are drawn, and what their rows say."""

import tracemalloc
from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.clips.clip import Clip
from urgentmos.clips.pairs import SHARES, Pairs, Possible, RowMaker, chosen, derive, in_split, native, sides_of, split_of
from urgentmos.errors import UsageError

GROUPS = st.lists(st.tuples(st.sampled_from(["u", "v", "w", None]), st.sampled_from("xyz")), max_size=14)


def clip(system: str, content: str, mos: float | None = 3.0, corpus: str | None = "c") -> Clip:
    return Clip(
        f"{corpus}/{system}:{content}", f"{system}/{content}.wav", system, content, corpus, 2.0, None, {"mos_overall": mos}
    )


def table(n_systems: int, n_contents: int) -> list[Clip]:
    return [clip(f"s{i}", f"u{j}", 1 + 0.5 * (i % 9)) for i in range(n_systems) for j in range(n_contents)]


def names(pairs: Pairs) -> list[tuple[str, str]]:
    return [(pair.a.uid, pair.b.uid) for pair in pairs]


# ---- how many there are


@pytest.mark.parametrize(("systems", "contents", "count"), [(60, 4, 14_160), (5, 128, 2_560)])
def test_the_counts_of_table_3(systems: int, contents: int, count: int) -> None:
    pairs = derive(table(systems, contents), "reference")
    assert len(pairs) == pairs.n_possible == sum(1 for _ in pairs) == count


def by_hand(rows: list[tuple[str | None, str]], same_system: bool, ordered: bool) -> set[tuple[int, int]]:
    return {
        (i, j)
        for i, (group, system) in enumerate(rows)
        for j, (other, peer) in enumerate(rows)
        if i != j and group is not None and group == other and (same_system or system != peer) and (ordered or i < j)
    }


@given(GROUPS, st.booleans(), st.booleans())
def test_every_number_is_one_pair_and_every_pair_has_a_number(rows: list, same_system: bool, ordered: bool) -> None:
    possible = Possible([g for g, _ in rows], None if same_system else [s for _, s in rows], ordered=ordered)
    numbered = [possible[k] for k in range(len(possible))]
    assert numbered == list(possible)
    assert len(set(numbered)) == len(numbered) and set(numbered) == by_hand(rows, same_system, ordered)
    with pytest.raises(IndexError):
        possible[len(possible)]


def test_scopes_widen() -> None:
    clips = [clip("x", "u"), clip("y", "u"), clip("x", "v"), clip("x", "u", corpus="d")]
    assert [len(derive(clips, scope)) for scope in ("reference", "corpus", "any")] == [2, 6, 12]


def test_a_content_of_another_corpus_is_another_content() -> None:
    assert len(derive([clip("x", "u"), clip("y", "u", corpus="d")], "reference")) == 0


def test_clips_of_one_system_are_no_pair_in_the_reference_scope() -> None:
    again = replace(clip("x", "u"), uid="again")
    assert len(derive([clip("x", "u"), again, clip("y", "u")], "reference")) == 4
    assert len(derive([clip("x", "u"), again, clip("y", "u")], "corpus")) == 6


def test_what_cannot_be_paired_is_counted() -> None:
    clips = [
        clip("x", "u"),
        clip("y", "u"),
        clip("z", "u", None),
        clip("x", "u"),
        replace(clip("w", "u"), system_id=None, uid="w"),
        replace(clip("v", "u"), reference_id=None, uid="v"),
    ]
    pairs = derive(clips, "reference")
    assert len(pairs) == 2
    assert pairs.left_out == {"have no mos_overall": 1, "repeat a uid": 1, "have no system_id": 1, "have no reference_id": 1}
    assert all(a != b for a, b in names(derive(clips, "any")))


# ---- labels


@pytest.mark.parametrize(
    ("a", "b", "cmos", "verdict"),
    [(4.4, 3.9, 0.5, "tie"), (3.9, 4.4, -0.5, "tie"), (4.5, 3.9, 0.6, "a"), (3.0, 3.0, 0.0, "tie"), (1.0, 1.51, -0.51, "b")],
)
def test_labels_follow_equation_6(a: float, b: float, cmos: float, verdict: str) -> None:
    pair = next(iter(derive([clip("x", "u", a), clip("y", "u", b)])))
    assert (pair.cmos, pair.verdict) == (cmos, verdict)


def test_both_orders_have_mirrored_labels() -> None:
    found = {(p.a.uid, p.b.uid): p for p in derive(table(4, 2), delta=0.3)}
    for (a, b), pair in found.items():
        other = found[b, a]
        assert other.cmos == -pair.cmos and other.verdict == {"a": "b", "b": "a", "tie": "tie"}[pair.verdict]


def test_where_lower_is_better_the_verdict_knows() -> None:
    clips = [replace(clip(s, "u"), metrics={"lsd": x}) for s, x in (("x", 1.0), ("y", 3.0))]
    pair = next(iter(derive(clips, metric="lsd")))
    assert (pair.a.system_id, pair.cmos, pair.verdict) == ("x", -2.0, "a")


# ---- drawing


@given(st.integers(0, 60), st.integers(1, 70), st.integers(0, 5))
def test_a_draw_is_ascending_without_repeats_and_reproducible(total: int, limit: int, seed: int) -> None:
    found = list(chosen(total, limit, "sample", seed))
    assert len(found) == min(total, limit) and found == sorted(set(found)) and all(0 <= k < total for k in found)
    assert found == list(chosen(total, limit, "sample", seed))


@pytest.mark.parametrize("limit", [2, 4, 6])
def test_every_pair_is_drawn_as_often_as_any_other(limit: int) -> None:
    counts = Counter(k for seed in range(3000) for k in chosen(8, limit, "sample", seed))
    expected = 3000 * limit / 8
    assert all(abs(counts[k] - expected) < 5 * np.sqrt(expected) for k in range(8))
    sets = Counter(tuple(chosen(4, 2, "sample", seed)) for seed in range(3000))
    assert len(sets) == 6 and min(sets.values()) > 400


def test_first_repeats_the_published_selection() -> None:
    clips = table(5, 3)
    everything = names(derive(clips))
    assert names(derive(clips, limit=7, take="first")) == everything[:7]
    drawn = names(derive(clips, limit=7, seed=1))
    assert drawn != everything[:7] and set(drawn) <= set(everything)


def test_the_order_of_contents_is_that_of_the_file() -> None:
    clips = [clip("x", "v"), clip("x", "u"), clip("y", "u"), clip("y", "v")]
    assert [(p.a.reference_id, p.a.system_id) for p in derive(clips)] == [("v", "x"), ("v", "y"), ("u", "x"), ("u", "y")]


def test_symmetric_pairs_come_two_by_two_and_are_the_same_pairs() -> None:
    clips = table(5, 3)
    pairs = names(derive(clips, symmetric=True))
    assert all(pairs[k] == pairs[k + 1][::-1] for k in range(0, len(pairs), 2))
    assert Counter(pairs) == Counter(names(derive(clips)))
    few = derive(clips, symmetric=True, limit=7)
    assert len(few) == len(names(few)) == 6 and names(few)[0] == names(few)[1][::-1]


def test_a_hundred_million_pairs_fit_into_memory() -> None:
    clips = [Clip(str(k), "x.wav", metrics={"mos_overall": 1 + k % 5}) for k in range(10_001)]
    tracemalloc.start()
    pairs = derive(clips, "any", limit=1000)
    assert pairs.n_possible == 10_001 * 10_000 > 10**8
    assert len(set(names(pairs))) == 1000
    assert sum(1 for _ in islice(derive(clips, "any"), 20_000)) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6


# ---- native labels


def test_native_verdicts_have_no_cmos_and_a_scope_of_their_own() -> None:
    clips = [clip("x", "u"), clip("y", "u")]
    records = [{"uids": [clips[0].uid, clips[1].uid], "verdict": "b"}, {"a": "y/u.wav", "b": "x/u.wav", "preference": "Tie"}]
    found = [RowMaker(None)(pair) for pair in native(records, clips, "judged.jsonl")]
    assert [(row["verdict"], row["metrics"], row["scope"]) for row in found] == [("b", {}, "native"), ("tie", {}, "native")]
    assert found[1]["uids"] == [clips[1].uid, clips[0].uid]


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({"verdict": "a"}, "names no two clips"),
        ({"a": "c/x:u", "b": "gone", "verdict": "a"}, "'gone' is no uid"),
        ({"a": "c/x:u", "b": "c/x:u", "verdict": "a"}, "with itself"),
        ({"a": "c/x:u", "b": "c/y:u"}, "has no verdict"),
        ({"a": "c/x:u", "b": "c/y:u", "verdict": "maybe"}, "no verdict. Write a, tie or b"),
        ({"uids": ["c/x:u"], "verdict": "a"}, "not two"),
    ],
)
def test_rows_that_are_no_judged_pairs_are_named(record: dict, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        native([record], [clip("x", "u"), clip("y", "u")], "judged.jsonl")
    assert "judged.jsonl" in str(caught.value) and "row 1" in str(caught.value)


def test_a_row_about_a_clip_names_no_sides() -> None:
    assert sides_of({"uid": "x", "audio_path": "x.wav", "a": None}) is None


# ---- rows and splits


def test_a_row_is_that_of_the_file_format() -> None:
    pair = next(iter(derive([clip("x", "u", 4.0), clip("y", "u", 3.0)])))
    assert RowMaker(None)(pair) == {
        "uids": ["c/x:u", "c/y:u"],
        "audio_paths": ["x/u.wav", "y/u.wav"],
        "durations": [2.0, 2.0],
        "metrics": {"mos_overall": 1.0},
        "sources": {"mos_overall": "listeners"},
        "verdict": "a",
        "scope": "reference",
        "reference_id": "u",
        "corpus": "c",
    }


def test_all_systems_of_a_content_are_in_one_split() -> None:
    clips = table(6, 200)
    parts = {name: in_split(clips, name) for name, _ in SHARES}
    contents = {name: {c.reference_id for c in part} for name, part in parts.items()}
    assert sum(map(len, parts.values())) == len(clips)
    assert not contents["train"] & contents["test"] and not contents["train"] & contents["valid"]
    assert len(contents["train"]) == pytest.approx(160, abs=25) and contents["valid"] and contents["test"]


def test_a_split_depends_on_the_content_alone() -> None:
    assert split_of("utt0001") == split_of("utt0001")
    wide = [split_of(f"u{k}", (("train", 0.5), ("test", 0.5))) for k in range(4000)]
    assert wide.count("train") == pytest.approx(2000, abs=150)
    # These must never change, or old test contents leak into new training sets.
    assert [split_of(f"utt{k:02}") for k in range(12)] == [*["train"] * 3, "test", *["train"] * 6, "test", "train"]
