"""Masks, means, stretching, layer sums, bounds and poolers: padding never shows, and each axis is the right one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from urgentmos.errors import UsageError
from urgentmos.nets.layers import (
    POOLERS,
    bounded,
    build_pooler,
    layer_sum,
    masked_mean,
    stretch,
    valid_mask,
    zero_padding,
)

lengths = st.lists(st.integers(1, 12), min_size=1, max_size=4)
FINITE = st.floats(-50, 50, width=32)


def batch(n: list[int], dim: int = 3, filler: float = math.nan) -> torch.Tensor:
    """(B, max n + 2, dim): seeded frames, `filler` in the padding."""
    x = torch.randn(len(n), max(n) + 2, dim, generator=torch.Generator().manual_seed(sum(n)))
    for clip, length in zip(x, n, strict=True):
        clip[length:] = filler
    return x


@given(lengths)
def test_the_mask_has_as_many_frames_as_it_says(n):
    mask = valid_mask(torch.tensor(n), max(n) + 1)
    assert mask.sum(dim=1).tolist() == n
    assert (mask.long().diff(dim=1) <= 0).all()  # real frames first


@given(lengths)
def test_a_masked_mean_is_the_mean_of_the_clip_alone_whatever_the_padding_holds(n):
    x = batch(n)
    alone = torch.stack([clip[:length].mean(dim=0) for clip, length in zip(x, n, strict=True)])
    torch.testing.assert_close(masked_mean(x, torch.tensor(n)), alone)


def test_zero_padding_replaces_nan_and_keeps_the_rest_for_waves_and_frames():
    for x in (batch([2, 4]), batch([2, 4])[..., 0]):
        y = zero_padding(x, torch.tensor([2, 4]))
        assert (y[0, 2:] == 0).all() and (y[1, 4:] == 0).all()
        assert torch.equal(y[0, :2], x[0, :2]) and torch.equal(y[1, :4], x[1, :4])


@settings(max_examples=50)
@given(lengths, st.data())
def test_stretching_a_batch_is_torchs_interpolation_of_each_clip(n, data):
    to = data.draw(st.lists(st.integers(1, 40), min_size=len(n), max_size=len(n)))
    x = batch(n)
    y = stretch(x, torch.tensor(n), torch.tensor(to))
    assert y.shape == (len(n), max(to), 3)
    for clip, out, length, new in zip(x, y, n, to, strict=True):
        wanted = functional.interpolate(clip[None, :length].mT, size=new, mode="linear", align_corners=False)[0].mT
        torch.testing.assert_close(out[:new], wanted, atol=1e-5, rtol=1e-5)
        assert (out[new:] == 0).all()


def test_stretching_to_the_own_length_changes_nothing():
    x, n = batch([7, 4]), torch.tensor([7, 4])
    y = stretch(x, n, n)
    assert torch.equal(y[0], x[0, :7]) and torch.equal(y[1, :4], x[1, :4])


def test_stretching_a_long_clip_stays_with_torch():
    x = torch.randn(1, 1000, 4, generator=torch.Generator().manual_seed(0))
    y = stretch(x, torch.tensor([1000]), torch.tensor([3839]))
    wanted = functional.interpolate(x.mT, size=3839, mode="linear", align_corners=False).mT
    torch.testing.assert_close(y, wanted, atol=2e-6, rtol=0)


def test_the_layer_sum_is_over_layers_not_over_frames():
    states = [torch.randn(2, 5, 4) for _ in range(3)]
    torch.testing.assert_close(layer_sum(states, torch.zeros(3)), torch.stack(states).mean(dim=0))
    weights = torch.tensor([50.0, 0.0, 0.0])
    torch.testing.assert_close(layer_sum(states, weights), states[0])  # one large weight is that layer
    order = torch.tensor([3, 0, 4, 1, 2])
    weights = torch.tensor([0.3, -1.0, 2.0])
    torch.testing.assert_close(layer_sum([state[:, order] for state in states], weights), layer_sum(states, weights)[:, order])


def test_a_layer_without_a_weight_is_an_error():
    with pytest.raises(ValueError, match="one weight per layer"):
        layer_sum([torch.zeros(1, 1, 1)] * 2, torch.zeros(3))


BOUNDS = st.tuples(st.sampled_from([-math.inf, -1.0, 0.0, 1.0]), st.sampled_from([1.5, 4.5, math.inf]))


@given(BOUNDS, FINITE)
def test_a_bounded_value_stays_within_and_grows_with_its_input(bounds, x):
    low, high = bounds
    activation = bounded(low, high)
    y, above = activation(torch.tensor(x)), activation(torch.tensor(x + 0.5))
    assert low <= y <= high
    assert above >= y


@given(FINITE)
def test_the_four_forms_are_those_of_the_paper(x):
    x = torch.tensor(x, dtype=torch.float64)
    sigmoid, softplus = 1 / (1 + (-x).exp()), lambda v: torch.logaddexp(v, torch.zeros_like(v))
    for (low, high), wanted in {
        (1.0, 4.5): 1 + 3.5 * sigmoid,
        (0.5, math.inf): 0.5 + softplus(x - 0.5),
        (-math.inf, 0.5): 0.5 - softplus(0.5 - x),
        (-math.inf, math.inf): x,
    }.items():
        torch.testing.assert_close(bounded(low, high)(x), wanted, atol=1e-6, rtol=1e-6)


def test_loaded_bounds_win_and_change_the_form():
    wide = bounded(-math.inf, math.inf)
    wide.load_state_dict(bounded(1.0, 5.0).state_dict())
    assert 1.0 <= wide(torch.tensor(1e6)) <= 5.0
    narrow = bounded(1.0, 5.0)
    narrow.load_state_dict(bounded(-math.inf, math.inf).state_dict())
    assert narrow(torch.tensor(1e6)) == 1e6


@pytest.mark.parametrize("low,high", [(1, 1), (2, 1), (math.nan, 1), (1, math.nan)])
def test_an_empty_range_is_refused(low, high):
    with pytest.raises(UsageError, match="lower bound"):
        bounded(low, high)


@pytest.mark.parametrize("name", POOLERS)
def test_every_pooler_sees_the_clip_alone(name):
    torch.manual_seed(1)
    pool = build_pooler(name, 8, heads=2).eval()
    x, n = batch([3, 6, 1], dim=8), [3, 6, 1]
    together = pool(x, torch.tensor(n))
    assert together.shape == (3, 8)
    for row, clip, length in zip(together, x, n, strict=True):
        torch.testing.assert_close(pool(clip[None, :length], torch.tensor([length]))[0], row, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["attentive", "token"])
def test_learned_poolers_are_not_the_mean_and_can_learn(name):
    torch.manual_seed(1)
    pool, x, n = build_pooler(name, 8, heads=2), torch.randn(2, 5, 8), torch.tensor([5, 3])
    assert (pool(x, n) - masked_mean(x, n)).abs().max() > 1e-3
    pool(x, n).square().sum().backward()
    # The last bias of the attentive pooler shifts all scores alike: softmax hides it, so its gradient is 0, not missing.
    assert all(p.grad is not None for p in pool.parameters())


def test_an_unknown_pooler_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="mean, attentive, token"):
        build_pooler("max", 8, 2)
