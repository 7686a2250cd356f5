"""NISQA's net: the shapes of the released model, and what holds whatever its weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.errors import UsageError
from urgentmos.nets.nisqa import DIMENSIONS, Nisqa, NisqaConfig

TINY = NisqaConfig(
    ms_n_mels=8, ms_seg_length=5, cnn_c_out_1=2, cnn_c_out_2=3, cnn_c_out_3=4, cnn_pool_1=(6, 4), cnn_pool_2=(4, 3),
    cnn_pool_3=(2, 3), td_sa_d_model=6, td_sa_nhead=2, td_sa_num_layers=2, td_sa_h=5, pool_att_h=4,
)  # fmt: skip

# The options of NISQA v2.0 as its public config/train_nisqa_cnn_sa_ap.yaml has them, with the model of the released file.
ARGS = {
    "model": "NISQA_DIM", "ms_sr": None, "ms_fmax": 20000, "ms_n_fft": 4096, "ms_hop_length": 0.01, "ms_win_length": 0.02,
    "ms_n_mels": 48, "ms_seg_length": 15, "ms_seg_hop_length": 4, "ms_max_segments": 1300, "cnn_model": "adapt",
    "cnn_c_out_1": 16, "cnn_c_out_2": 32, "cnn_c_out_3": 64, "cnn_kernel_size": (3, 3), "cnn_dropout": 0.2,
    "cnn_fc_out_h": None, "cnn_pool_1": [24, 7], "cnn_pool_2": [12, 5], "cnn_pool_3": [6, 3], "td": "self_att",
    "td_sa_d_model": 64, "td_sa_nhead": 1, "td_sa_pos_enc": False, "td_sa_num_layers": 2, "td_sa_h": 64,
    "td_sa_dropout": 0.1, "td_2": "skip", "pool": "att", "pool_att_h": 128, "pool_att_dropout": 0, "tr_epochs": 500,
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Nisqa:
    torch.manual_seed(0)
    return Nisqa(TINY).eval()


def some_segments(seed: int, count: int) -> torch.Tensor:
    """(1, count, mel bands, frames), in the range of decibels."""
    shape = (1, count, TINY.ms_n_mels, TINY.ms_seg_length)
    return -40 * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def released_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes in `model_state_dict`, from the constructors in NISQA_lib.py (NISQA_DIM, AdaptCNN, SelfAttention,
    PoolAttFF)."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels = [1, 16, 32, 64, 64, 64, 64]
    for i in range(1, 7):
        n = channels[i]
        shapes |= {f"cnn.model.conv{i}.weight": (n, channels[i - 1], 3, 3), f"cnn.model.conv{i}.bias": (n,)}
        shapes |= {f"cnn.model.bn{i}.{part}": (n,) for part in ("weight", "bias", "running_mean", "running_var")}
        shapes |= {f"cnn.model.bn{i}.num_batches_tracked": ()}
    p = "time_dependency.model"
    shapes |= {f"{p}.linear.weight": (64, 384), f"{p}.linear.bias": (64,), f"{p}.norm1.weight": (64,), f"{p}.norm1.bias": (64,)}
    for i in range(2):
        q = f"{p}.layers.{i}"
        shapes |= {f"{q}.self_attn.in_proj_weight": (192, 64), f"{q}.self_attn.in_proj_bias": (192,)}
        for part in ("self_attn.out_proj", "linear1", "linear2"):
            shapes |= {f"{q}.{part}.weight": (64, 64), f"{q}.{part}.bias": (64,)}
        for part in ("norm1", "norm2"):
            shapes |= {f"{q}.{part}.weight": (64,), f"{q}.{part}.bias": (64,)}
    for i in range(5):
        for part, n_out, n_in in (("linear1", 128, 64), ("linear2", 1, 128), ("linear3", 1, 64)):
            name = f"pool_layers.{i}.model.{part}"
            shapes |= {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}
    return shapes


def test_the_full_size_model_has_the_names_and_shapes_of_the_release():
    with torch.device("meta"):
        model = Nisqa(NisqaConfig())
    assert {k: tuple(v.shape) for k, v in model.state_dict().items()} == released_shapes()


def test_the_args_of_the_release_are_the_defaults():
    assert NisqaConfig.from_args(ARGS) == NisqaConfig()
    assert NisqaConfig.from_args(ARGS | {"cnn_kernel_size": 3}) == NisqaConfig()


@pytest.mark.parametrize(
    "change",
    [
        {"model": "NISQA"},
        {"model": "NISQA_DE"},
        {"cnn_model": "standard"},
        {"cnn_fc_out_h": 20},
        {"td": "lstm"},
        {"td_sa_pos_enc": True},
        {"pool": "avg"},
        {"pool_att_h": None},
        {"ms_sr": 16000},
        {"td_sa_num_layers": 10**9},
        {"ms_n_mels": "48"},
        {"ms_hop_length": -0.01},
        {"cnn_pool_1": [24]},
        {"ms_seg_length": 14},
        {"td_sa_nhead": 3},
    ],
    ids=str,
)
def test_other_nisqas_are_refused(change):
    with pytest.raises(UsageError, match="NISQA checkpoint"):
        NisqaConfig.from_args(ARGS | change)


@settings(max_examples=20)
@given(count=st.integers(1, 9), padding=st.integers(0, 5), seed=st.integers(0, 99))
def test_padding_and_batch_mates_change_nothing(model, count, padding, seed):
    clip = some_segments(seed, count)
    longer = some_segments(seed + 100, count + padding)
    batch = torch.cat([torch.cat([clip, torch.full_like(longer[:, count:], 7.0)], dim=1), longer])
    with torch.inference_mode():
        alone = model(clip, torch.tensor([count]))
        together = model(batch, torch.tensor([count, count + padding]))
    assert alone.shape == (1, len(DIMENSIONS))
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=0)


def test_the_order_of_the_segments_is_not_heard(model):
    """The transformer has no positions, so NISQA knows the order only within a segment."""
    clip, count = some_segments(1, 8), torch.tensor([8])
    with torch.inference_mode():
        torch.testing.assert_close(model(clip, count), model(clip.flip(1), count), atol=1e-5, rtol=0)
        assert not torch.allclose(model(clip, count), model(clip.flip(3), count), atol=1e-5)


def test_each_dimension_has_a_pool_of_its_own(model):
    with torch.inference_mode():
        scores = model(some_segments(2, 4), torch.tensor([4]))[0]
    assert len(set(scores.tolist())) == len(DIMENSIONS)
