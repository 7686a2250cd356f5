"""Whisper-like encoders: their front end, numbers and lengths against transformers for a clip alone, and long clips."""

import pytest
import torch

from urgentmos.nets.encoder import EncoderConfig
from urgentmos.nets.encoders import build_encoder
from urgentmos.nets.whisper import WhisperMel

TINY = {
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "num_mel_bins": 128,
    "max_source_positions": 100,  # windows of 2 s
}
QWEN = TINY | {"output_dim": 24, "downsample_hidden_size": 4, "n_window": 50, "n_window_infer": 200}
SECOND = 16_000


def wave(n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    level = torch.linspace(0.001, 0.3, n)  # quiet and loud, so that the cut at 8 decades below the loudest matters
    return (level * torch.randn(n, generator=generator))[None]


def build(kind: str, layers: str = "last"):
    torch.manual_seed(5)
    encoder = build_encoder(EncoderConfig(kind, layers=layers, model=QWEN if kind == "qwen_omni" else TINY))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


def extractor(seconds: int, bands: int = 128):
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=bands, chunk_length=seconds)


@pytest.mark.parametrize("bands", [80, 128])
@pytest.mark.parametrize("n", [1, 500, 16_000, 47_999])
def test_the_front_end_is_that_of_transformers(bands, n):
    x = wave(n)
    wanted = extractor(3, bands)(x[0].numpy(), sampling_rate=SECOND, return_tensors="pt").input_features
    ours = WhisperMel(bands)(torch.nn.functional.pad(x, (0, 3 * SECOND - n)))
    torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=0)
    silent = WhisperMel(bands)(torch.zeros(1, SECOND))
    assert (silent == -1.5).all()  # (log10(1e-10) + 4) / 4


@pytest.mark.parametrize("n", [201, 1601, 16_000, 47_999])
def test_the_unpadded_front_end_is_that_of_transformers(n):
    x = wave(n)
    wanted = extractor(3)(
        x[0].numpy(), sampling_rate=SECOND, return_tensors="pt", padding=True, truncation=False, return_attention_mask=True
    )
    length = int(wanted.attention_mask.sum())
    padded = torch.nn.functional.pad(x, (0, 999), value=7.0)
    ours = WhisperMel(128)(padded, torch.tensor([n]))
    assert length == n // 160
    torch.testing.assert_close(ours[:, :, :length], wanted.input_features[:, :, :length], atol=1e-4, rtol=0)
    assert (ours[:, :, length:] == 0).all()


@pytest.mark.parametrize("kind", ["whisper", "af_whisper"])
@pytest.mark.parametrize("n", [321, 7000, 31_840, 32_000])
def test_one_window_gives_what_the_library_gives(kind, n):
    encoder, x = build(kind), wave(n)
    features = extractor(2)(x[0].numpy(), sampling_rate=SECOND, return_tensors="pt", return_attention_mask=True)
    mel = int(features.attention_mask.sum())
    assert mel == -(-n // 160)
    frames = (mel - 1) // 2 + 1
    if kind == "af_whisper":
        frames = int(encoder.model._get_feat_extract_output_lengths(torch.tensor(mel))[1])
    with torch.inference_mode():
        wanted = encoder.model(features.input_features).last_hidden_state[:, :frames]
        ours, n_frames = encoder(x, torch.tensor([n]))
    assert n_frames.tolist() == [frames]
    torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind,rate", [("whisper", 50), ("af_whisper", 25)])
def test_longer_clips_are_cut_not_cut_off(kind, rate):
    encoder, x = build(kind, "weighted"), wave(5 * SECOND)
    assert encoder.window_seconds == 2.0
    with torch.inference_mode():
        frames, n_frames = encoder(x, torch.tensor([5 * SECOND]))
        assert n_frames.tolist() == [5 * rate]
        for start, end in [(0, 2), (2, 4), (4, 5)]:
            piece = x[:, start * SECOND : end * SECOND]
            alone, _ = encoder(piece, torch.tensor([piece.shape[1]]))
            torch.testing.assert_close(frames[:, start * rate : end * rate], alone, atol=1e-5, rtol=1e-5)
        many, _ = encoder(wave(SECOND).repeat(1, 41), torch.tensor([41 * SECOND]))  # more windows than run at once
        torch.testing.assert_close(many[:, : 2 * rate], many[:, 38 * rate : 40 * rate], atol=1e-4, rtol=1e-4)


def test_the_window_of_the_real_size_is_30_seconds():
    with torch.device("meta"):
        encoder = build_encoder(EncoderConfig("whisper", model=TINY | {"max_source_positions": 1500}))
    assert encoder.window_seconds == 30.0
    assert encoder.n_frames(torch.tensor([480_000, 480_001, 1_440_000, 320])).tolist() == [1500, 1501, 4500, 1]


@pytest.mark.parametrize("kind", ["whisper", "af_whisper"])
def test_the_last_weighted_state_is_the_last_layers(kind):
    encoder, x, n = build(kind, "weighted"), wave(32_000), torch.tensor([32_000])
    last = build(kind)
    last.load_state_dict({name: tensor for name, tensor in encoder.state_dict().items() if name != "weights"})
    with torch.inference_mode():
        states = encoder.states(x, n)
        assert len(states) == 3 and len({state.shape for state in states}) == 1
        torch.testing.assert_close(states[-1], last(x, n)[0])
        hooked = []
        layer = encoder.model.layers[0]
        handle = layer.register_forward_hook(lambda _m, _args, out: hooked.append(out[0] if isinstance(out, tuple) else out))
        encoder.states(x, n)
        handle.remove()
        raw = hooked[0] if kind == "whisper" else hooked[0].unflatten(1, (-1, 2)).mean(dim=2)
        torch.testing.assert_close(states[1], raw)


@pytest.mark.parametrize("n", [201, 1601, 15_999, 16_000, 16_160, 40_000, 90_001])
@pytest.mark.parametrize("layers", ["last", "weighted"])
def test_qwen_gives_what_the_library_gives(n, layers):
    from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import _get_feat_extract_output_lengths as frames_of

    encoder, x = build("qwen_omni", layers), wave(n)
    features = extractor(30)(
        x[0].numpy(), sampling_rate=SECOND, return_tensors="pt", padding=True, truncation=False, return_attention_mask=True
    )
    lengths = features.attention_mask.sum(dim=1)
    packed = features.input_features[0, :, : lengths[0]]
    with torch.inference_mode():
        out = encoder.model(input_features=packed, feature_lens=lengths, output_hidden_states=True)
        ours, n_frames = encoder(x, torch.tensor([n]))
    assert n_frames.tolist() == frames_of(lengths).tolist()
    wanted = out.last_hidden_state
    if layers == "weighted":
        shares = encoder.weights.detach().softmax(dim=0)
        wanted = sum(share * state for share, state in zip(shares, out.hidden_states, strict=True))
    torch.testing.assert_close(ours[0], wanted, atol=1e-4, rtol=1e-4)


def test_qwen_has_13_frames_for_each_second():
    encoder = build("qwen_omni")
    assert encoder.n_frames(torch.tensor([SECOND, 24_000, 10 * SECOND, 100 * SECOND])).tolist() == [13, 20, 130, 1300]
