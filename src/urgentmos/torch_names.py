"""The names that a torch file may use, and what stands for each: values and functions of ours, never an import.

Tensors, parameters, sizes, devices, dicts, sets, bytes, numbers and numpy arrays: what torch.save writes around weights.
Each function checks its arguments, since the file chooses them.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import torch

_DTYPES = (
    *("float16", "float32", "float64", "bfloat16", "complex64", "complex128"),
    *("uint8", "int8", "int16", "int32", "int64", "bool"),
)
_STORAGES = {
    "HalfStorage": "float16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "BFloat16Storage": "bfloat16",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "BoolStorage": "bool",
}
_NUMPY_DTYPE = re.compile(r"[<|=]?([biufc][0-9]{1,2}|[SU][0-9]{1,9})")


class Refused(Exception):
    """Why this file is not read; becomes a UsageError that names the file."""


@dataclass(frozen=True)
class Function:
    """A name of the file that may be called: with `make`, which is ours."""

    make: Callable[..., Any]


@dataclass(frozen=True)
class StorageType:
    """A class of torch that says how a tensor's numbers are written."""

    dtype: torch.dtype


# --- checks of what the file says


def expect(value: Any, *types: type) -> Any:
    """`value`, if its type is exactly one of `types`."""
    if type(value) not in types:
        raise ValueError(f"a {types[0].__name__} was expected, a {type(value).__name__} was found")
    return value


def count(value: Any) -> int:
    """`value`, if it is an int of 0 or more."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r:.40} is not a count")
    return value


def checked_key(value: Any) -> Any:
    """`value`, if it may be a key: a scalar or a flat tuple. (Hashing a tuple a million deep ends the interpreter.)"""
    for item in value if type(value) is tuple else (value,):
        if item is not None and not isinstance(item, str | bytes | int | float | complex):
            raise Refused(f"a dict has a key of type {type(item).__name__}")
    return value


# --- the table


def known_globals() -> dict[tuple[str, str], Any]:
    """(module, name) of the file -> our value. Built on first use, since it needs torch."""
    if not _KNOWN:
        import torch

        for name in _DTYPES:
            _KNOWN["torch", name] = getattr(torch, name)
        for name, dtype in _STORAGES.items():
            _KNOWN["torch", name] = StorageType(getattr(torch, dtype))
        for (modules, name), make in _MAKERS.items():
            for module in modules.split():
                _KNOWN[module, name] = Function(make)
    return _KNOWN


_KNOWN: dict[tuple[str, str], Any] = {}


def _tensor(flat: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False, *_hooks: Any) -> torch.Tensor:
    import torch

    if not isinstance(flat, torch.Tensor):
        raise ValueError("a tensor without numbers")
    size, stride, offset = tuple(map(count, size)), tuple(map(count, stride)), count(offset)
    n = 1
    for length in size:
        n *= length
    if len(size) != len(stride) or n > flat.numel():
        raise Refused(f"a tensor of shape {size} does not fit the {flat.numel()} numbers behind it")
    tensor = flat.as_strided(size, stride, offset)  # torch checks that it stays inside
    return tensor.requires_grad_() if requires_grad is True and tensor.is_floating_point() else tensor


def _parameter(tensor: Any, requires_grad: Any = True, *_hooks: Any) -> torch.nn.Parameter:
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise ValueError("a parameter without a tensor")
    return torch.nn.Parameter(tensor.detach(), requires_grad=requires_grad is True)


def _size(lengths: Any = ()) -> torch.Size:
    import torch

    return torch.Size(map(count, expect(lengths, tuple, list)))


def _device(kind: Any, index: Any = None) -> torch.device:
    import torch

    return torch.device(expect(kind, str)) if index is None else torch.device(expect(kind, str), count(index))


def _ordered_dict(pairs: Any = ()) -> OrderedDict[Any, Any]:
    return OrderedDict((checked_key(key), value) for key, value in expect(pairs, tuple, list))


def _set(items: Any = ()) -> set[Any]:
    return set(map(checked_key, expect(items, tuple, list)))


def _frozenset(items: Any = ()) -> frozenset[Any]:
    return frozenset(_set(items))


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How pickles of protocol 2, which torch writes, spell bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise Refused("it spells bytes in an unknown encoding")
    return bytes(expect(text, str), "latin1")


def _no_bytes() -> bytes:
    """How they spell b""; any argument is a TypeError."""
    return b""


def _bytearray(content: Any = b"") -> bytearray:
    return bytearray(expect(content, bytes))


def _complex(real: Any, imaginary: Any) -> complex:
    return complex(expect(real, float), expect(imaginary, float))


def _numpy_dtype(name: Any, *_align_copy: Any) -> Any:
    import numpy as np

    if not _NUMPY_DTYPE.fullmatch(expect(name, str)):
        raise Refused(f"it holds numpy arrays of {name!r:.40}")
    return np.dtype(name)


def _numpy_scalar(dtype: Any, content: Any) -> Any:
    import numpy as np

    if not isinstance(dtype, np.dtype) or len(expect(content, bytes)) != dtype.itemsize:
        raise ValueError("a numpy number of the wrong size")
    return np.frombuffer(content, dtype)[0]


def _numpy_empty(*_subtype_shape_code: Any) -> Any:
    """The placeholder that BUILD fills; whatever shape the file asks for here is not allocated."""
    import numpy as np

    return np.empty(0, np.int8)


def _numpy_class(*_: Any) -> NoReturn:
    raise Refused("it calls numpy.ndarray")


_NUMPY = "numpy.core.multiarray numpy._core.multiarray"
_BUILTINS = "__builtin__ builtins"
_MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
    (_BUILTINS, "set"): _set,
    (_BUILTINS, "frozenset"): _frozenset,
    (_BUILTINS, "bytes"): _no_bytes,
    (_BUILTINS, "bytearray"): _bytearray,
    (_BUILTINS, "complex"): _complex,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _numpy_dtype,
    ("numpy", "ndarray"): _numpy_class,
    (_NUMPY, "scalar"): _numpy_scalar,
    (_NUMPY, "_reconstruct"): _numpy_empty,
}
