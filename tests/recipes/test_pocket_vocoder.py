"""Damage of latents: as long as they were, more of it up a ladder, the same again; sentences and chains of a content."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.simulation import known_orders

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "pocket"
sys.path.append(str(RECIPE))  # its scripts import each other
spec = importlib.util.spec_from_file_location("pocket_vocoder", RECIPE / "vocoder.py")
assert spec is not None and spec.loader is not None
vocoder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(vocoder)


def latents(seed: int, frames: int) -> np.ndarray:
    """(D, F) that wander, as those of speech do."""
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.standard_normal((12, frames)), axis=1).astype(np.float32) / 8


@pytest.mark.parametrize("name", list(vocoder.LADDERS))
@given(seed=st.integers(0, 2**31 - 1), frames=st.integers(200, 300))
@settings(max_examples=15)
def test_each_step_of_a_ladder_does_more_and_the_same_again(name: str, seed: int, frames: int) -> None:
    damage, ladder = vocoder.LADDERS[name]
    clean = latents(seed, frames)
    made = [damage(clean, seed, **setting) for setting in ladder]
    assert all(out.shape == clean.shape and np.isfinite(out).all() for out in made)
    assert np.array_equal(made[1], damage(clean, seed, **ladder[1]))
    far = [float(np.square(out - clean).mean()) for out in made]
    assert far[0] < far[-1] and far[0] > 0


@given(st.integers(0, 2**31 - 1))
def test_a_content_has_two_strengths_of_each_kind_and_known_orders(seed: int) -> None:
    chains = vocoder.chains(np.random.default_rng(seed))
    assert len(chains) == 1 + 2 * vocoder.KINDS_PER_CONTENT and chains[0] == []
    for mild, strong in zip(chains[1::2], chains[2::2], strict=True):
        assert mild[0]["name"] == strong[0]["name"] and mild[0]["step"] < strong[0]["step"]
    orders = known_orders(chains)
    assert {(0, k) for k in range(1, 7)} | {(1, 2), (3, 4), (5, 6)} == set(orders)


def test_sentences_are_many_and_made_of_words_that_are_there() -> None:
    said = {vocoder.sentence(np.random.default_rng(seed)) for seed in range(50)}
    assert len(said) == 50 and all(line.endswith(".") and " and the " in line for line in said)
