"""Cached features are those of the encoder, made once, and never those of another one."""

import numpy as np
import pytest
import soundfile
import torch

from urgentmos.clips.clip import Clip
from urgentmos.errors import AudioError
from urgentmos.nets.encoder import EncoderConfig
from urgentmos.nets.encoders import build_encoder
from urgentmos.training.cache import FeatureCache, branch, fingerprint

SIZES = {"width": 16, "layers": 2, "channels": 4, "heads": 2, "feedforward": 32, "bands": 20}


def encoder(layers: str = "weighted", seed: int = 0):
    torch.manual_seed(seed)
    return build_encoder(EncoderConfig(kind="conv", layers=layers, model=SIZES))


@pytest.mark.parametrize("layers", ["weighted", "last"])
def test_a_batch_from_the_cache_is_the_batch_of_the_encoder(layers: str, tmp_path, make_voice) -> None:
    net = encoder(layers)
    if net.weights is not None:
        net.weights.data = torch.tensor([0.3, -1.0, 0.5])
    waves = [make_voice(k, seconds) for k, seconds in enumerate((0.4, 0.9))]
    clips = []
    for k, wave in enumerate(waves):
        soundfile.write(tmp_path / f"{k}.wav", wave, 16_000, subtype="FLOAT")
        clips.append(Clip(str(k), str(tmp_path / f"{k}.wav")))
    cache = FeatureCache(tmp_path / "cache", [net], 30.0)
    read = lambda clip: waves[int(clip.uid)]  # noqa: E731
    assert cache.fill(clips, [net], read, "cpu") == 2 and cache.fill(clips, [net], read, "cpu") == 0
    frames, n = branch(net, [cache.load(clip)[0] for clip in clips], torch.device("cpu"))
    padded = torch.zeros(2, len(waves[1]))
    for row, wave in zip(padded, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    with torch.no_grad():
        wanted, n_wanted = net(padded, torch.tensor([len(wave) for wave in waves]))
    assert torch.equal(n, n_wanted) and torch.allclose(frames, wanted, atol=5e-3)
    assert frames.requires_grad == (layers == "weighted")  # the layer weights still learn


def test_a_clip_without_features_is_one_empty_frame() -> None:
    net = encoder()
    frames, n = branch(net, [None, np.ones((3, 5, 16), np.float16)], torch.device("cpu"))
    assert n.tolist() == [1, 5] and not frames[0].any() and frames[1].any()


def test_other_weights_or_a_changed_recording_are_other_features(tmp_path, make_voice) -> None:
    assert fingerprint(encoder(seed=0)) == fingerprint(encoder(seed=0)) != fingerprint(encoder(seed=1))
    path = tmp_path / "a.wav"
    soundfile.write(path, make_voice(0, 0.3), 16_000)
    cache, clip = FeatureCache(tmp_path, [encoder()], 30.0), Clip("a", str(path))
    before = cache.path(clip, 0)
    soundfile.write(path, make_voice(0, 0.4), 16_000)
    assert cache.path(clip, 0) != before
    with pytest.raises(AudioError, match="no cached features"):
        cache.load(clip)
