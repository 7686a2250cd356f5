"""The whole net: plain data in and out, clips independent of their batch, encode once and compare in any combination."""

import json
from dataclasses import replace
from math import inf

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.errors import UsageError
from urgentmos.nets.encoder import EncoderConfig
from urgentmos.nets.layers import stretch
from urgentmos.nets.urgentmos import Fusion, UrgentMos, UrgentMosConfig

MEL = EncoderConfig(kind="mel", layers="last")
STFT = EncoderConfig(kind="stft", layers="last")
CATEGORIES = {"naturalness": {"mos_overall": (1.0, 5.0), "utmos": (-inf, inf)}, "spectral": {"mcd": (0.0, inf)}}
SMALL = {"dim": 16, "heads": 2, "feedforward": 24, "layers": 1, "preference_heads": 2}
CONFIG = UrgentMosConfig((MEL, STFT), CATEGORIES, preference="naturalness", **SMALL)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return UrgentMos(CONFIG).eval()


def waves(lengths, seed=0):
    """(B, T) noise with garbage beyond `lengths`, and the lengths."""
    n = torch.tensor(lengths)
    return 0.1 * torch.randn(len(lengths), max(lengths) + 7, generator=torch.Generator().manual_seed(seed)), n


# --- the configuration -----------------------------------------------------------------------------------------------


def test_plain_data_survives_json():
    plain = json.loads(json.dumps(CONFIG.to_dict(), allow_nan=False))
    assert UrgentMosConfig.from_dict(plain) == CONFIG


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dim": 0}, "dim is 0"),
        ({"dim": 10**9}, "dim is 1000000000"),
        ({"layers": 10**6}, "layers"),
        ({"heads": True}, "heads"),
        ({"dropout": 1.0}, "dropout"),
        ({"pooler": "max"}, "mean"),
        ({"preference": "speaker"}, "naturalness"),
        ({"encoders": []}, "encoder"),
        ({"categories": {}}, "category"),
        ({"categories": {"mos": {}}}, "metric"),
        ({"categories": {"a": {"pesq": [1, 2]}, "b": {"pesq": [1, 2]}}, "preference": None}, "two categories"),
        ({"categories": {"mos": {"pesq": [5, 1]}}, "preference": None}, "pesq cannot range"),
        ({"categories": {"mos": {"pesq": [1, 2, 3]}}, "preference": None}, "cannot be understood"),
        ({"categories": {"mos": {"a.b": [1, 2]}}, "preference": None}, "cannot name"),
        ({"categories": {"mos": {"items": [1, 2]}}, "preference": None}, "cannot name"),
        ({"encoders": [{"kind": "ssl", "model": {"num_hidden_layers": 10**6}}]}, "beyond the limit"),
        ({"encoders": [{"kind": "mel", "model": {"n_fft": 10**6}}]}, "beyond the limit"),
        ({"encoders": [{"kind": "ssl", "model": {"attn_implementation": "somebody/kernel"}}]}, "not a number or a word"),
        ({"encoders": [{"kind": "ssl", "model": {"a": {"b": {"c": {"d": {"e": 1}}}}}}]}, "nested"),
        ({"encoders": [{"kind": "mel", "surprise": 1}]}, "surprise"),
        ({"encoders": 3}, "cannot be understood"),
        ({"surprise": 1}, "cannot be understood"),
    ],
)
def test_a_wrong_configuration_is_refused_with_a_sentence(wrong, said):
    with pytest.raises(UsageError, match=said):
        UrgentMosConfig.from_dict({**CONFIG.to_dict(), **wrong})


def test_encoders_must_share_a_rate(monkeypatch):
    from urgentmos.nets.encoders import SpectrumEncoder

    rates = iter([16_000, 8_000])
    monkeypatch.setattr(SpectrumEncoder, "rate", property(lambda self: next(rates)))
    with pytest.raises(UsageError, match="8000, 16000"):
        UrgentMos(CONFIG)


# --- the net ---------------------------------------------------------------------------------------------------------


