"""The absolute module against torch's own transformer, and against padding."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from urgentmos.errors import UsageError
from urgentmos.nets.ampm import Ampm, CategoryEncoder, MetricHead

SIZES = {"dim": 16, "heads": 4, "feedforward": 24, "layers": 2, "dropout": 0.1}
CATEGORIES = {"mos": {"mos_overall": (1.0, 5.0), "utmos": (-math.inf, math.inf)}, "spectral": {"mcd": (0.0, math.inf)}}


def padded(lengths, dim=16, seed=0, fill=0.0):
    """(B, F, D) random frames with `fill` beyond `lengths`, and the lengths."""
    n = torch.tensor(lengths)
    x = torch.randn(len(lengths), max(lengths) + 2, dim, generator=torch.Generator().manual_seed(seed))
    for clip, length in zip(x, lengths, strict=True):
        clip[length:] = fill
    return x, n


def ampm(pooler="mean", **more):
    torch.manual_seed(0)
    return Ampm(CATEGORIES, **SIZES, pooler=pooler, **more).eval()


@pytest.mark.parametrize("training", [False, True])
def test_the_encoder_is_torchs_post_norm_transformer(training):
    torch.manual_seed(1)
    ours = CategoryEncoder(16, 4, 24, 2, dropout=0.0)
    layer = nn.TransformerEncoderLayer(16, 4, 24, 0.0, batch_first=True)
    theirs = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    theirs.load_state_dict(ours.state_dict())  # the names are torch's
    x, n = padded([5, 3, 1])
    mask = torch.arange(x.shape[1]) >= n[:, None]
    ours.train(training)
    theirs.train(training)
    expected = theirs(x, src_key_padding_mask=mask).masked_fill(mask[..., None], 0.0)
    torch.testing.assert_close(ours(x, n), expected, atol=2e-6, rtol=0)


def test_gradients_on_or_off_give_the_same_numbers():
    net = ampm()
    x, n = padded([6, 2])
    with_gradients = net(net.encode(x, n), n)
    with torch.inference_mode():
        without = net(net.encode(x, n), n)
    for metric, value in without.items():
        assert torch.equal(value, with_gradients[metric].detach())


@settings(max_examples=25)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.sampled_from(["mean", "attentive", "token"]), st.integers(0, 99))
def test_a_clip_scores_the_same_alone_and_whatever_stands_in_the_padding(lengths, pooler, seed):
    net = ampm(pooler)
    x, n = padded(lengths, seed=seed, fill=float("nan"))
    together = net(net.encode(x, n), n)
    for i, length in enumerate(lengths):
        alone = x[i : i + 1, :length], n[i : i + 1]
        for metric, value in net(net.encode(*alone), alone[1]).items():
            torch.testing.assert_close(together[metric][i : i + 1], value, atol=1e-5, rtol=0)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=3))
def test_frame_logits_average_to_the_clips_logit_and_its_score_follows(lengths):
    net = ampm()
    x, n = padded(lengths)
    features = net.encode(x, n)
    scores = net(features, n)
    for metric, frames in net.frame_logits(features, n).items():
        mean = frames.sum(dim=1) / n
        torch.testing.assert_close(net.logits(features, n)[metric], mean, atol=1e-5, rtol=0)
        torch.testing.assert_close(net.heads[metric].bound(mean), scores[metric], atol=1e-5, rtol=0)


def test_frame_scores_are_in_range_and_zero_beyond_the_clip():
    net = ampm()
    x, n = padded([4, 7])
    frames = net.frame_scores(net.encode(x, n), n)["mos_overall"]
    assert frames.shape == (2, 9)
    assert ((frames[0, :4] > 1) & (frames[0, :4] < 5)).all()
    assert (frames[0, 4:] == 0).all() and (frames[1, 7:] == 0).all()


def test_frame_scores_need_the_mean():
    net = ampm("attentive")
    x, n = padded([3])
    with pytest.raises(UsageError, match="attentive"):
        net.frame_scores(net.encode(x, n), n)


def test_metrics_come_category_by_category_and_within_their_ranges():
    net = ampm()
    x, n = padded([5, 2])
    scores = net(net.encode(100 * x, n), n)
    assert list(scores) == ["mos_overall", "utmos", "mcd"]
    assert all(value.shape == (2,) for value in scores.values())
    assert (scores["mos_overall"] >= 1).all() and (scores["mos_overall"] <= 5).all() and (scores["mcd"] >= 0).all()


def test_a_clip_without_frames_has_no_score_and_harms_nobody():
    head = MetricHead(16, 1.0, 5.0, "mean", 4)
    x, _ = padded([4, 4])
    scores = head(x, torch.tensor([4, 0]))
    assert scores[0].isfinite() and scores[1].isnan()


def test_heads_must_divide_the_width():
    with pytest.raises(UsageError, match="3 attention heads"):
        CategoryEncoder(16, 3, 24, 1, 0.0)


def test_dropout_is_there_in_training_only():
    net = ampm()
    x, n = padded([6])
    assert not torch.equal(net.train().encode(x, n)["mos"], net.encode(x, n)["mos"])
    assert torch.equal(net.eval().encode(x, n)["mos"], net.encode(x, n)["mos"])
