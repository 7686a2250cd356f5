"""Weights of eight bits: put on a grid of 255 levels once, and then stored so without changing a number.

Only storage is small. When a file is opened, its runtime turns the integers into the very float32 weights that the network has,
and computes with those: torch and onnxruntime agree as before, and nothing about a clip is rounded.
"""

from typing import Any

import numpy as np

LEVELS = 127  # on either side of 0
SMALLEST = 4096  # numbers in a tensor; smaller ones stay as they are
ON_GRID = 1e-3  # of a level: what folding a batch norm into a convolution may have rounded
# Axes of a stored tensor over which one scale holds: those that a product sums over.
SUMMED: dict[int, tuple[tuple[int, ...], ...]] = {2: ((0,), (1,)), 3: ((1,), (2,)), 4: ((1, 2, 3),)}


def _scale(weight: np.ndarray, summed: tuple[int, ...]) -> np.ndarray:
    """The value of one level, with `summed` axes kept as 1; 1 where all is 0."""
    largest = np.abs(weight).max(axis=summed, keepdims=True)
    return np.asarray(np.where(largest > 0, largest, LEVELS) / LEVELS, dtype=np.float32)


def quantised(weight: np.ndarray) -> np.ndarray:
    """(out, ...) float32 -> the nearest weights of eight bits, with one scale per output; small ones unchanged."""
    if weight.ndim < 2 or weight.size < SMALLEST:
        return weight
    scale = _scale(weight, tuple(range(1, weight.ndim)))
    return np.asarray(np.round(weight / scale) * scale, dtype=np.float32)


def levels(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(int8, scales) whose product is `weight`, whichever axes a graph has turned it to; None if it is on no such grid."""
    if weight.dtype != np.float32 or weight.size < SMALLEST:
        return None
    for summed in SUMMED.get(weight.ndim, ()):
        scale = _scale(weight, summed)
        counted = weight / scale
        if np.abs(counted - np.round(counted)).max() <= ON_GRID:
            return np.round(counted).astype(np.int8), scale
    return None


def pack(model: Any) -> int:
    """Store the weights of an ONNX model as int8 where that changes nothing; how many numbers that were. In place.

    Runtimes fold the cast and the product that turn them back when they open the file.
    """
    from onnx import TensorProto, helper, numpy_helper

    kept, nodes, packed = [], [], 0
    for tensor in model.graph.initializer:
        grid = levels(numpy_helper.to_array(tensor))
        if grid is None:
            kept.append(tensor)
            continue
        whole, name = f"{tensor.name}.int8", tensor.name
        kept += [numpy_helper.from_array(grid[0], whole), numpy_helper.from_array(grid[1], f"{name}.scale")]
        nodes.append(helper.make_node("Cast", [whole], [f"{name}.cast"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{name}.cast", f"{name}.scale"], [name]))
        packed += grid[0].size
    nodes += model.graph.node
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    return packed
