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

from urgentmos.common.untrusted import shown

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
MAX_DIMENSIONS = 64
MAX_BITS = 1024  # of an integer; a random generator's state has 128
MAX_KEY_ITEMS = 16
MAX_ODD_KEYS = 10_000  # that are no text: their hashes can be chosen, and a dict of equal ones takes for ever


class Refused(Exception):
    """Why this file is not read; becomes a UsageError that names the file."""


@dataclass(frozen=True)
class Function:
    """A name of the file that may be called: with `make`, which is ours."""

    make: Callable[..., Any]


@dataclass(frozen=True)
class StorageType:
    """A class of torch that defines how a tensor's numbers are written."""

    dtype: torch.dtype


# --- checks of the file's values


def expect(value: Any, *types: type) -> Any:
    """`value`, if its type is exactly one of `types`."""
    if type(value) not in types:
        raise ValueError(f"a {types[0].__name__} was expected, a {type(value).__name__} was found")
    return value


def count(value: Any) -> int:
    """`value`, if it is an int from 0 to 2^63 - 1: products of larger ones take for ever."""
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"{shown(value, 40)} is not a count")
    return value


def counts(values: Any) -> tuple[int, ...]:
    """`values` as a shape: at most MAX_DIMENSIONS counts."""
    if len(values) > MAX_DIMENSIONS:
        raise ValueError(f"a shape of {len(values)} dimensions")
    return tuple(map(count, values))


def checked_literal(value: Any) -> Any:
    """`value`, unless it is an integer of a size that no data has."""
    if type(value) is int and value.bit_length() > MAX_BITS:
        raise Refused(f"it holds {shown(value)}, which data does not need")
    return value


def checked_key(value: Any) -> Any:
    """`value`, if it may be a key: a scalar or a short flat tuple. (Hashing a tuple a million deep ends the interpreter.)"""
    flat = value if type(value) is tuple else (value,)
    if len(flat) > MAX_KEY_ITEMS:
        raise Refused(f"a dict has a key of {len(flat)} items")
    for item in flat:
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
    size, stride, offset = counts(expect(size, tuple, list, torch.Size)), counts(expect(stride, tuple, list)), count(offset)
    n = 1
    for length in size:
        n *= length
    if len(size) != len(stride) or n > flat.numel():
        raise Refused(f"a tensor of shape {shown(size)} does not fit the {flat.numel()} numbers behind it")
    tensor = flat.as_strided(size, stride, offset)  # torch checks that it stays inside
    return tensor.requires_grad_() if requires_grad is True and tensor.is_floating_point() else tensor


def _parameter(tensor: Any, requires_grad: Any = True, *_hooks: Any) -> torch.nn.Parameter:
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise ValueError("a parameter without a tensor")
    return torch.nn.Parameter(tensor.detach(), requires_grad=requires_grad is True)


def _size(lengths: Any = ()) -> torch.Size:
    import torch

    return torch.Size(counts(expect(lengths, tuple, list)))


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
        raise Refused(f"it holds numpy arrays of {shown(name, 40)}")
    return np.dtype(name)


def _numpy_scalar(dtype: Any, content: Any) -> Any:
    import numpy as np

    if not isinstance(dtype, np.dtype) or len(expect(content, bytes)) != dtype.itemsize:
        raise ValueError("a numpy number of the wrong size")
    return np.frombuffer(content, dtype)[0]


def _numpy_empty(*_subtype_shape_code: Any) -> Any:
    """The placeholder that BUILD fills; the shape in the file is not allocated."""
    import numpy as np

    return np.empty(0, np.int8)


def _numpy_class(*_: Any) -> NoReturn:
    raise Refused("it calls numpy.ndarray")


KEYED = (_ordered_dict, _set, _frozenset)  # functions that make keys of the items that they are given
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
