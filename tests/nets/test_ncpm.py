"""The preference module against torch's own cross-attention, and against padding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from urgentmos.nets.layers import masked_mean
from urgentmos.nets.ncpm import VERDICTS, Ncpm

DIM, HEADS = 16, 4


@pytest.fixture
def ncpm():
    torch.manual_seed(0)
    return Ncpm(DIM, HEADS).eval()


def frames(lengths, seed=0, fill=float("nan")):
    n = torch.tensor(lengths)
    x = torch.randn(len(lengths), max(lengths) + 1, DIM, generator=torch.Generator().manual_seed(seed))
    for clip, length in zip(x, lengths, strict=True):
        clip[length:] = fill
    return x, n


def compare(ncpm, a, b):
    return ncpm(ncpm.sides(*a), a[1], ncpm.sides(*b), b[1])


def test_it_is_cross_attention_with_the_first_asking_then_mean_then_two_heads(ncpm):
    theirs = nn.MultiheadAttention(DIM, HEADS, batch_first=True).eval()
    theirs.load_state_dict(ncpm.attention.state_dict())  # the names are torch's
    (a, n_a), (b, n_b) = frames([5, 2], 1, fill=0.0), frames([3, 7], 2, fill=0.0)
    hidden = torch.arange(b.shape[1]) >= n_b[:, None]
    joint = masked_mean(theirs(a, b, b, key_padding_mask=hidden, need_weights=False)[0], n_a)
    found = compare(ncpm, (a, n_a), (b, n_b))
    torch.testing.assert_close(found.cmos, ncpm.cmos(joint)[:, 0], atol=2e-6, rtol=0)
    torch.testing.assert_close(found.logits, ncpm.verdict(joint), atol=2e-6, rtol=0)
    assert found.logits.shape == (2, len(VERDICTS))


def test_one_order_is_not_the_mirror_of_the_other(ncpm):
    a, b = frames([5], 1), frames([5], 2)
    assert abs((compare(ncpm, a, b).cmos + compare(ncpm, b, a).cmos).item()) > 1e-4


@settings(max_examples=25)
@given(st.data())
def test_padding_and_neighbours_do_not_show(data):
    torch.manual_seed(0)
    ncpm = Ncpm(DIM, HEADS).eval()
    pairs = data.draw(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=4))
    a, b = frames([p[0] for p in pairs], 1), frames([p[1] for p in pairs], 2)
    together = compare(ncpm, a, b)
    for i, (n_a, n_b) in enumerate(pairs):
        alone = compare(ncpm, (a[0][i : i + 1, :n_a], a[1][i : i + 1]), (b[0][i : i + 1, :n_b], b[1][i : i + 1]))
        torch.testing.assert_close(together.cmos[i : i + 1], alone.cmos, atol=1e-5, rtol=0)
        torch.testing.assert_close(together.logits[i : i + 1], alone.logits, atol=1e-5, rtol=0)


def test_a_clip_without_frames_is_neither_better_nor_worse(ncpm):
    x, _ = frames([4, 4, 4], fill=0.0)
    some, none = torch.tensor([4, 4, 4]), torch.tensor([4, 0, 4])
    for found in (
        ncpm(ncpm.sides(x, none), none, ncpm.sides(x, some), some),
        ncpm(ncpm.sides(x, some), some, ncpm.sides(x, none), none),
    ):
        assert found.cmos.isnan().tolist() == [False, True, False]
        assert found.logits.isnan().all(dim=1).tolist() == [False, True, False]


def test_all_of_it_learns(ncpm):
    found = compare(ncpm, frames([4, 3], 1), frames([5, 2], 2))
    (found.cmos.sum() + found.logits.square().sum()).backward()
    for name, parameter in ncpm.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name
