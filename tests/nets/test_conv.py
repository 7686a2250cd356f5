"""The small trainable encoder: its front end, its size, that it learns, and that it can leave torch."""

import numpy as np
import pytest
import torch

from urgentmos.errors import UsageError
from urgentmos.nets.conv import ConvConfig, ConvMel
from urgentmos.nets.encoder import EncoderConfig
from urgentmos.nets.encoders import build_encoder
from urgentmos.nets.spectra import complex_stft, htk_filters

TINY = {"bands": 20, "channels": 4, "width": 16, "layers": 2, "heads": 2, "feedforward": 32}


def test_the_front_end_is_a_log_mel_spectrogram():
    sizes = ConvConfig()
    x, n = 0.1 * torch.randn(2, 9000, generator=torch.Generator().manual_seed(0)), torch.tensor([9000, 4000])
    power = complex_stft(x, 400, 160, torch.hann_window(400), n).abs().square()
    mel = power.mT @ htk_filters(201, sizes.bands)
    frame = mel[0].sum(dim=1)
    share = mel[0] * frame.sum() / frame.square().sum()
    ours = ConvMel(sizes)(x, n)
    torch.testing.assert_close(ours[0], (share.clamp(min=1e-8).log10() + 4) / 2, atol=1e-3, rtol=0)


def test_the_front_end_hears_no_level_and_no_leading_silence():
    mel = ConvMel(ConvConfig())
    x = 0.1 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    n = torch.tensor([16_000])
    torch.testing.assert_close(mel(0.01 * x, n), mel(x, n), atol=1e-4, rtol=0)
    late = mel(torch.cat([torch.zeros(1, 16_000), x], dim=1), n + 16_000)
    torch.testing.assert_close(late[:, 105:], mel(x, n)[:, 5:], atol=1e-2, rtol=0)
    assert mel(torch.zeros(1, 16_000), n).eq(-2).all()


def test_the_default_is_a_pocket_net_of_25_frames_a_second():
    encoder = build_encoder(EncoderConfig("conv"))
    assert 1e6 < sum(p.numel() for p in encoder.parameters()) < 3e6
    assert encoder.n_frames(torch.tensor([160_000])).tolist() == [251]
    assert encoder.n_frames(torch.tensor([480_000])).tolist() == [751]


def test_strides_set_the_frame_rate():
    encoder = build_encoder(EncoderConfig("conv", model=TINY | {"strides": [2, 2, 2]}))
    frames, n_frames = encoder(torch.randn(1, 16_000), torch.tensor([16_000]))
    assert n_frames.tolist() == [13] and frames.shape == (1, 13, 16)


def test_the_stem_may_be_rectified_and_nothing_unknown():
    wave, n = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0)), torch.tensor([16_000])
    torch.manual_seed(0)
    usual = build_encoder(EncoderConfig("conv", model=TINY))
    rectified = build_encoder(EncoderConfig("conv", model=TINY | {"activation": "relu"}))
    rectified.load_state_dict(usual.state_dict())
    assert not torch.allclose(usual(wave, n)[0], rectified(wave, n)[0])
    with pytest.raises(UsageError, match="activation 'eval'"):
        ConvConfig.from_mapping({"activation": "eval"})


def test_it_tells_dull_from_bright_once_trained():
    """All parameters learn: a frame's mean follows the colour of the clip after a few steps."""
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig("conv", frozen=False, model=TINY | {"dropout": 0.0}))
    head = torch.nn.Linear(16, 1)
    optimiser = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=3e-3)
    colour = torch.tensor([-0.9, -0.3, 0.3, 0.9])
    noise = 0.1 * torch.randn(4, 8001)
    wave, n, target = noise[:, 1:] + colour[:, None] * noise[:, :-1], torch.tensor([8000] * 4), colour
    losses = []
    for _ in range(30):
        frames, _ = encoder(wave, n)
        loss = (head(frames.mean(dim=1)).squeeze(1) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in encoder.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


def test_batch_norm_learns_from_a_batch_and_then_looks_at_each_clip_alone():
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig("conv", frozen=False, model=TINY | {"batch_norm": True}))
    wave, n = 0.1 * torch.randn(3, 9000), torch.tensor([9000, 6000, 3000])
    before = {name: x.clone() for name, x in encoder.named_buffers() if "running" in name}
    encoder.train()(wave, n)
    assert before and all(not torch.equal(x, before[name]) for name, x in encoder.named_buffers() if name in before)
    with torch.inference_mode():
        frames, n_frames = encoder.eval()(wave, n)
        for row in range(3):
            alone, _ = encoder(wave[row : row + 1, : n[row]], n[row : row + 1])
            torch.testing.assert_close(frames[row, : n_frames[row]], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_it_runs_in_onnxruntime_with_any_batch_and_length(tmp_path, batch_norm):
    pytest.importorskip("onnx")
    ort = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig("conv", model=TINY | {"batch_norm": batch_norm}))
    path = tmp_path / "conv.onnx"
    torch.onnx.export(
        encoder,
        (torch.randn(2, 8000), torch.tensor([8000, 5000])),
        str(path),
        input_names=["wave", "n_samples"],
        output_names=["frames", "n_frames"],
        dynamic_axes={"wave": {0: "B", 1: "T"}, "n_samples": {0: "B"}, "frames": {0: "B", 1: "F"}, "n_frames": {0: "B"}},
        opset_version=17,
        dynamo=False,
    )
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for lengths in [[8000, 5000], [700], [30_001, 201, 12_345]]:
        n = torch.tensor(lengths)
        wave = 0.1 * torch.randn(len(n), max(lengths))
        with torch.inference_mode():
            frames, n_frames = encoder(wave, n)
        ours, ours_n = session.run(None, {"wave": wave.numpy(), "n_samples": n.numpy()})
        assert ours_n.tolist() == n_frames.tolist()
        np.testing.assert_allclose(ours, frames.numpy(), atol=1e-4)
