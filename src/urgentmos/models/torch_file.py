"""torch files from strangers, read as data: nothing in the file is imported, called or executed.

A pickle is a program for a small stack machine. This module is such a machine with only the instructions that make
data: numbers, texts, lists, dicts, tensors. A name in the file is looked up in the table of torch_names.py and never
imported, and the only functions that the machine can call are the few of that module. Everything else is refused with the
name of the file and the name of what it asked for.

The zip container is checked before anything is read (sizes, names, duplicates), and a tensor may only see the bytes
that the file really holds. Tensors come to the CPU from any device.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, Protocol

from urgentmos.common.untrusted import reason, shown
from urgentmos.errors import UsageError
from urgentmos.models.torch_names import (
    KEYED,
    MAX_ODD_KEYS,
    Function,
    Refused,
    StorageType,
    checked_key,
    checked_literal,
    count,
    counts,
    expect,
    known_globals,
)

if TYPE_CHECKING:
    import torch

Stubs = Callable[[str, str], "type | None"]

GIB = 1 << 30
MAX_PICKLE_BYTES = 8 << 20  # the program, not the tensors; real ones stay far below a megabyte
MAX_WORK = 64 << 20  # items that functions are given in all: a program can name one large list again and again
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first object of torch files before 1.6, as is the protocol number after it
LEGACY_PROTOCOL = 1001
ADVICE = "Get the file from its authors again, or convert it to safetensors on a machine where you trust it."


def refuse_all(module: str, name: str) -> type | None:
    """The default `stubs`: no foreign class is accepted."""
    return None


def load_torch_file(path: str | Path, *, stubs: Stubs = refuse_all, max_bytes: int = 8 * GIB) -> Any:
    """Read what `torch.save` wrote to `path`, with tensors on the CPU.

    Reads the zip format (torch 1.6 and later) and the format before it. Values are what torch.load
    returns for the same file, except that an expanded tensor (more elements than its storage) is refused here.

    stubs: called once for each unknown class `module.name` of the file. It returns an inert class to stand for it, or None
        to refuse. A stub is built without arguments and its saved state is set as plain attributes; `__setstate__` is
        never called.
    max_bytes: larger files are refused.

    Raises UsageError that names the file, and the refused name if there is one.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path} does not exist or is not a file. Check the path.")
    try:
        if path.stat().st_size > max_bytes:
            raise Refused(f"it has {path.stat().st_size} bytes, more than the limit of {max_bytes}")
        with path.open("rb") as file:
            start = file.read(4)
            file.seek(0)
            if start == b"PK\x03\x04":
                return _read_zip(file, path.stat().st_size, stubs)
            if start[:1] == b"\x80":
                return _read_legacy(file, path.stat().st_size, stubs)
        raise Refused("it is not a torch file (neither a zip archive nor a pickle)")
    except Refused as e:
        raise UsageError(f"{path} was not loaded: {reason(e)}. {ADVICE}") from None
    except (
        *(ArithmeticError, AttributeError, LookupError, MemoryError, NotImplementedError, OSError),
        *(RecursionError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile),
    ) as e:
        raise UsageError(f"{path} was not loaded: it is cut off or damaged ({reason(e)}). {ADVICE}") from e


def fill(module: torch.nn.Module, state: Mapping[str, Any], source: str | Path) -> None:
    """Put the tensors of `state` into `module`: same names, same shapes, none missing, none left over.

    The module may live on the meta device, so that building it neither allocates nor draws random numbers. Floating point
    tensors become float32. Raises UsageError that names `source` and the first differences.
    """
    import torch

    wanted = module.state_dict()
    filled = {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}
    wrong = [
        f"{k} is {tuple(filled[k].shape)} and should be {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in filled and filled[k].shape != v.shape
    ]
    wrong += [f"{k} is missing" for k in wanted if k not in filled]
    wrong += [f"{k} is unknown" for k in state if k not in wanted]
    if wrong:
        more = f" and {len(wrong) - 3} more differences" if len(wrong) > 3 else ""
        raise UsageError(f"{source} holds another model than the one expected: {'; '.join(wrong[:3])}{more}.")
    tensors = {k: v.detach().float() if v.is_floating_point() else v.detach() for k, v in filled.items()}
    module.load_state_dict(tensors, strict=True, assign=True)
    module.requires_grad_(False)


