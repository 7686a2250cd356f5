"""What every encoder promises, kind by kind, on tiny random nets; and the plain data that encoders are built from."""

import json
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from urgentmos.errors import AudioError, UsageError
from urgentmos.nets.encoder import KINDS, Encoder, EncoderConfig, normalised
from urgentmos.nets.encoders import build_encoder

WHISPER = {
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "num_mel_bins": 128,
    "max_source_positions": 50,  # windows of 1 s
    "dropout": 0.3,
    "encoder_layerdrop": 0.5,
}
SSL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "layerdrop": 0.5,
}
QWEN = {
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "num_mel_bins": 128,
    "output_dim": 24,
    "downsample_hidden_size": 4,
    "n_window": 50,
    "n_window_infer": 200,
    "max_source_positions": 100,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
# Every network that a config can ask for: each takes another way through padding.
CASES = {
    "mel": ("mel", {}),
    "stft": ("stft", {}),
    "conv": ("conv", {"bands": 20, "channels": 4, "width": 16, "layers": 2, "heads": 2, "feedforward": 32, "dropout": 0.3}),
    "wavlm group": ("ssl", {"model_type": "wavlm", **SSL}),
    "wavlm layer": ("ssl", {"model_type": "wavlm", **SSL, **LARGE}),
    "hubert group": ("ssl", {"model_type": "hubert", **SSL}),
    "hubert layer": ("ssl", {"model_type": "hubert", **SSL, **LARGE}),
    "hubert batch": ("ssl", {"model_type": "hubert", **SSL, "conv_pos_batch_norm": True}),
    "wav2vec2 group": ("ssl", {"model_type": "wav2vec2", **SSL}),
    "wav2vec2 layer": ("ssl", {"model_type": "wav2vec2", **SSL, **LARGE}),
    "whisper": ("whisper", WHISPER),
    "af_whisper": ("af_whisper", WHISPER),
    "qwen_omni": ("qwen_omni", QWEN),
}
KNOWN: dict[tuple[str, str], Encoder] = {}


@pytest.fixture(autouse=True)
def one_thread():
    """These nets are too small to share: waking a second thread costs more than it does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(case: str, **more) -> Encoder:
    """A new tiny encoder whose weights, layer weights and norms all differ from their initial values."""
    kind, model = CASES[case]
    torch.manual_seed(3)
    encoder = build_encoder(EncoderConfig(kind, model=model, **more))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for module in encoder.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean += 0.3
    return encoder


def shared_encoder(case: str, layers: str = "weighted") -> Encoder:
    if (case, layers) not in KNOWN:
        KNOWN[case, layers] = build(case, layers=layers)
    return KNOWN[case, layers]


def clips(n: list[int], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [0.1 * torch.randn(length, generator=generator) for length in n]


def padded(waves: list[torch.Tensor], more: int, filler: float) -> tuple[torch.Tensor, torch.Tensor]:
    n = torch.tensor([len(wave) for wave in waves])
    batch = torch.full((len(waves), int(n.max()) + more), filler)
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = wave
    return batch, n


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(
    n=st.lists(st.integers(500, 24_000), min_size=1, max_size=4),
    repeat=st.booleans(),
    more=st.integers(0, 3000),
    filler=st.sampled_from([0.0, 3.0, math.nan]),
    layers=st.sampled_from(["weighted", "last"]),
)
def test_a_clips_frames_do_not_depend_on_its_batch(case, n, repeat, more, filler, layers):
    encoder = shared_encoder(case, layers)
    waves = clips(n + n[:1] * repeat)
    with torch.inference_mode():
        frames, n_frames = encoder(*padded(waves, more, filler))
        assert frames.shape[1:] == (int(n_frames.max()), encoder.dim)
        assert torch.equal(n_frames, encoder.n_frames(torch.tensor([len(wave) for wave in waves])))
        for wave, row, length in zip(waves, frames, n_frames.tolist(), strict=True):
            alone, n_alone = encoder(wave[None], torch.tensor([len(wave)]))
            assert n_alone.tolist() == [length] == [alone.shape[1]]
            scale = alone.abs().max().clamp(min=1.0)
            torch.testing.assert_close(row[:length] / scale, alone[0] / scale, atol=1e-5, rtol=0)
            assert (row[length:] == 0).all()


@pytest.mark.parametrize("case", ["wavlm group", "wavlm layer", "hubert group", "wav2vec2 layer"])
def test_one_masked_call_gives_what_one_call_per_length_gives(case):
    encoder = shared_encoder(case)
    wave, n = padded(clips([9000, 500, 20_000, 9000, 3333]), 0, 0.0)
    with torch.inference_mode():
        together = encoder.states(wave, n)
        for i, (length, frames) in enumerate(zip(n.tolist(), encoder.n_frames(n).tolist(), strict=True)):
            alone = encoder.states(wave[i : i + 1, :length], n[i : i + 1])
            for one, other in zip(together, alone, strict=True):
                torch.testing.assert_close(one[i, :frames], other[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_shortest_clip_has_a_frame_and_a_shorter_one_is_refused(case):
    encoder = shared_encoder(case)
    shortest = encoder.min_samples
    frames, n_frames = encoder(*padded(clips([shortest, 2000]), 0, 0.0))
    assert n_frames[0] >= 1 and torch.isfinite(frames).all()
    with pytest.raises(AudioError, match=f"needs {shortest} "):
        encoder(*padded(clips([2000, shortest - 1]), 0, 0.0))


@pytest.mark.parametrize("case", CASES)
def test_silence_has_finite_frames(case):
    frames, _ = shared_encoder(case)(torch.zeros(1, 8000), torch.tensor([8000]))
    assert torch.isfinite(frames).all()


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("mel", "stft")])
def test_layers_are_summed_over_layers_and_frames_stay_in_time(case):
    encoder = build(case)
    wave, n = padded(clips([30_000]), 0, 0.0)
    with torch.inference_mode():
        states = encoder.states(wave, n)
        assert len(states) == len(encoder.weights) == 3
        for i, state in enumerate(states):
            encoder.weights.data = 40.0 * torch.eye(3)[i]
            torch.testing.assert_close(encoder(wave, n)[0], state, atol=1e-5, rtol=1e-4)
        # Time is not mixed up with layers: another second half leaves the first frames nearer than the last ones.
        other = wave.clone()
        other[:, 24_000:] = 0.3 * other[:, 24_000:].flip(1)
        moved = (encoder(other, n)[0] - encoder(wave, n)[0]).abs().mean(dim=(0, 2))
        assert moved[-len(moved) // 8 :].mean() > 2 * moved[: len(moved) // 2].mean() >= 0


@pytest.mark.parametrize("case", CASES)
def test_frozen_stays_in_eval_and_needs_no_gradient_but_for_the_layer_weights(case):
    encoder = build(case)
    net = torch.nn.Sequential(encoder).train()
    assert net.training and not any(module.training for module in encoder.modules())
    wave, n = padded(clips([20_000, 9000]), 0, 0.0)
    frames, _ = encoder(wave, n)
    again, _ = encoder(wave, n)
    assert torch.equal(frames, again)  # no dropout, no dropped layer, although the config has both
    if encoder.weights is None:
        assert not frames.requires_grad
        return
    frames.square().sum().backward()
    assert encoder.weights.grad.abs().max() > 0
    assert [name for name, p in encoder.named_parameters() if p.requires_grad] == ["weights"]
    assert all(p.grad is None for name, p in encoder.named_parameters() if name != "weights")


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("mel", "stft")])
def test_an_encoder_to_be_trained_trains_and_the_gradient_scale_scales_it_alone(case):
    wave, n = padded(clips([20_000, 9000]), 0, 0.0)
    gradients = []
    for scale in (1.0, 0.1):
        encoder = build(case, frozen=False, gradient_scale=scale)
        assert encoder.training and encoder.train().training
        encoder(wave, n)  # with dropout and SpecAugment as configured: must not fail
        encoder.eval()
        encoder(wave, n)[0].square().mean().backward()
        gradients.append({name: p.grad for name, p in encoder.named_parameters() if p.grad is not None})
    full, scaled = gradients
    assert len(full) > 10 and full.keys() == scaled.keys()
    for name, gradient in full.items():
        factor = 1.0 if name == "weights" else 0.1
        torch.testing.assert_close(scaled[name], factor * gradient, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("case", CASES)
def test_building_is_a_function_of_the_seed_and_running_leaves_it_alone(case):
    first, second = build(case).state_dict(), build(case).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    encoder = shared_encoder(case)
    before = torch.get_rng_state()
    encoder(*padded(clips([9000, 3000]), 0, 0.0))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("case", ["mel", "stft", "conv", "whisper", "qwen_omni"])
def test_autocast_leaves_the_spectrum_in_full_precision(case):
    encoder, (wave, n) = shared_encoder(case), padded(clips([9000]), 0, 0.0)
    with torch.inference_mode():
        plain, _ = encoder(wave, n)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half, _ = encoder(wave, n)
    if case in ("mel", "stft"):
        assert torch.equal(half, plain)
    else:  # the layers behind it do run in half precision
        assert 0 < (half - plain).abs().mean() < 0.03 * plain.abs().mean()


def test_normalising_is_per_clip_and_leaves_the_padding_at_zero():
    wave, n = padded([0.5 + 3 * clip for clip in clips([4000, 700])], 100, 0.0)
    out = normalised(wave, n)
    for row, length in zip(out, n.tolist(), strict=True):
        assert abs(row[:length].mean()) < 1e-5 and abs(row[:length].std(correction=0) - 1) < 1e-3
        assert (row[length:] == 0).all()
    encoder = build("wavlm layer", normalise=True)
    loud, _ = encoder(0.2 + 5 * wave, n)
    quiet, _ = encoder(wave, n)
    torch.testing.assert_close(loud, quiet, atol=1e-3, rtol=1e-3)


def test_a_config_survives_json():
    config = EncoderConfig("ssl", "some/name", "last", False, 0.1, True, {"model_type": "wavlm", "conv_dim": [8, 8]})
    assert EncoderConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_every_kind_can_be_built():
    assert {kind for kind, _ in CASES.values()} == set(KINDS)


@pytest.mark.parametrize(
    "wrong,sentence",
    [
        ({"kind": "wav"}, "mel, stft, conv"),
        ({"kind": "mel", "layers": "all"}, "weighted"),
        ({"kind": "conv", "gradient_scale": 0.0}, "above 0"),
        ({"kind": "mel", "colour": 1}, "unknown fields colour"),
        ({"name": "x"}, "no kind"),
        ({"kind": "mel", "model": {"colour": 1}}, "colour"),
        ({"kind": "conv", "model": {"colour": 1}}, "colour"),
        ({"kind": "conv", "model": {"width": 10, "heads": 3}}, "divisible"),
        ({"kind": "ssl", "model": {"model_type": "bert"}}, "wavlm, hubert, wav2vec2"),
        ({"kind": "ssl"}, "wavlm, hubert, wav2vec2"),
        ({"kind": "ssl", "model": {"model_type": "hubert", "conv_dim": [8]}}, "hubert config"),
        ({"kind": "ssl", "model": {"model_type": "wavlm", "add_adapter": True}}, "adapter"),
        ({"kind": "whisper", "model": {"model_type": "wavlm"}}, "Known: whisper"),
    ],
)
def test_a_wrong_config_is_refused_with_what_would_be_right(wrong, sentence):
    with pytest.raises(UsageError, match=sentence):
        build_encoder(EncoderConfig.from_dict(wrong))


def test_shapes_that_do_not_fit_are_refused():
    encoder = shared_encoder("mel")
    with pytest.raises(ValueError, match=r"\(B, T\) and \(B,\)"):
        encoder(torch.zeros(3000), torch.tensor([3000]))
    with pytest.raises(ValueError, match="the batch holds 3000"):
        encoder(torch.zeros(1, 3000), torch.tensor([3001]))
