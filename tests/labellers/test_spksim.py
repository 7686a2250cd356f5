"""spksim with a tiny RawNet3: the loading of what ESPnet writes, and what a speaker similarity must do."""

import os

import numpy as np
import pytest
import torch
import yaml

from urgentmos.errors import MeasureError, UsageError
from urgentmos.labellers import Settings, Signals, labeller_of
from urgentmos.labellers.spksim import find_files, load_rawnet3
from urgentmos.nets.rawnet3 import RawNet3, RawNet3Config

TINY = {
    "frontend": "asteroid_frontend",
    "frontend_conf": {"sinc_filters": 16, "sinc_kernel_size": 31},
    "encoder": "rawnet3",
    "encoder_conf": {"model_scale": 4, "ndim": 16, "output_size": 24},
    "pooling": "chn_attn_stat",
    "pooling_conf": {"hidden_size": 8},
    "projector": "rawnet3",
    "projector_conf": {"output_size": 6},
}


def tiny_state() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = RawNet3(RawNet3Config.from_espnet(TINY)).state_dict()
        # The training classifier and the mean of a trained batch norm: without the latter all voices look alike.
        return {**state, "projector.fc.weight": torch.randn(6, 48), "loss.weight": torch.ones(30, 6)}


@pytest.fixture
def checkpoint(tmp_path):
    """A folder like a copy of the hub repository; its path."""
    folder = tmp_path / "exp" / "spk train"
    folder.mkdir(parents=True)
    torch.save(tiny_state(), folder / "40epoch.pth")
    (folder / "config.yaml").write_text(yaml.safe_dump(TINY))
    meta = {"files": {"model_file": "exp/spk train/40epoch.pth"}, "yaml_files": {"train_config": "exp/spk train/config.yaml"}}
    (tmp_path / "meta.yaml").write_text(yaml.safe_dump(meta))
    return tmp_path


@pytest.fixture
def measure(checkpoint):
    return labeller_of("spksim").load(Settings(weights={"spksim": str(checkpoint)}))


def test_a_clip_is_its_own_speaker(measure, make_voice):
    clip = make_voice(0, 1.0)
    assert measure(Signals(clip, 16_000, clip.copy())) == {"spksim": pytest.approx(1.0, abs=1e-6)}


def test_the_similarity_is_a_symmetric_cosine(measure, make_voice):
    a, b = make_voice(0, 1.0), np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    there, back = measure(Signals(a, 16_000, b))["spksim"], measure(Signals(b, 16_000, a))["spksim"]
    assert there == pytest.approx(back, abs=1e-6)
    assert -1 <= there < 0.9999


def test_noise_makes_the_clip_less_similar(measure, make_voice, add_noise):
    clean = make_voice(1, 1.0)
    little, much = (measure(Signals(add_noise(clean, snr), 16_000, clean))["spksim"] for snr in (40, 0))
    assert much < little <= 1


def test_a_score_does_not_depend_on_earlier_clips(measure, make_voice, add_noise):
    clean = make_voice(2, 0.7)
    signals = Signals(add_noise(clean, 5), 16_000, clean)
    first = measure(signals)
    measure(Signals(make_voice(3, 1.3), 16_000, make_voice(4, 1.3)))
    assert measure(signals) == first


def test_other_rates_are_resampled(measure, make_voice):
    wave, reference = make_voice(5, 1.0, rate=48_000), make_voice(6, 1.0, rate=48_000)
    at_48k = Signals(wave, 48_000, reference)
    wave_16k, reference_16k = at_48k.at(16_000)
    assert measure(at_48k)["spksim"] == pytest.approx(measure(Signals(wave_16k, 16_000, reference_16k))["spksim"], abs=1e-6)


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.05])
def test_too_short_a_clip_has_a_reason(measure, make_voice, seconds):
    clip = 1 + make_voice(0, seconds)
    with pytest.raises(MeasureError, match="silent" if seconds == 0 else "shorter"):
        measure(Signals(clip, 16_000, clip))


def test_no_reference_signal_has_a_reason(measure, make_voice):
    with pytest.raises(MeasureError, match="reference"):
        measure(Signals(make_voice(0, 1.0), 16_000))


def test_a_file_a_folder_and_the_repository_are_the_same_model(checkpoint):
    folder = checkpoint / "exp" / "spk train"
    expected = folder / "40epoch.pth", folder / "config.yaml"
    assert find_files(checkpoint) == find_files(folder) == find_files(folder / "40epoch.pth") == expected
    (checkpoint / "meta.yaml").unlink()
    assert find_files(checkpoint) == expected


def test_several_checkpoints_are_not_guessed_among(checkpoint):
    (checkpoint / "meta.yaml").unlink()
    torch.save({}, checkpoint / "39epoch.pth")
    with pytest.raises(UsageError, match=r"39epoch\.pth, 40epoch\.pth"):
        find_files(checkpoint)


def test_a_meta_file_does_not_lead_out_of_the_folder(checkpoint, tmp_path):
    for outside in ("../other.pth", "/tmp/other.pth"):
        (checkpoint / "meta.yaml").write_text(yaml.safe_dump({"files": {"model_file": outside}}))
        assert find_files(checkpoint)[0].name == "40epoch.pth"


def test_without_a_config_the_sizes_are_those_of_the_release(checkpoint):
    weights, _ = find_files(checkpoint)
    with pytest.raises(UsageError, match=r"40epoch\.pth holds another model.*should be \(128, 1\)"):
        load_rawnet3(weights, None)


def test_another_architecture_is_refused(checkpoint):
    weights, config = find_files(checkpoint)
    config.write_text(yaml.safe_dump(TINY | {"encoder": "ecapa_tdnn"}))
    with pytest.raises(UsageError, match=r"config\.yaml: .*encoder"):
        load_rawnet3(weights, config)


def test_a_config_runs_no_code(checkpoint, tmp_path):
    weights, config = find_files(checkpoint)
    marker = tmp_path / "marker"
    config.write_text(f"encoder: !!python/object/apply:os.system ['touch {marker}']\n")
    with pytest.raises(UsageError, match="as YAML"):
        load_rawnet3(weights, config)
    assert not marker.exists()


def test_weights_run_no_code(checkpoint, tmp_path):
    marker = tmp_path / "marker"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    weights, config = find_files(checkpoint)
    torch.save({**tiny_state(), "loss.weight": Evil()}, weights)
    with pytest.raises(UsageError, match=r"40epoch\.pth.*system"):
        load_rawnet3(weights, config)
    assert not marker.exists()


def test_without_weights_it_says_how_to_get_them():
    with pytest.raises(UsageError, match="--weights spksim="):
        labeller_of("spksim").load(Settings())


def test_loading_and_measuring_leave_no_trace(checkpoint, make_voice):
    clip = make_voice(0, 0.5)
    before = torch.get_rng_state()
    labeller_of("spksim").load(Settings(weights={"spksim": str(checkpoint)}))(Signals(clip, 16_000, clip))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()
