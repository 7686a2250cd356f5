"""RawNet3: the shapes of the released model, and what its parts must do whatever their weights."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.errors import UsageError
from urgentmos.nets.rawnet3 import RawNet3, RawNet3Config, SincFilterbank

TINY = RawNet3Config(
    sinc_filters=16, sinc_kernel_size=31, model_scale=4, ndim=16, encoder_size=24, attention_size=8, embedding_size=6
)

# What ESPnet writes for egs2/voxceleb/spk1 train_rawnet3_best_trnVox12_emb192_amp_subcentertopk.yaml, the parts that matter.
ESPNET = {
    "frontend": "asteroid_frontend",
    "frontend_conf": {
        "sinc_stride": 16,
        "sinc_kernel_size": 251,
        "sinc_filters": 256,
        "preemph_coef": 0.97,
        "log_term": 1.0e-06,
    },
    "specaug": None,
    "normalize": None,
    "input_size": None,
    "encoder": "rawnet3",
    "encoder_conf": {"model_scale": 8, "ndim": 1024, "output_size": 1536},
    "pooling": "chn_attn_stat",
    "pooling_conf": {},
    "projector": "rawnet3",
    "projector_conf": {"output_size": 192},
    "spk_num": 21615,
}


@pytest.fixture(scope="module")
def model() -> RawNet3:
    torch.manual_seed(0)
    model = RawNet3(TINY).eval()
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
        if name.endswith("running_mean"):
            buffer.uniform_(-0.5, 0.5)
    return model


def noise(seed: int, *shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch_norm(name: str, n: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{part}": (n,) for part in parts}, f"{name}.num_batches_tracked": ()}


def released_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the encoder in an ESPnet checkpoint.

    From the constructors in ESPnet's asteroid_frontend.py, rawnet3_encoder.py, rawnet_block.py, chn_attn_stat_pooling.py
    and rawnet3_projector.py, and in param_sinc_fb.py and enc_dec.py of asteroid-filterbanks 0.4.
    """
    shapes: dict[str, tuple[int, ...]] = {
        "frontend.flipped_filter": (1, 1, 2),
        "frontend.norm.weight": (1,),
        "frontend.norm.bias": (1,),
        "frontend.conv.filterbank.low_hz_": (128, 1),
        "frontend.conv.filterbank.band_hz_": (128, 1),
        "frontend.conv.filterbank.window_": (125,),
        "frontend.conv.filterbank.n_": (1, 125),
    }
    for layer in ("layer1", "layer2", "layer3"):
        p, n_in = f"encoder.{layer}", 256 if layer == "layer1" else 1024
        shapes |= {f"{p}.conv1.weight": (1024, n_in, 1), f"{p}.conv1.bias": (1024,), **batch_norm(f"{p}.bn1", 1024)}
        for i in range(7):
            shapes |= {f"{p}.convs.{i}.weight": (128, 128, 3), f"{p}.convs.{i}.bias": (128,), **batch_norm(f"{p}.bns.{i}", 128)}
        shapes |= {f"{p}.conv3.weight": (1024, 1024, 1), f"{p}.conv3.bias": (1024,), **batch_norm(f"{p}.bn3", 1024)}
        shapes |= {f"{p}.afms.alpha": (1024, 1), f"{p}.afms.fc.weight": (1024, 1024), f"{p}.afms.fc.bias": (1024,)}
    shapes |= {"encoder.layer1.residual.0.weight": (1024, 256, 1)}
    shapes |= {"encoder.layer4.weight": (1536, 3072, 1), "encoder.layer4.bias": (1536,)}
    shapes |= {"pooling.attention.0.weight": (128, 4608, 1), "pooling.attention.0.bias": (128,)}
    shapes |= batch_norm("pooling.attention.2", 128)
    shapes |= {"pooling.attention.3.weight": (1536, 128, 1), "pooling.attention.3.bias": (1536,)}
    shapes |= {**batch_norm("projector.bn", 3072), "projector.fc.weight": (192, 3072), "projector.fc.bias": (192,)}
    return shapes


def test_the_full_size_model_has_the_names_and_shapes_of_the_release():
    with torch.device("meta"):
        model = RawNet3(RawNet3Config())
    assert {k: tuple(v.shape) for k, v in model.state_dict().items()} == released_shapes()


def test_the_published_model_size():
    """Jung et al. give 16.28 million parameters for embeddings of 256 numbers."""
    with torch.device("meta"):
        model = RawNet3(RawNet3Config(embedding_size=256))
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == 16.28


