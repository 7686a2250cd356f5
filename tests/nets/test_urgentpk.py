"""URGENT-PK: padding, company and threads never change a pair's numbers; folding changes them by rounding only."""

import json
import threading

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from urgentmos.errors import AudioError, UsageError  # noqa: E402
from urgentmos.nets.urgentpk import (  # noqa: E402
    BATCH_FRAMES,
    MaskedBatchNorm,
    UrgentPk,
    UrgentPkConfig,
    _equal_lengths,
    fused_for_inference,
    judge_pairs,
)
from urgentmos.nets.utmos import UtmosConfig  # noqa: E402

TINY_UTMOS = UtmosConfig(
    layers=1, hidden=64, feed_forward=24, conv_width=8, position_kernel=4, position_groups=2, embedding=3, lstm=10, projection=6
)
TINY = UrgentPkConfig(backbone="resnet18", filters=4)


def lively(config: UrgentPkConfig = TINY) -> UrgentPk:
    """A net in eval mode whose batch norms do something, and differently in every channel."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = UrgentPk(config)
        for module in net.modules():
            if isinstance(module, MaskedBatchNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.3)
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
    return net.eval()


NET = lively()


def pictures(n: int, frames: int, seed: int = 0) -> "torch.Tensor":
    """(n, 120, frames)"""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, 120, frames)).astype(np.float32))


def sounds(lengths: list[int], seed: int = 0, padding: float = 0.0) -> tuple["torch.Tensor", "torch.Tensor"]:
    rng = np.random.default_rng(seed)
    wave = np.full((len(lengths), max(lengths)), padding, np.float32)
    for row, n in zip(wave, lengths, strict=True):
        row[:n] = rng.standard_normal(n) * 0.1
    return torch.from_numpy(wave), torch.tensor(lengths)


# --- padding ---------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(9, 70), min_size=1, max_size=4), extra=st.integers(0, 20), junk=st.sampled_from([0, 9, np.nan])
)
def test_padding_and_company_change_nothing(lengths: list[int], extra: int, junk: float) -> None:
    a, b = pictures(len(lengths), max(lengths) + extra, 1), pictures(len(lengths), max(lengths) + extra, 2)
    for i, n in enumerate(lengths):
        a[i, :, n:] = b[i, :, n:] = junk
    with torch.no_grad():
        together = NET.compare(a, b, torch.tensor(lengths))
        alone = torch.cat([NET.compare(a[i : i + 1, :, :n], b[i : i + 1, :, :n]) for i, n in enumerate(lengths)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_without_a_mask_padding_is_heard() -> None:
    a, b = pictures(1, 40, 1), pictures(1, 40, 2)
    a[:, :, 30:] = b[:, :, 30:] = 0
    masked, released = NET.compare(a, b, torch.tensor([30])), NET.compare(a, b)
    assert (masked - released).abs().max() > 1e-3


def test_training_statistics_leave_padding_out() -> None:
    config = UrgentPkConfig(backbone="resnet18", filters=4, dropout=0.0)
    a, b, n = pictures(3, 33, 1), pictures(3, 33, 2), torch.full((3,), 33)
    outs, states = [], []
    for padding in (0, 17):
        net = lively(config).train()
        junk = torch.full((3, 120, padding), 50.0)
        out = net.compare(torch.cat([a, junk], 2), torch.cat([b, junk], 2), n)
        out.square().sum().backward()
        outs.append(out.detach())
        states.append({**net.state_dict(), **{k: p.grad for k, p in net.named_parameters()}})
    torch.testing.assert_close(*outs, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(*states, atol=1e-4, rtol=1e-3)


def test_masked_batch_norm_is_torchs_where_nothing_is_masked() -> None:
    x = torch.randn(3, 5, 4, 7, generator=torch.Generator().manual_seed(0))
    ours, theirs = MaskedBatchNorm(5).train(), nn.BatchNorm2d(5).train()
    torch.testing.assert_close(ours(x, torch.full((3,), 7)), theirs(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), atol=1e-6, rtol=1e-5)


@settings(max_examples=20)
@given(lengths=st.lists(st.integers(640, 3000), min_size=1, max_size=5))
@pytest.mark.parametrize("encoder", ["mel", "stft"])
def test_features_are_those_of_the_clip_alone(encoder: str, lengths: list[int]) -> None:
    net = UrgentPk(UrgentPkConfig(encoder=encoder, backbone="resnet18", filters=4))
    lengths = [max(n, net.min_samples) for n in lengths]
    wave, n_samples = sounds(lengths, padding=np.nan)
    rows, n_frames = net.features(wave, n_samples)
    for i, n in enumerate(lengths):
        alone = net.features(wave[i : i + 1, :n], n_samples[i : i + 1])
        assert n_frames[i] == alone.n_frames[0] == alone.rows.shape[2]
        torch.testing.assert_close(rows[i, :, : n_frames[i]], alone.rows[0], atol=1e-4, rtol=1e-4)
        assert (rows[i, :, n_frames[i] :] == 0).all()


# --- shapes and sizes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("encoder", "rows", "inputs"), [("mel", 120, 7680), ("stft", 322, 20992), ("utmos", 1024, 65536)])
def test_sizes_of_the_released_models(encoder: str, rows: int, inputs: int) -> None:
    if encoder == "utmos":
        pytest.importorskip("transformers")
    with torch.device("meta"):
        net = UrgentPk(UrgentPkConfig(encoder=encoder))
    assert net.config.rows == rows
    assert net.resnet.embedding.weight.shape == (3, inputs)
    per_stage = [len(net.resnet.get_submodule(f"layer{stage}")) for stage in (1, 2, 3, 4)]
    assert per_stage == [3, 4, 6, 3]


@pytest.mark.parametrize("encoder", ["mel", "stft", "utmos"])
def test_the_shortest_clip_is_judged_and_a_shorter_one_refused(encoder: str) -> None:
    if encoder == "utmos":
        pytest.importorskip("transformers")
    utmos = TINY_UTMOS if encoder == "utmos" else None
    net = lively(UrgentPkConfig(encoder=encoder, backbone="resnet18", filters=4, utmos=utmos))
    wave, n_samples = sounds([net.min_samples] * 2)
    rows, n_frames = net.features(wave, n_samples)
    assert n_frames.tolist() == [9, 9]
    assert net.compare(rows[:1], rows[1:]).isfinite().all()
    with pytest.raises(AudioError, match=str(net.min_samples)):
        net.features(wave, n_samples - 1)


def test_forward_is_features_then_compare() -> None:
    wave, n_samples = sounds([1600, 1600, 1280, 1280])
    rows, n_frames = NET.features(wave, n_samples)
    direct = NET(wave.unflatten(0, (2, 2)), n_samples[::2])
    torch.testing.assert_close(direct, NET.compare(rows[::2], rows[1::2], n_frames[::2]))
    assert direct.shape == (2, 3)


def test_pooling_is_mean_and_unbiased_deviation_over_time() -> None:
    seen = {}
    hook = NET.resnet.embedding.register_forward_pre_hook(lambda _, args: seen.update(pooled=args[0]))
    block = NET.resnet.layer4[-1].register_forward_hook(lambda _, __, out: seen.update(x=out[0]))
    NET.compare(pictures(2, 50, 1), pictures(2, 50, 2))
    hook.remove(), block.remove()
    x = seen["x"]
    expected = torch.cat([x.mean(3).flatten(1), (x.var(3, unbiased=True) + 1e-10).sqrt().flatten(1)], 1)
    torch.testing.assert_close(seen["pooled"], expected, atol=1e-6, rtol=1e-5)


# --- UTMOS as the encoder --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tune", [False, True])
def test_utmos_is_trained_only_if_asked(tune: bool) -> None:
    pytest.importorskip("transformers")
    config = UrgentPkConfig(encoder="utmos", backbone="resnet18", filters=4, utmos=TINY_UTMOS, tune_encoder=tune)
    net = UrgentPk(config).train()
    assert net.encoder.training is tune
    wave, n_samples = sounds([3200, 3200])
    net(wave[None], n_samples[:1]).sum().backward()
    touched = {name for name, p in net.encoder.named_parameters() if p.grad is not None}
    assert ("blstm.weight_ih_l0" in touched) is tune
    assert bool(touched) is tune
    assert all(p.grad is not None for p in net.resnet.parameters())


# --- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [TINY, UrgentPkConfig(encoder="utmos", utmos=TINY_UTMOS, tune_encoder=True)])
def test_config_survives_json(config: UrgentPkConfig) -> None:
    assert UrgentPkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"encoder": "mfcc"}, "mfcc.*mel"),
        ({"backbone": "vgg"}, "vgg.*resnet34"),
        ({"colour": 1}, "colour.*encoder"),
        ({"encoder": "mel", "tune_encoder": True}, "no weights"),
        ({"encoder": "utmos", "utmos": {"depth": 2}}, "depth.*layers"),
    ],
)
def test_unknown_choices_are_named(data: dict, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        UrgentPkConfig.from_dict(data)


# --- fast inference --------------------------------------------------------------------------------------------------


def test_folding_changes_rounding_only_and_leaves_the_net_alone() -> None:
    net = lively().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    fused = fused_for_inference(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    assert not any(p.requires_grad for p in fused.parameters())
    assert net.training and all(p.requires_grad for p in net.resnet.parameters())
    torch.testing.assert_close(dict(net.state_dict()), before, atol=0, rtol=0)
    a, b, n = pictures(2, 41, 1), pictures(2, 41, 2), torch.tensor([41, 20])
    torch.testing.assert_close(fused.compare(a, b, n), net.eval().compare(a, b, n), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_pairs_are_judged_as_compare_does_on_the_frames_that_both_have(fused: bool) -> None:
    net = fused_for_inference(NET) if fused else NET
    features = net.features(*sounds([2000, 1600, 2000]))
    pairs = [(0, 1), (1, 0), (2, 2), (2, 0)]
    judged = judge_pairs(net, features, pairs, threads=2)
    rows, n_frames = features
    for (a, b), row in zip(pairs, judged, strict=True):
        n = min(n_frames[a], n_frames[b])
        expected = NET.compare(rows[a : a + 1, :, :n], rows[b : b + 1, :, :n])[0]
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)
    assert judge_pairs(net, features, []).shape == (0, 3)


def test_company_and_threads_do_not_change_a_bit_of_a_pair() -> None:
    features = NET.features(*sounds([2000, 1600, 1800]))
    pairs = [(a, b) for a in range(3) for b in range(3)]
    one = judge_pairs(NET, features, pairs, threads=1)
    assert torch.equal(one, judge_pairs(NET, features, pairs, threads=4))
    assert torch.equal(one.flip(0), judge_pairs(NET, features, pairs[::-1], threads=2))
    assert torch.equal(one[4:5], judge_pairs(NET, features, pairs[4:5]))


def test_judging_leaves_torch_as_it_was() -> None:
    def threads_of_a_new_thread() -> int:
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start(), thread.join()
        return seen[0]

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        features = NET.features(*sounds([1600, 1600]))
        random = torch.get_rng_state()
        judge_pairs(NET, features, [(0, 1), (1, 0)], threads=2)
        assert torch.get_num_threads() == 3 and threads_of_a_new_thread() == 3
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        assert torch.equal(random, torch.get_rng_state())
    finally:
        torch.set_num_threads(before)


def test_long_pairs_are_judged_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    features = NET.features(*sounds([8000, 8000]))  # 101 frames
    monkeypatch.setattr(UrgentPk, "window_seconds", 0.2)  # 40 frames
    judged = judge_pairs(NET, features, [(0, 1)])[0]
    a, b = features.rows[:1], features.rows[1:]
    parts = [NET.compare(a[:, :, i:j], b[:, :, i:j])[0] for i, j in [(0, 34), (34, 68), (68, 101)]]
    torch.testing.assert_close(judged, torch.stack(parts).mean(0), atol=1e-5, rtol=1e-5)


def test_a_net_in_training_mode_is_not_judged_with() -> None:
    features = NET.features(*sounds([1600, 1600]))
    with pytest.raises(ValueError, match="eval"):
        judge_pairs(lively().train(), features, [(0, 1)])


@given(lengths=st.lists(st.integers(9, 30_000), min_size=1, max_size=60))
def test_batches_for_a_gpu_hold_equal_lengths_and_every_pair_once(lengths: list[int]) -> None:
    batches = _equal_lengths(lengths)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len({lengths[place] for place in batch}) == 1
        assert len(batch) == 1 or len(batch) * lengths[batch[0]] <= BATCH_FRAMES