# --- containers ------------------------------------------------------------------------------------------------------


class _Storages(Protocol):
    def __call__(self, key: str, dtype: torch.dtype, n: int) -> torch.Tensor:
        """(n,) the numbers called `key`."""


def _read_zip(file: IO[bytes], size: int, stubs: Stubs) -> Any:
    import torch

    with zipfile.ZipFile(file) as archive:
        entries = _checked_entries(archive, size)
        roots = [name[: -len("data.pkl")] for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise Refused("it is a zip archive, but not one of torch (it holds no data.pkl)")
        root = roots[0]
        if f"{root}constants.pkl" in entries:
            raise Refused("it is a TorchScript program, not a set of weights")
        if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
            raise Refused("its numbers are big-endian")
        if entries[f"{root}data.pkl"].file_size > MAX_PICKLE_BYTES:
            raise Refused(f"its data.pkl is larger than {MAX_PICKLE_BYTES} bytes")

        read: dict[str, torch.Tensor] = {}

        def storage(key: str, dtype: torch.dtype, n: int) -> torch.Tensor:
            name = f"{root}data/{key}"
            if name not in entries or entries[name].file_size != n * dtype.itemsize:
                raise Refused(f"the numbers {shown(key, 40)} are missing or not {n} of {dtype}")
            if key not in read:
                read[key] = torch.zeros(n * dtype.itemsize, dtype=torch.uint8)
                with archive.open(name) as record:
                    _read_into(record, read[key])
            return read[key].view(dtype)

        with archive.open(f"{root}data.pkl") as program:
            return _Machine(storage, stubs).run(io.BytesIO(program.read()))


def _checked_entries(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Name -> entry, once nothing about the archive can surprise: torch stores its records plainly, so neither do they
    grow when read nor do they sum to more than the file."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = entry.filename
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise Refused(f"its zip entry {shown(name)} points outside the archive")
        if name in entries:
            raise Refused(f"its zip entry {shown(name)} is there twice")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.file_size != entry.compress_size:
            raise Refused(f"its zip entry {shown(name)} is compressed or encrypted, which torch never does")
        entries[name] = entry
    declared = sum(entry.file_size for entry in entries.values())
    if declared > size:
        raise Refused(f"its zip entries claim {declared} bytes, but the file has only {size}")
    return entries


def _read_into(stream: IO[bytes], raw: torch.Tensor) -> None:
    """Fill `raw` (n,) uint8 from `stream`; ValueError if the stream ends early."""
    import numpy as np

    view = raw.numpy()
    done = 0
    while done < len(view):
        piece = stream.read(min(len(view) - done, 1 << 24))
        if not piece:
            raise ValueError(f"{len(view) - done} bytes of numbers are missing at the end")
        view[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
        done += len(piece)


def _read_legacy(file: IO[bytes], size: int, stubs: Stubs) -> Any:
    """Five pickles (magic number, protocol, machine, the object, the names of its storages), then the storages."""
    import torch

    raw: dict[str, torch.Tensor] = {}
    claimed = 0

    def storage(key: str, dtype: torch.dtype, n: int) -> torch.Tensor:
        nonlocal claimed
        if key not in raw:
            claimed += n * dtype.itemsize
            if claimed > size:
                raise Refused(f"its tensors claim {claimed} bytes, but the file has only {size}")
            raw[key] = torch.zeros(n * dtype.itemsize, dtype=torch.uint8)
            widths[key] = dtype.itemsize
        if raw[key].numel() != n * dtype.itemsize:
            raise Refused(f"the numbers {shown(key, 40)} are claimed with two sizes")
        return raw[key].view(dtype)

    def next_pickle(storages: _Storages = _no_storage) -> Any:
        return _Machine(storages, stubs).run(file)

    widths: dict[str, int] = {}
    if next_pickle() != LEGACY_MAGIC or next_pickle() != LEGACY_PROTOCOL:
        raise Refused("it is a pickle, but not one of torch")
    if next_pickle().get("little_endian") is not True:
        raise Refused("its numbers are big-endian")
    value = next_pickle(storage)
    keys = next_pickle()
    if not isinstance(keys, list) or sorted(keys) != sorted(raw):
        raise Refused("its list of tensors is not the list of those it uses")
    for key in keys:
        if int.from_bytes(file.read(8), "little") * widths[key] != raw[key].numel():
            raise Refused(f"the numbers {shown(key, 40)} do not have the size that was announced")
        _read_into(file, raw[key])
    return value


def _no_storage(key: str, dtype: torch.dtype, n: int) -> NoReturn:
    raise Refused("it has tensors where none belong")


# --- the machine -----------------------------------------------------------------------------------------------------


_LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
    )
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}


class _Machine:
    """Runs one pickle. Only the methods `op_*` and the literals exist; an instruction without one is refused."""

    def __init__(self, storages: _Storages, stubs: Stubs) -> None:
        self.storages = storages
        self.stubs = stubs
        self.stub_classes: dict[tuple[str, str], type] = {}
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []  # stacks below the marks
        self.memo: dict[int, Any] = {}
        self.work = 0
        self.odd_keys = 0

    def run(self, stream: IO[bytes]) -> Any:
        """The value of the pickle that starts at the stream's position, which then is just after it."""
        start = stream.tell()
        for opcode, argument, position in pickletools.genops(stream):
            if (position or 0) - start > MAX_PICKLE_BYTES:
                raise Refused(f"its pickle is longer than {MAX_PICKLE_BYTES} bytes")
            self.step(opcode.name, argument)
        (value,) = self.stack
        return value

    def step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self.stack.append(checked_literal(argument))
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name not in ("PROTO", "FRAME", "STOP"):
            run = getattr(self, f"op_{name.lower()}", None)
            if run is None:
                raise Refused(f"it uses the pickle instruction {name}, which data does not need")
            run(argument)

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    # stack and memo

    def op_mark(self, _: None) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def op_pop(self, _: None) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.stack = self.marked.pop()

    def op_pop_mark(self, _: None) -> None:
        self.since_mark()

    def op_dup(self, _: None) -> None:
        self.stack.append(self.stack[-1])

    def op_put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def op_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def op_get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    op_binput = op_long_binput = op_put
    op_binget = op_long_binget = op_get

    # containers

    def op_tuple(self, _: None) -> None:
        items = self.since_mark()
        self.stack.append(tuple(items))

    def op_tuple1(self, _: None) -> None:
        self.stack[-1:] = [tuple(self.stack[-1:])]

    def op_tuple2(self, _: None) -> None:
        self.stack[-2:] = [tuple(self.stack[-2:])]

    def op_tuple3(self, _: None) -> None:
        self.stack[-3:] = [tuple(self.stack[-3:])]

    def op_list(self, _: None) -> None:
        items = self.since_mark()
        self.stack.append(items)

    def op_dict(self, _: None) -> None:
        items = self.since_mark()
        self.stack.append({})
        self.set_items(items)

    def op_frozenset(self, _: None) -> None:
        items = self.since_mark()
        self.stack.append(frozenset(map(self.key, items)))

    def op_append(self, _: None) -> None:
        item = self.stack.pop()
        expect(self.stack[-1], list).append(item)

    def op_appends(self, _: None) -> None:
        items = self.since_mark()
        expect(self.stack[-1], list).extend(items)

    def op_additems(self, _: None) -> None:
        items = self.since_mark()
        expect(self.stack[-1], set).update(map(self.key, items))

    def op_setitem(self, _: None) -> None:
        pair = self.stack[-2:]
        del self.stack[-2:]
        self.set_items(pair)

    def op_setitems(self, _: None) -> None:
        items = self.since_mark()
        self.set_items(items)

    def set_items(self, items: list[Any]) -> None:
        target = expect(self.stack[-1], dict, OrderedDict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[self.key(key)] = value

    def key(self, value: Any) -> Any:
        """`value`, if it may be a key and there are not too many that are no text."""
        self.odd_keys += type(value) is not str
        if self.odd_keys > MAX_ODD_KEYS:
            raise Refused(f"it has more than {MAX_ODD_KEYS} keys that are no text")
        return checked_key(value)

    # names, calls, state

    def op_global(self, name: str) -> None:
        self.push_global(*name.split(" ", 1))

    def op_stack_global(self, _: None) -> None:
        module, name = self.stack[-2:]
        del self.stack[-2:]
        self.push_global(expect(module, str), expect(name, str))

    def push_global(self, module: str, name: str) -> None:
        function = known_globals().get((module, name))
        if function is None:
            function = Function(self.stub_class(module, name))
        self.stack.append(function)

    def stub_class(self, module: str, name: str) -> type:
        if (module, name) not in self.stub_classes:
            stub = self.stubs(module, name)
            if stub is None:
                raise Refused(f"it asks for {module:.80}.{name:.80}, which is not plain data")
            self.stub_classes[module, name] = stub
        return self.stub_classes[module, name]

    def op_reduce(self, _: None) -> None:
        arguments = expect(self.stack.pop(), tuple)
        function = self.stack.pop()
        if not isinstance(function, Function):
            raise Refused(f"it calls something that is not a function ({type(function).__name__})")
        if isinstance(function.make, type) and arguments:
            raise Refused(f"it builds {function.make.__name__} with arguments")
        self.charge(*arguments)
        if function.make in KEYED:
            for items in arguments:
                self.odd_keys += sum(type(item) is not str for item in expect(items, list, tuple))
            self.key("")
        self.stack.append(function.make(*arguments))

    def charge(self, *arguments: Any) -> None:
        """Refused once functions have been given more than MAX_WORK items, each as often as it was given."""
        self.work += 1 + len(arguments) + sum(len(x) for x in arguments if isinstance(x, str | bytes | list | tuple | dict))
        if self.work > MAX_WORK:
            raise Refused(f"its pickle copies more than {MAX_WORK} items around")

    op_newobj = op_reduce  # data needs no `__new__` other than that of a stub, without arguments

    def op_build(self, _: None) -> None:
        state = self.stack.pop()
        self.charge(state, *(state if type(state) is tuple else ()))
        _restore(self.stack[-1], state, tuple(self.stub_classes.values()))

    def op_binpersid(self, _: None) -> None:
        """('storage', type, key, device, number of elements[, None]) -> the numbers."""
        kind, storage_type, key, _device, n, *view = expect(self.stack.pop(), tuple)
        if kind != "storage" or not isinstance(storage_type, StorageType) or any(v is not None for v in view):
            raise Refused(f"it refers to outside data of an unknown kind ({shown(kind, 40)})")
        self.stack.append(self.storages(expect(key, str), storage_type.dtype, count(n)))


def _restore(value: Any, state: Any, stub_classes: tuple[type, ...]) -> None:
    """The action of BUILD by the type of `value`: never a method of a foreign class."""
    import numpy as np

    if stub_classes and type(value) in stub_classes:
        for name, item in expect(state, dict).items():
            vars(value)[expect(name, str)] = item
    elif type(value) is OrderedDict:
        # torch keeps the versions of a state dict's modules here; nothing else has a meaning.
        if "_metadata" in expect(state, dict):
            value._metadata = state["_metadata"]  # type: ignore[attr-defined]
    elif isinstance(value, np.dtype):
        if expect(state, tuple)[1] not in ("<", "|", "="):
            raise Refused("its numpy arrays are big-endian")
    elif type(value) is np.ndarray:
        _version, shape, dtype, by_column, content = expect(state, tuple)
        shape = counts(expect(shape, tuple))
        n = int(np.prod([1, *shape], dtype=object))
        if not isinstance(dtype, np.dtype) or len(expect(content, bytes)) != n * dtype.itemsize:
            raise Refused("a numpy array does not have the size that it claims")
        # numpy's own method, with checked arguments.
        value.__setstate__((1, shape, dtype, bool(by_column), content))  # type: ignore[arg-type]
    else:
        raise Refused(f"it sets the state of a {type(value).__name__}")
