"""Weights on a grid of eight bits: near what they were, found again however a graph turned them, stored without a change."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.judges.int8 import SMALLEST, levels, pack, quantised


def weights(seed: int, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-3, 2, (shape[0], *[1] * (len(shape) - 1)))
    return (scale * rng.standard_normal(shape)).astype(np.float32)


@given(st.integers(0, 2**31 - 1), st.sampled_from([(64, 64), (80, 16, 5), (48, 24, 3, 3)]))
@settings(max_examples=30)
def test_snapped_weights_are_within_half_a_level_and_stay_where_they_are(seed: int, shape: tuple[int, ...]) -> None:
    weight = weights(seed, *shape)
    weight[0] = 0
    near = quantised(weight)
    level = np.abs(weight).reshape(len(weight), -1).max(axis=1) / 127
    assert (np.abs(near - weight).reshape(len(weight), -1).max(axis=1) <= 0.501 * level).all()
    np.testing.assert_allclose(quantised(near), near, rtol=1e-6)


def test_small_tensors_and_vectors_stay_as_they_are() -> None:
    for shape in ((SMALLEST,), (63, 65)):
        weight = weights(0, *shape)
        assert np.array_equal(quantised(weight), weight)
        assert levels(weight) is None


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=20)
def test_the_grid_is_found_in_whatever_a_graph_makes_of_it(seed: int) -> None:
    matrix, kernel = quantised(weights(seed, 96, 64)), quantised(weights(seed, 48, 24, 3, 3))
    norm = np.random.default_rng(seed).uniform(0.1, 9, (48, 1, 1, 1)).astype(np.float32)  # a batch norm, folded in
    several = np.stack([matrix, quantised(weights(seed + 1, 96, 64))])
    for turned in (matrix, matrix.T, several, several.swapaxes(1, 2), kernel, kernel * norm):
        found = levels(turned)
        assert found is not None and found[0].dtype == np.int8
        np.testing.assert_allclose(found[0] * found[1], turned, rtol=1e-4, atol=1e-6 * np.abs(turned).max())
    assert levels(weights(seed, 96, 64)) is None


def test_a_packed_graph_is_smaller_and_says_the_same() -> None:
    onnx = pytest.importorskip("onnx")
    ort = pytest.importorskip("onnxruntime")
    weight, free = quantised(weights(3, 128, 64)).T, weights(4, 128, 64)
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])],
        "two",
        [helper.make_tensor_value_info("x", float32, [5, 64])],
        [helper.make_tensor_value_info("y", float32, [5, 64])],
        [numpy_helper.from_array(np.ascontiguousarray(weight), "w"), numpy_helper.from_array(free, "v")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)
    before, size = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0], model.ByteSize()
    assert pack(model) == weight.size
    onnx.checker.check_model(model)
    assert model.ByteSize() < size - 2.5 * weight.size
    np.testing.assert_allclose(ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0], before, rtol=1e-4)
    assert pack(model) == 0
