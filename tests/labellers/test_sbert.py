"""SpeechBERTScore on a tiny random HuBERT."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from urgentmos.errors import MeasureError, UsageError  # noqa: E402
from urgentmos.labellers import Settings, Signals, sbert  # noqa: E402


def tiny_hubert(layers: int = 10, **more: object):
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "conv_dim": (16,) * 7}
    config = transformers.HubertConfig(
        **sizes, num_hidden_layers=layers, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4, **more
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.HubertModel(config).eval()
        for parameter in model.parameters():  # the usual start is so flat that all frames look alike
            parameter.data += 0.1 * torch.randn(parameter.shape)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hubert")
    tiny_hubert().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def measure(folder: Path):
    return sbert.load(Settings(weights={"sbert": str(folder)}))


def by_hand(reference: np.ndarray, wave: np.ndarray) -> float:
    """The definition, with loops, from the whole model's 8th layer."""
    model = tiny_hubert()
    with torch.inference_mode():
        states = [
            model(torch.tensor(x)[None], output_hidden_states=True).hidden_states[8][0].numpy() for x in (reference, wave)
        ]
    ref, gen = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in states)
    return float(np.mean([max(float(g @ r) for r in ref) for g in gen]))


def test_the_value_is_the_mean_best_cosine_of_the_clips_frames(measure, make_voice, add_noise) -> None:
    reference = make_voice(0, 0.4)
    wave = add_noise(make_voice(1, 0.4), 10)
    value = measure(Signals(wave, 16_000, reference))["sbert"]
    assert value == pytest.approx(by_hand(reference, wave), abs=1e-5)
    assert value != pytest.approx(by_hand(wave, reference), abs=1e-5)  # precision, not recall


def test_a_clip_that_is_its_reference_scores_one_and_noise_lowers_it(measure, make_voice, add_noise) -> None:
    clean = make_voice(0, 0.5)
    values = [measure(Signals(x, 16_000, clean))["sbert"] for x in (clean, add_noise(clean, 20), add_noise(clean, -10))]
    assert values[0] == pytest.approx(1, abs=1e-6)
    assert values[0] <= 1
    assert values[0] > values[1] > values[2] >= -1


def test_remembered_references_change_no_value(measure, folder: Path, make_voice, add_noise) -> None:
    references = [make_voice(seed, 0.3) for seed in range(3)]
    clips = [Signals(add_noise(x, snr), 16_000, x) for snr in (20, 0) for x in references]
    values = [measure(clip) for clip in clips]
    assert values == [sbert.load(Settings(weights={"sbert": str(folder)}))(clip) for clip in clips]
    assert len({value["sbert"] for value in values}) == len(clips)


def test_precision_does_not_depend_on_the_order_of_reference_frames_nor_on_chunks() -> None:
    generator = torch.Generator().manual_seed(0)
    reference, clip = torch.randn(7, 4, generator=generator), torch.randn(2 * sbert.ROWS + 5, 4, generator=generator)
    whole = sbert.precision(reference, clip)
    parts = [sbert.precision(reference, part) * len(part) for part in (clip[:100], clip[100:])]
    assert whole == pytest.approx(sum(parts) / len(clip), abs=1e-6)
    assert whole == pytest.approx(sbert.precision(reference.flip(0) * 3, clip), abs=1e-6)


def test_the_input_is_the_16_khz_waveform_at_its_own_level(measure, make_voice, add_noise) -> None:
    clean = make_voice(0, 0.4, 48_000)
    noisy = add_noise(clean, 5)
    at_48k = Signals(noisy, 48_000, clean)
    wave, reference = at_48k.at(16_000)
    assert reference is not None
    assert measure(at_48k) == measure(Signals(wave, 16_000, reference))


def test_too_short_and_missing_reference_signals_are_said(measure, make_voice) -> None:
    short = make_voice(0, 1.0)[8000:8399]
    with pytest.raises(MeasureError, match=r"shorter than the 0\.025 s"):
        measure(Signals(short, 16_000, short))
    with pytest.raises(MeasureError, match="no reference signal"):
        measure(Signals(short, 16_000))
    assert np.isfinite(measure(Signals(make_voice(0, 1.0)[8000:8400], 16_000, make_voice(0, 1.0)[8000:8400]))["sbert"])


def test_frames_that_are_zero_have_no_cosine() -> None:
    assert np.isnan(sbert.precision(torch.ones(3, 2), torch.tensor([[1.0, 0.0], [0.0, 0.0]])))


def test_a_non_finite_clip_has_no_value(measure, make_voice) -> None:
    clean = make_voice(0, 0.3)
    broken = clean.copy()
    broken[100] = np.nan
    with pytest.raises(MeasureError, match="not a finite number"):
        measure(Signals(broken, 16_000, clean))


def test_a_model_without_an_eighth_layer_is_refused(tmp_path: Path) -> None:
    tiny_hubert(layers=7).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="has 7 layers and the metric needs the output of layer 8"):
        sbert.load(Settings(weights={"sbert": str(tmp_path)}))


def test_a_checkpoint_with_holes_is_refused_rather_than_filled_with_noise(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    gone = "encoder.layers.3.attention.q_proj.weight"
    save_file({name: x for name, x in state.items() if name != gone}, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(UsageError, match=r"lacks 1 of the weights of HubertModel, such as encoder\.layers\.3"):
        sbert.load(Settings(weights={"sbert": str(tmp_path)}))


def test_a_damaged_folder_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(UsageError, match=r"cannot load .*Pass --weights sbert="):
        sbert.load(Settings(weights={"sbert": str(tmp_path)}))


def test_loading_and_measuring_leave_no_trace(folder: Path, make_voice, capfd: pytest.CaptureFixture[str]) -> None:
    before = torch.get_rng_state(), torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    clean = make_voice(0, 0.3)
    sbert.load(Settings(weights={"sbert": str(folder)}))(Signals(clean, 16_000, clean))
    after = torch.get_rng_state(), torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert transformers.utils.logging.is_progress_bar_enabled()
    assert capfd.readouterr() == ("", "")


def test_half_precision_weights_are_used_in_single_precision(folder: Path, tmp_path: Path) -> None:
    tiny_hubert().half().save_pretrained(tmp_path)
    from urgentmos.labellers import hub

    model = hub.pretrained(transformers.HubertModel, "sbert", tmp_path, "cpu")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training