def test_the_config_of_espnet_is_read_as_data():
    assert RawNet3Config.from_espnet(ESPNET) == RawNet3Config()
    small = ESPNET | {"encoder_conf": {"model_scale": 4, "ndim": 16, "output_size": 24}, "frontend_conf": {"sinc_stride": 48}}
    config = RawNet3Config.from_espnet(small)
    assert (config.model_scale, config.ndim, config.encoder_size, config.sinc_stride) == (4, 16, 24, 48)
    assert (config.sinc_kernel_size, config.embedding_size) == (251, 192)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoder": "ecapa_tdnn"}, "encoder"),
        ({"frontend": "melspec_torch"}, "frontend"),
        ({"pooling": None}, "pooling"),
        ({"projector": "ska_tdnn"}, "projector"),
        ({"normalize": "utterance_mvn"}, "normalize"),
        ({"input_size": 80}, "waveforms"),
        ({"encoder_conf": {"ndim": 10**9}}, "ndim"),
        ({"encoder_conf": {"ndim": "1024"}}, "ndim"),
        ({"frontend_conf": {"sinc_stride": 0}}, "sinc_stride"),
        ({"encoder_conf": [1]}, "encoder_conf"),
    ],
)
def test_other_architectures_are_refused(change, said):
    with pytest.raises(UsageError, match=said):
        RawNet3Config.from_espnet(ESPNET | change)


def test_an_embedding_does_not_depend_on_batch_mates(model):
    clips = noise(0, 3, 4000)
    with torch.inference_mode():
        together = model(clips)
        alone = torch.cat([model(clip[None]) for clip in clips])
    assert together.shape == (3, TINY.embedding_size)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


@settings(max_examples=20)
@given(gain=st.floats(-2, 3).map(lambda power: 10**power))
def test_the_level_does_not_matter(model, gain):
    clip = noise(1, 1, 4000)
    with torch.inference_mode():
        torch.testing.assert_close(model(gain * clip), model(clip), atol=2e-3, rtol=0)


def test_the_log_term_swallows_the_faintest_clips(model):
    clip = noise(1, 1, 4000)
    with torch.inference_mode():
        assert not torch.allclose(model(1e-8 * clip), model(clip), atol=1e-2)


def test_polarity_is_not_heard(model):
    """Magnitudes follow the filters, and a new norm has no bias."""
    clip = noise(2, 1, 4000)
    with torch.inference_mode():
        torch.testing.assert_close(model(clip), model(-clip), atol=1e-5, rtol=0)


def test_silence_has_a_finite_embedding(model):
    with torch.inference_mode():
        assert model(torch.zeros(1, 4000)).isfinite().all()


@pytest.mark.filterwarnings("ignore:var")
def test_the_shortest_clip(model):
    assert RawNet3Config().min_samples < 1600  # the 0.1 s that the table of metrics promises
    with torch.inference_mode():
        assert model(noise(3, 1, TINY.min_samples)).isfinite().all()
        assert not model(noise(3, 1, TINY.min_samples - 1)).isfinite().all()


def test_filters_come_in_even_and_odd_pairs():
    cosine, sine = SincFilterbank(RawNet3Config())().squeeze(1).chunk(2)
    assert cosine.shape == (128, 251)
    torch.testing.assert_close(cosine, cosine.flip(1))
    torch.testing.assert_close(sine, -sine.flip(1))


@settings(max_examples=20)
@given(band=st.integers(0, 7), seed=st.integers(0, 999))
def test_a_filter_passes_its_band_and_stops_the_rest(band, seed):
    config = RawNet3Config(sinc_filters=16)
    bank = SincFilterbank(config)
    with torch.no_grad():
        bank.low_hz_.uniform_(-3000, 3000, generator=torch.Generator().manual_seed(seed))  # the sign does not count
        bank.band_hz_.uniform_(-2000, 2000, generator=torch.Generator().manual_seed(seed + 1))
        low = 50 + bank.low_hz_[band].abs().item()
        high = min(low + 50 + bank.band_hz_[band].abs().item(), 8000)
        pair = torch.complex(*bank()[[band, band + 8], 0].double())
        hz = torch.arange(0, 8000, 10, dtype=torch.float64)
        turns = torch.arange(-125, 126) / 16_000 * hz[:, None]
        power = (pair * torch.polar(torch.ones_like(turns), -2 * math.pi * turns)).sum(dim=1).abs() ** 2
    inside = (hz >= low - 150) & (hz <= high + 150)  # the window of 251 samples blurs the edges
    assert power[inside].sum() > 0.97 * power.sum()