@settings(max_examples=8)
@given(st.lists(st.integers(400, 1600), min_size=1, max_size=3), st.integers(0, 99))
def test_a_clip_does_not_depend_on_its_batch(net, lengths, seed):
    wave, n = waves(lengths, seed)
    with torch.inference_mode():
        together = net.encode(wave, n)
        scores = net.absolute(together)
        frames = net.frame_scores(together)
        for i, length in enumerate(lengths):
            alone = net.encode(wave[i : i + 1, :length], n[i : i + 1])
            assert together.n_frames[i] == alone.n_frames[0]
            own = int(alone.n_frames[0])
            for metric, value in net.absolute(alone).items():
                torch.testing.assert_close(scores[metric][i : i + 1], value, atol=1e-4, rtol=0)
                one = net.frame_scores(alone)[metric]
                torch.testing.assert_close(frames[metric][i : i + 1, :own], one[:, :own], atol=1e-4, rtol=0)
            pair = net.compare(alone, together.pick([i]))
            again = net.compare(together.pick([i]), alone)
            torch.testing.assert_close(pair.logits, again.logits, atol=1e-4, rtol=0)


def test_picked_clips_compare_as_they_would_if_encoded_for_it(net):
    wave, n = waves([3000, 1600, 2400])
    first, second = [0, 1, 1, 2], [2, 0, 2, 2]
    with torch.inference_mode():
        encoded = net.encode(wave, n)
        found = net.compare(encoded.pick(first), encoded.pick(torch.tensor(second)))
        anew = net.compare(net.encode(wave[first], n[first]), net.encode(wave[second], n[second]))
    torch.testing.assert_close(found.cmos, anew.cmos, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.logits, anew.logits, atol=1e-5, rtol=0)
    assert found.cmos.shape == (4,) and found.logits.shape == (4, 3)


def test_scores_come_in_the_order_of_the_configuration_and_in_range(net):
    with torch.inference_mode():
        scores = net.absolute(net.encode(*waves([1600, 800])))
    assert tuple(scores) == net.metrics == ("mos_overall", "utmos", "mcd")
    assert (scores["mos_overall"] > 1).all() and (scores["mos_overall"] < 5).all() and (scores["mcd"] > 0).all()


def test_frame_logits_average_to_the_clips_logit(net):
    with torch.inference_mode():
        encoded = net.encode(*waves([1600, 2222]))
        for metric, frames in net.frame_logits(encoded).items():
            torch.testing.assert_close(frames.sum(1) / encoded.n_frames, net.logits(encoded)[metric], atol=1e-5, rtol=0)


def test_a_model_without_a_preference_judges_no_pairs():
    alone = UrgentMos(replace(CONFIG, preference=None)).eval()
    encoded = alone.encode(*waves([800]))
    assert encoded.sides is None and encoded.pick([0]).sides is None
    with pytest.raises(UsageError, match="no pairs"):
        alone.compare(encoded, encoded)


@pytest.mark.parametrize("pooler", ["attentive", "token"])
def test_other_poolers_score_too(pooler):
    torch.manual_seed(0)
    other = UrgentMos(replace(CONFIG, pooler=pooler)).eval()
    wave, n = waves([1600, 900])
    with torch.inference_mode():
        scores = other.absolute(other.encode(wave, n))["mos_overall"]
        alone = other.absolute(other.encode(wave[1:, :900], n[1:]))["mos_overall"]
    torch.testing.assert_close(scores[1:], alone, atol=1e-4, rtol=0)


def test_fusion_stretches_each_clip_to_its_own_longest_branch():
    torch.manual_seed(0)
    fusion = Fusion([3, 2], 8)
    slow, fast = torch.randn(2, 4, 3), torch.randn(2, 9, 2)
    n_slow, n_fast = torch.tensor([4, 3]), torch.tensor([9, 2])
    fused, n = fusion([(slow, n_slow), (fast, n_fast)])
    assert n.tolist() == [9, 3]
    expected = fusion.norm(fusion.linear(torch.cat([stretch(slow[:1], n_slow[:1], n[:1]), fast[:1]], dim=2)))
    torch.testing.assert_close(fused[:1], expected)
    second = torch.cat([slow[1:, :3], stretch(fast[1:, :2], n_fast[1:], n[1:])], dim=2)
    torch.testing.assert_close(fused[1:, :3], fusion.norm(fusion.linear(second)))
    assert (fused[1, 3:] == 0).all()


def test_everything_behind_the_encoders_learns():
    torch.manual_seed(0)
    learner = UrgentMos(CONFIG).train()
    encoded = learner.encode(*waves([1600, 900]))
    pair = learner.compare(encoded, encoded.pick([1, 0]))
    sum(x.square().sum() for x in [*learner.absolute(encoded).values(), *pair]).backward()
    for name, parameter in learner.named_parameters():
        if not name.startswith("encoders"):
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name
