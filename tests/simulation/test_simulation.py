"""The front door: descriptions make the same samples again, nothing comes out too loud or out of shape."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.errors import UsageError
from urgentmos.simulation import RATE, chain_step, degradations, known_orders, simulate


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    t = np.arange(RATE) / RATE
    return (0.3 * np.sin(2 * np.pi * 140 * t) * (1 + np.sin(2 * np.pi * 3 * t)) / 2).astype(np.float32)


PLAIN = ("white", "clip", "mnru", "lowpass", "mu_law", "loss_silence")


@given(st.lists(st.sampled_from(PLAIN), max_size=3), st.integers(0, 2**31 - 1), st.data())
@settings(max_examples=25)
def test_a_description_survives_json_and_makes_the_same_samples(speech, names, seed, data) -> None:
    chain = [chain_step(n, data.draw(st.integers(0, len(degradations()[n].ladder) - 1)), seed) for n in names]
    once = simulate(speech, chain)
    np.testing.assert_array_equal(once, simulate(speech, json.loads(json.dumps(chain))))
    assert once.shape == speech.shape and once.dtype == np.float32 and np.abs(once).max() <= 0.9901
    if not chain:
        np.testing.assert_array_equal(once, speech)


def test_unknown_degradations_and_steps_are_named() -> None:
    with pytest.raises(UsageError, match=r"no degradation 'whit'.*white"):
        simulate(np.zeros(100, np.float32), [{"name": "whit", "setting": {}, "seed": 0}])
    with pytest.raises(UsageError, match="steps 0 to"):
        chain_step("white", 99, 0)


def test_known_orders_follow_from_how_clips_were_made() -> None:
    mild, strong, other_seed = chain_step("white", 1, 5), chain_step("white", 4, 5), chain_step("white", 4, 6)
    further = [mild, chain_step("clip", 2, 1)]
    chains = [[], [mild], [strong], [other_seed], further]
    assert set(known_orders(chains)) == {(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 4)}


def test_every_degradation_says_its_family_and_a_ladder_of_plain_settings() -> None:
    for row in degradations().values():
        assert row.family in {"noise", "room", "channel", "enhancer", "vocoder", "codec", "loss"}
        assert row.ladder and len({json.dumps(dict(s), sort_keys=True) for s in row.ladder}) == len(row.ladder)
