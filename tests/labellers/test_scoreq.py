"""The SCOREQ labeller on a tiny ONNX graph with the interface of the authors' export."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.errors import MeasureError, UsageError
from urgentmos.labellers import Settings, Signals, scoreq

onnx = pytest.importorskip("onnx")


def write_graph(path: Path, outputs: int = 1) -> Path:
    """(B, T) -> (B, outputs): 3 + 10 * mean of the samples of the first 50 windows of 400 at hop 320."""
    from onnx import TensorProto, helper, numpy_helper

    one = np.float32(1)
    weights = {
        "windows": np.full((outputs, 1, 400), one / 40),
        "three": np.full((1,), 3 * one),
        "channel": np.array([1]),
        "time": np.array([2]),
    }
    nodes = [
        helper.make_node("Unsqueeze", ["audio", "channel"], ["a"]),
        helper.make_node("Conv", ["a", "windows"], ["b"], strides=[320]),
        helper.make_node("ReduceMean", ["b", "time"], ["c"], keepdims=0),
        helper.make_node("Add", ["c", "three"], ["mos"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["batch", "samples"])],
        [helper.make_tensor_value_info("mos", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def by_hand(wave: np.ndarray) -> float:
    padded = np.concatenate([wave, np.zeros(-len(wave) % 320)])
    frames = (len(padded) - 400) // 320 + 1
    return 3 + 10 * float(np.mean([padded[320 * n : 320 * n + 400].mean() for n in range(frames)]))


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory):
    file = write_graph(tmp_path_factory.mktemp("scoreq") / "tiny.onnx")
    return scoreq.load(Settings(weights={"scoreq": str(file)}))


@given(samples=st.integers(321, 5000), seed=st.integers(0, 9))
def test_the_whole_clip_goes_in_with_zeros_on_the_right(measure, samples: int, seed: int) -> None:
    wave = np.random.default_rng(seed).uniform(0, 1, samples).astype(np.float32)
    value = measure(Signals(wave, 16_000))["scoreq"]
    assert value == pytest.approx(by_hand(wave), abs=1e-4)
    assert value > 4  # not clamped at 5: the mean is near 8 unless the padding is a large part


@given(st.integers(0, 2000))
def test_padding_only_adds_zeros_up_to_a_multiple_of_320(samples: int) -> None:
    wave = np.arange(1, samples + 1, dtype=np.float32)
    out = scoreq.padded(wave)
    assert len(out) % 320 == 0
    assert 0 <= len(out) - samples < 320
    assert np.array_equal(out[:samples], wave)
    assert not out[samples:].any()


def test_other_rates_go_in_at_16_khz(measure, make_voice) -> None:
    signals = Signals(make_voice(0, 0.5, 48_000), 48_000)
    assert measure(signals) == measure(Signals(signals.at(16_000)[0], 16_000))


@pytest.mark.parametrize("samples", [0, 1, 320])
def test_a_clip_without_a_frame_has_no_value(measure, samples: int) -> None:
    with pytest.raises(MeasureError, match=r"shorter than the 0\.025 s"):
        measure(Signals(np.ones(samples, np.float32), 16_000))


def test_a_non_finite_clip_has_no_value(measure) -> None:
    with pytest.raises(MeasureError, match="finite"):
        measure(Signals(np.full(1000, np.nan, np.float32), 16_000))


def test_another_onnx_model_is_refused_at_once(tmp_path: Path) -> None:
    file = write_graph(tmp_path / "two.onnx", outputs=2)
    with pytest.raises(UsageError, match=r"gives 2 numbers and scoreq needs 1.*adapt_nr_telephone\.onnx"):
        scoreq.load(Settings(weights={"scoreq": str(file)}))


def test_a_model_of_another_input_is_refused_at_once(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "frames", 481]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "tiny", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match="is not the model that scoreq needs"):
        scoreq.load(Settings(weights={"scoreq": str(tmp_path / "other.onnx")}))
