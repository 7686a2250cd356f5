"""The SIGMOS labeller: its features keep the clip whole, and each output gets its own name."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.errors import MeasureError, UsageError
from urgentmos.labellers import LABELLERS, Settings, Signals, sigmos

onnx = pytest.importorskip("onnx")

# In the order of the released model's outputs.
NAMES = ["sigmos_col", "sigmos_disc", "sigmos_loud", "sigmos_noise", "sigmos_reverb", "sigmos_sig", "sigmos_ovrl"]
MIX = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)


def write_graph(path: Path, outputs: int = 7) -> Path:
    """(1, 3, F, 481) -> (1, outputs): the means of the three planes, mixed by MIX."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["features", "axes"], ["means"], keepdims=0),
            helper.make_node("MatMul", ["means", "mix"], ["scores"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 3, "frames", 481])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([2, 3]), "axes"), numpy_helper.from_array(MIX[:, :outputs].copy(), "mix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory):
    file = write_graph(tmp_path_factory.mktemp("sigmos") / "tiny.onnx")
    return sigmos.load(Settings(weights={"sigmos": str(file)}))


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@given(st.integers(1, 4000))
def test_the_clip_can_be_rebuilt_from_its_features(samples: int) -> None:
    """Undo the compression, transform back, overlap and add: every sample is where it was, at its own level."""
    wave = noise(samples)
    features = sigmos.features(wave)
    frames = -(-samples // 480) + 1
    assert features.shape == (1, 3, frames, 481)
    assert features.dtype == np.float32
    magnitude, real, imaginary = features[0].astype(np.float64)
    spectrum = (real + 1j * imaginary) * magnitude ** (7 / 3)  # |X| ** 0.7, of a magnitude of |X| ** 0.3
    windows = np.fft.irfft(spectrum, 960) * np.sqrt(np.hanning(961)[:-1])
    rebuilt = np.zeros(480 * (frames + 1))
    for n, window in enumerate(windows):
        rebuilt[480 * n : 480 * n + 960] += window
    assert np.allclose(rebuilt[480 : 480 + samples], wave, atol=1e-4)
    assert np.allclose(rebuilt[480 + samples :], 0, atol=1e-4)


def test_a_bin_is_compressed_with_exponent_03_and_keeps_its_phase() -> None:
    wave = noise(4800)
    magnitude, real, imaginary = sigmos.features(wave)[0]
    spectrum = sigmos.stft(wave)
    assert np.allclose(magnitude, np.abs(spectrum) ** 0.3, rtol=1e-4)
    assert np.allclose(np.angle(real + 1j * imaginary), np.angle(spectrum), atol=1e-3)


def test_a_gain_of_ten_is_a_gain_of_two_in_every_feature() -> None:
    wave = noise(2000)
    assert np.allclose(sigmos.features(10 * wave), 10**0.3 * sigmos.features(wave), rtol=1e-4, atol=1e-5)


def test_silence_has_finite_features() -> None:
    features = sigmos.features(np.zeros(1000, np.float32))
    assert np.isfinite(features).all()
    assert np.allclose(features[0, 0], 1e-12**0.15)


def test_a_tone_lies_in_its_bin() -> None:
    tone = np.sin(2 * np.pi * 3000 * np.arange(48_000) / 48_000).astype(np.float32)
    assert (sigmos.features(tone)[0, 0, 2:-2].argmax(axis=1) == 3000 // 50).all()


def test_each_output_has_its_name(measure) -> None:
    wave = noise(9600)
    scores = sigmos.features(wave)[0].mean(axis=(1, 2)) @ MIX
    assert measure(Signals(wave, 48_000)) == {name: pytest.approx(s, abs=1e-4) for name, s in zip(NAMES, scores, strict=True)}


def test_the_names_are_those_of_the_table(measure) -> None:
    row = next(row for row in LABELLERS if row.name == "sigmos")
    assert set(measure(Signals(noise(9600), 48_000))) == set(row.metrics)


def test_other_rates_go_in_at_48_khz(measure, make_voice) -> None:
    signals = Signals(make_voice(0, 0.5), 16_000)
    assert measure(signals) == measure(Signals(signals.at(48_000)[0], 48_000))


def test_empty_and_non_finite_clips_have_no_value(measure) -> None:
    with pytest.raises(MeasureError, match="shorter than"):
        measure(Signals(np.zeros(0, np.float32), 48_000))
    with pytest.raises(MeasureError, match="finite"):
        measure(Signals(np.full(1000, np.nan, np.float32), 48_000))


def test_another_onnx_model_is_refused_at_once(tmp_path: Path) -> None:
    file = write_graph(tmp_path / "six.onnx", outputs=6)
    with pytest.raises(UsageError, match=r"gives 6 numbers and sigmos needs 7.*SIG-Challenge"):
        sigmos.load(Settings(weights={"sigmos": str(file)}))
