"""Plans of chains: reproducible, complete, held-out degradations stay out, families get their shares."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.simulation import degradations, known_orders
from urgentmos.simulation.plan import ORDER, SHARES, plan_content, usable


@given(st.integers(0, 2**31 - 1), st.integers(1, 9))
@settings(max_examples=50)
def test_a_plan_is_reproducible_and_longer_plans_begin_alike(seed: int, n_clips: int) -> None:
    families = usable()
    short = plan_content(np.random.default_rng(seed), n_clips, families)
    assert short[0] == [] and n_clips <= len(short) <= n_clips + 1
    assert plan_content(np.random.default_rng(seed), n_clips + 3, families)[: len(short)] == short
    for chain in short:
        places = [ORDER.index(degradations()[step["name"]].family) for step in chain]
        assert places == sorted(set(places))
        for step in chain:
            assert degradations()[step["name"]].ladder[step["step"]] == step["setting"]


def test_clean_is_known_to_be_better_than_all_others() -> None:
    chains = plan_content(np.random.default_rng(3), 12, usable())
    orders = known_orders(chains)
    assert {(0, k) for k in range(1, len(chains))} <= set(orders)
    assert not any((worse, better) in orders for better, worse in orders)


def test_what_is_held_out_is_never_drawn_and_every_family_is() -> None:
    held = ("white", "opus", "gsm")
    families = usable(held)
    rng = np.random.default_rng(0)
    drawn = Counter(step["name"] for _ in range(300) for chain in plan_content(rng, 6, families) for step in chain)
    assert not set(held) & set(drawn)
    heard = {degradations()[name].family for name in drawn}
    assert heard == set(families) == set(SHARES)
