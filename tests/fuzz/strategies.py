"""Cases as hypothesis draws them, so that a failing one shrinks to few mutations and small numbers."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from fuzz.cases import NUMBERS, ODD_VALUES, SNIPPETS, WIDTHS, Case

MOST = 4  # mutations of one case
positions = st.one_of(st.integers(0, 255), st.integers(0, 1 << 20), st.integers(-256, -1))
counts = st.one_of(st.integers(1, 16), st.integers(1, 4000))
numbers = st.one_of(st.sampled_from(NUMBERS), st.integers(0, 1 << 32))
BINARY = [
    st.tuples(st.just("cut"), positions),
    st.tuples(st.just("flip"), positions, st.integers(0, 7)),
    st.tuples(st.just("write"), positions, st.sampled_from(WIDTHS), st.booleans(), numbers),
    st.tuples(st.just("field"), st.integers(0, 63), numbers),
    st.tuples(st.just("delete"), positions, counts),
    st.tuples(st.just("insert"), positions, counts, st.integers(0, 99)),
    st.tuples(st.just("duplicate"), positions, counts),
    st.tuples(st.just("zero"), positions, counts),
    st.tuples(st.just("paste"), positions, st.sampled_from(sorted(SNIPPETS)), st.booleans()),
    st.tuples(st.just("splice"), st.integers(0, 200), positions, positions),
]
TEXT = [*BINARY, *[st.tuples(st.just("swap"), st.integers(0, 400), st.integers(0, len(ODD_VALUES) - 1))] * 10]


def cases(seeds: Sequence[str], texts: Sequence[str] = ()) -> st.SearchStrategy[Case]:
    """Cases of these seeds; those in `texts` mostly get odd values for words."""

    def of(seed: str) -> st.SearchStrategy[Case]:
        mutation = st.one_of(*(TEXT if seed in texts else BINARY))
        return st.builds(Case, st.just(seed), st.lists(mutation, max_size=MOST).map(tuple), st.booleans())

    return st.sampled_from(seeds).flatmap(of)
