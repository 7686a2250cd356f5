"""Files from strangers: what is data comes through unchanged, what is not is refused, and nothing ever runs."""

import builtins
import io
import os
import pickle
import struct
import subprocess
import zipfile
from collections import OrderedDict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from urgentmos.errors import UsageError
from urgentmos.models.torch_file import fill, load_torch_file

FORMATS = {"zip": True, "legacy": False}
NO_RESET = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=FORMATS)
def save(request, tmp_path):
    """save(value) -> the path of a torch file that holds it, in either format."""

    def write(value) -> Path:
        path = tmp_path / "file.pt"
        torch.save(value, path, _use_new_zipfile_serialization=FORMATS[request.param])
        return path

    return write


def archive(path: Path, program: bytes, *, compression=zipfile.ZIP_STORED, **records: bytes) -> Path:
    """A torch-like zip archive around the pickle `program`; `records` are its storages."""
    with zipfile.ZipFile(path, "w", compression) as z:
        z.writestr("archive/data.pkl", program)
        z.writestr("archive/byteorder", "little")
        for key, content in records.items():
            z.writestr(f"archive/data/{key.lstrip('_')}", content)
    return path


def same(a, b) -> bool:
    """Equal in value and in type, all the way down."""
    if isinstance(a, torch.Tensor):
        return type(a) is type(b) and a.dtype == b.dtype and a.stride() == b.stride() and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


# --- data comes through ----------------------------------------------------------------------------------------------

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8, torch.uint8, torch.complex64]


@st.composite
def tensors(draw):
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    tensor = torch.arange(int(np.prod([1, *shape])), dtype=torch.int64).reshape(shape).to(draw(st.sampled_from(DTYPES)))
    return tensor.mT if tensor.ndim >= 2 and draw(st.booleans()) else tensor


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5))
keys = st.one_of(st.text(max_size=5), st.integers(), st.tuples(st.text(max_size=2), st.integers()))
values = st.recursive(
    scalars | tensors(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(keys, inner, max_size=3),
        st.dictionaries(keys, inner, max_size=2).map(OrderedDict),
        st.sets(st.integers() | st.text(max_size=3), max_size=3),
    ),
    max_leaves=8,
)


@NO_RESET
@given(value=values, zipped=st.booleans())
def test_data_is_what_torch_itself_loads(tmp_path, value, zipped):
    path = tmp_path / "file.pt"
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    assert same(load_torch_file(path), torch.load(path, weights_only=False))


@pytest.mark.parametrize(
    "value",
    [
        torch.nn.Parameter(torch.ones(2)),
        torch.float32,
        torch.Size([1, 2]),
        torch.device("cuda", 1),
        np.float64(2.5),
        np.arange(6.0).reshape(2, 3),
        np.arange(6).reshape(2, 3).T,
        np.array(["a", "bc"]),
        bytearray(b"ab"),
        1j,
        frozenset({1}),
        torch.zeros(0),
        2**90,
    ],
    ids=repr,
)
def test_the_odds_and_ends_of_checkpoints(save, value):
    loaded = load_torch_file(save({"value": value}))["value"]
    assert same(value, loaded)


def test_a_state_dict_with_its_metadata(save):
    state = torch.nn.BatchNorm1d(3).state_dict()
    loaded = load_torch_file(save(state))
    assert same(state, loaded)
    assert loaded._metadata == state._metadata


def test_tied_tensors_stay_tied(save):
    base = torch.arange(6.0)
    loaded = load_torch_file(save({"a": base, "b": base[2:4]}))
    loaded["a"][3] = 99
    assert loaded["b"][1] == 99


def test_every_pickle_protocol(tmp_path):
    value = {"a": [1, (2.5, "x")], "b": {3}, "c": b"\x00\xff", "d": bytearray(b"z")}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        if protocol < 2 or protocol == 5:
            continue  # torch writes 2; 5 has an instruction for buffers that data does not need
        path = archive(tmp_path / "file.pt", pickle.dumps(value, protocol=protocol))
        assert load_torch_file(path) == value


def test_the_released_formats(shared):
    """One file of each family that the papers' authors released, as torch itself reads it."""
    for name in ("urgentmos_f1c1m5", "universa"):
        path = shared / "parity" / name / "model.pt"
        assert same(load_torch_file(path), torch.load(path, map_location="cpu", weights_only=True))


# --- stubs -----------------------------------------------------------------------------------------------------------


class Config:
    """Stands in a file for the plain class of somebody's training script."""


class Inert:
    """What we put in its place."""


class WithSetstate:
    """A class whose `__setstate__` leaves a trace."""

    trace: Path | None = None

    def __getstate__(self):
        return {"a": 1}

    def __setstate__(self, state):
        assert self.trace is not None
        self.trace.write_text("ran")


def config_stub(module: str, name: str) -> type | None:
    return Inert if name == "Config" else None


def test_a_stub_takes_the_attributes_as_data(save):
    config = Config()
    config.encoder, config.delta, config.list = "mel", 0.3, [1, 2]
    path = save({"cfg": config, "w": torch.ones(2)})
    with pytest.raises(UsageError, match=r"Config, which is not plain data"):
        load_torch_file(path)
    loaded = load_torch_file(path, stubs=config_stub)
    assert type(loaded["cfg"]) is Inert
    assert vars(loaded["cfg"]) == {"encoder": "mel", "delta": 0.3, "list": [1, 2]}


def test_setstate_is_never_called(save, tmp_path, monkeypatch):
    monkeypatch.setattr(WithSetstate, "trace", tmp_path / "trace")
    path = save([WithSetstate()])
    with pytest.raises(UsageError, match="WithSetstate"):
        load_torch_file(path)
    (loaded,) = load_torch_file(path, stubs=lambda module, name: Inert)
    assert vars(loaded) == {"a": 1}
    (loaded,) = load_torch_file(path, stubs=lambda module, name: WithSetstate)
    assert vars(loaded) == {"a": 1}
    assert not (tmp_path / "trace").exists()


def test_a_stub_is_never_given_arguments(save):
    given = []

    class Greedy:
        def __init__(self, *arguments):
            given.extend(arguments)

    with pytest.raises(UsageError, match="with arguments"):
        load_torch_file(save(Call(Config, "x")), stubs=lambda module, name: Greedy)
    assert given == []


def test_stubs_are_asked_only_for_unknown_names(save):
    asked = []

    def remember(module: str, name: str) -> None:
        asked.append(f"{module}.{name}")

    load_torch_file(save({"w": torch.ones(2), "s": torch.Size([1])}), stubs=remember)
    assert asked == []


# --- hostile files ---------------------------------------------------------------------------------------------------


class Call:
    """Pickles as the call `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def attacks(marker: Path) -> dict[str, object]:
    """Objects whose unpickling would create `marker`."""
    touch, python = f"touch {marker}", f"open({str(marker)!r}, 'w')"
    return {
        "os.system": Call(os.system, touch),
        "subprocess.Popen": Call(subprocess.Popen, touch, -1, None, None, None, None, None, True, True),
        "builtins.eval": Call(builtins.eval, python),
        "builtins.exec": Call(builtins.exec, python),
        "builtins.open": Call(builtins.open, str(marker), "w"),
        "torch.hub.load": Call(torch.hub.load, str(marker.parent), "model", "local"),
        "torch.load": Call(torch.load, str(marker)),
        "builtins.getattr": Call(builtins.getattr, Call(builtins.__import__, "os"), "system"),
        "pickle.loads": Call(pickle.loads, pickle.dumps(Call(os.system, touch))),
        "stub with arguments": Call(Config, Call(os.system, touch)),
    }


NAMES = list(attacks(Path("x")))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("nest", ["alone", "in a state dict", "as a key"])
def test_no_call_is_made(save, tmp_path, name, nest):
    marker = tmp_path / "marker"
    evil = attacks(marker)[name]
    value = {"alone": evil, "in a state dict": {"state_dict": OrderedDict(w=torch.ones(1), x=evil)}, "as a key": {evil: 1}}
    path = save(value[nest])
    with pytest.raises(UsageError) as caught:
        load_torch_file(path, stubs=lambda m, n: type("Config", (), {}) if n == "Config" else None)
    assert str(path) in str(caught.value)
    if name not in ("stub with arguments", "builtins.getattr"):
        assert name.rpartition(".")[2] in str(caught.value)
    assert not marker.exists()


def test_the_attacks_are_real(tmp_path):
    """The unguarded loader would run them: otherwise the test above proves nothing."""
    marker = tmp_path / "marker"
    torch.save(attacks(marker)["os.system"], tmp_path / "file.pt")
    torch.load(tmp_path / "file.pt", weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("name", ["os.system", "builtins.eval"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_is_no_way_around(tmp_path, name, protocol):
    path, marker = tmp_path / "file.pt", tmp_path / "marker"
    path.write_bytes(pickle.dumps(attacks(marker)[name], protocol=protocol))
    with pytest.raises(UsageError):
        load_torch_file(path)
    archive(path, pickle.dumps(attacks(marker)[name], protocol=protocol))
    with pytest.raises(UsageError):
        load_torch_file(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"(S'touch marker'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch marker'\no.",  # OBJ
        b"\x80\x02\x82\x01.",  # EXT1
        b"Poutside\n.",  # PERSID
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x05touch\x85R.",  # STACK_GLOBAL
        b"\x80\x04\x8c\x0bcollections\x8c\x15OrderedDict.__class__\x93.",  # a dotted name
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x08\x00\x00\x00__code__K\x01sb.",  # BUILD on a function
        b"\x80\x02ccollections\nOrderedDict\n}X\x05\x00\x00\x00itemsK\x01sb.",  # BUILD on a class
        b"\x80\x02}}K\x01K\x02sb.",  # BUILD on a dict
        b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x01\x85R.",  # 4 GiB of zeros
        b"\x80\x02K\x01)R.",  # calls a number
        b"\x80\x02cnumpy\nndarray\n\x8a\x05\x00\x00\x00\x00\x01\x85\x85R.",
        b"\x80\x02cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R.",  # object arrays
        b".",
        b"",
        b"\x80\x02K\x01",
        b"\x80\x02h\x05.",
        b"\x80\x02t.",
    ],
)
def test_programs_that_are_not_data(tmp_path, program, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = torch._utils._rebuild_tensor_v2.__code__
    with pytest.raises(UsageError):
        load_torch_file(archive(tmp_path / "file.pt", program))
    assert torch._utils._rebuild_tensor_v2.__code__ is before
    assert not (tmp_path / "marker").exists()


def test_a_very_deep_tuple_as_a_key(tmp_path):
    program = b"\x80\x02}(" + b")" + b"\x85" * 300_000 + b"K\x01u."
    with pytest.raises(UsageError, match="key"):
        load_torch_file(archive(tmp_path / "file.pt", program))


def tensor_program(*, key="0", claimed=4, size=(4,), stride=(1,), offset=0) -> bytes:
    """The pickle of a float tensor with these claims."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return ("storage", torch.FloatStorage, key, "cuda:0", claimed) if obj is storage else None

    storage = object()
    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict()))
    return buffer.getvalue()


def test_a_tensor_saved_on_a_gpu_comes_to_the_cpu(tmp_path):
    tensor = load_torch_file(archive(tmp_path / "file.pt", tensor_program(), _0=struct.pack("<4f", 1, 2, 3, 4)))
    assert tensor.device.type == "cpu"
    assert tensor.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "claims",
    [
        {"claimed": 5},
        {"claimed": 3, "size": (3,)},
        {"claimed": 1 << 60},
        {"claimed": -1},
        {"key": "1"},
        {"key": "../byteorder"},
        {"size": (5,)},
        {"size": (1 << 40,), "stride": (0,)},
        {"size": (2, 2), "stride": (4, 1)},
        {"size": (-1,)},
        {"offset": 1},
        {"offset": -1},
        {"stride": (-1,)},
        {"size": (4,), "stride": ()},
    ],
    ids=repr,
)
def test_a_tensor_sees_no_byte_that_is_not_its_own(tmp_path, claims):
    path = archive(tmp_path / "file.pt", tensor_program(**claims), _0=struct.pack("<4f", 1, 2, 3, 4))
    with pytest.raises(UsageError):
        load_torch_file(path)


@pytest.mark.parametrize("claimed", [5, 1 << 50])
def test_a_legacy_file_claims_no_more_than_it_holds(tmp_path, claimed):
    path = tmp_path / "file.pt"
    start = b"".join(pickle.dumps(x, protocol=2) for x in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    end = pickle.dumps(["0"], protocol=2) + struct.pack("<q4f", 4, 1, 2, 3, 4)
    path.write_bytes(start + tensor_program() + end)
    assert load_torch_file(path).tolist() == [1, 2, 3, 4]
    path.write_bytes(start + tensor_program(claimed=claimed) + end)
    with pytest.raises(UsageError, match="its tensors claim" if claimed > 5 else "was announced"):
        load_torch_file(path)


# --- containers ------------------------------------------------------------------------------------------------------


def test_a_zip_bomb(tmp_path):
    path = archive(tmp_path / "file.pt", b"\x00" * 50_000_000, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with pytest.raises(UsageError, match="compressed"):
        load_torch_file(path)


def test_entries_that_share_the_same_bytes(tmp_path):
    """Overlapping entries: a small file that claims to be a large one without compression."""
    path = tmp_path / "file.pt"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("archive/data.pkl", b"\x00" * 10_000)
        for i in range(100):
            shared = zipfile.ZipInfo(f"archive/data/{i}")
            shared.file_size = shared.compress_size = 10_000
            shared.header_offset = shared.CRC = 0
            z.filelist.append(shared)
            z.NameToInfo[shared.filename] = shared
    with pytest.raises(UsageError, match="claim"):
        load_torch_file(path)


@pytest.mark.parametrize("name", ["/etc/passwd", "archive/../../x", "..", "archive\\..\\x"])
def test_names_that_point_outside(tmp_path, name):
    path = archive(tmp_path / "file.pt", pickle.dumps(1, protocol=2))
    with zipfile.ZipFile(path, "a") as z:
        z.writestr(name, b"x")
    with pytest.raises(UsageError, match="outside"):
        load_torch_file(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_that_is_there_twice(tmp_path):
    path = archive(tmp_path / "file.pt", pickle.dumps(1, protocol=2))
    with zipfile.ZipFile(path, "a") as z:
        z.writestr("archive/data.pkl", pickle.dumps(2, protocol=2))
    with pytest.raises(UsageError, match="twice"):
        load_torch_file(path)


def test_torchscript_and_big_endian_files(tmp_path):
    path = archive(tmp_path / "file.pt", pickle.dumps(1, protocol=2))
    with zipfile.ZipFile(path, "a") as z:
        z.writestr("archive/constants.pkl", b"x")
    with pytest.raises(UsageError, match="TorchScript"):
        load_torch_file(path)
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("archive/data.pkl", pickle.dumps(1, protocol=2))
        z.writestr("archive/byteorder", "big")
    with pytest.raises(UsageError, match="big-endian"):
        load_torch_file(path)


def test_a_file_over_the_limit(save):
    path = save(torch.zeros(1000))
    assert len(load_torch_file(path, max_bytes=10_000)) == 1000
    with pytest.raises(UsageError, match="more than the limit of 3000"):
        load_torch_file(path, max_bytes=3000)


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"PK\x03\x04", b"# Model card\n", np.random.default_rng(0).bytes(999), b"\x80\x02", b"\x80" * 99]
)
def test_what_is_not_a_torch_file(tmp_path, content):
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="was not loaded"):
        load_torch_file(path)


def test_paths_without_a_file(tmp_path):
    for path in (tmp_path / "absent.pt", tmp_path):
        with pytest.raises(UsageError, match="does not exist"):
            load_torch_file(path)


@cache
def saved(zipped: bool) -> bytes:
    """Once: the old format names a storage by its address, so that the same data may make a file of another length."""
    file = io.BytesIO()
    torch.save({"a": torch.arange(5.0), "b": ["x", 1.5, None]}, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


@NO_RESET
@given(data=st.data(), zipped=st.booleans())
def test_damage_is_a_usage_error_or_harmless(tmp_path, data, zipped):
    path = tmp_path / "file.pt"
    content = bytearray(saved(zipped))
    if data.draw(st.booleans(), label="cut"):
        del content[data.draw(st.integers(0, len(content) - 1), label="length") :]
    else:
        content[data.draw(st.integers(0, len(content) - 1), label="position")] = data.draw(st.integers(0, 255), label="byte")
    path.write_bytes(content)
    try:
        load_torch_file(path)
    except UsageError as e:
        assert str(path) in str(e)


@NO_RESET
@given(cut=st.integers(1, 200))
def test_a_truncated_file_is_always_noticed(save, cut):
    path = save({"a": torch.arange(50.0)})
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UsageError):
        load_torch_file(path)


@NO_RESET
@given(program=st.binary(max_size=60).map(lambda tail: b"\x80\x02" + tail + b"."))
def test_any_program_ends_in_a_value_or_a_usage_error(tmp_path, program):
    path = archive(tmp_path / "file.pt", program)
    try:
        load_torch_file(path)
    except UsageError as e:
        assert str(path) in str(e)


# --- fill ------------------------------------------------------------------------------------------------------------


def test_fill_gives_the_module_the_tensors():
    donor = torch.nn.Linear(3, 2).double()
    with torch.device("meta"):
        module = torch.nn.Linear(3, 2)
    fill(module, donor.state_dict(), "donor.pt")
    assert module.weight.dtype == torch.float32
    assert torch.equal(module.weight, donor.weight.float())
    assert not module.weight.requires_grad


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("bias"), "bias is missing"),
        (lambda s: s.update(extra=torch.ones(1)), "extra is unknown"),
        (lambda s: s.update(bias=torch.ones(3)), r"bias is \(3,\) and should be \(2,\)"),
        (lambda s: s.update(bias=1.0), "bias is missing"),
    ],
)
def test_fill_takes_nothing_but_the_same_model(change, said):
    state = torch.nn.Linear(3, 2).state_dict()
    change(state)
    with pytest.raises(UsageError, match=said) as caught:
        fill(torch.nn.Linear(3, 2), state, "other.pt")
    assert "other.pt" in str(caught.value)


# --- small programs that would never end ------------------------------------------------------------------------------


def long1(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def put(place: int) -> bytes:
    return b"r" + place.to_bytes(4, "little")


def get(place: int) -> bytes:
    return b"j" + place.to_bytes(4, "little")


def repeated(value: bytes, function: bytes) -> bytes:
    """A thousand calls of a function with one and the same value."""
    calls = (get(1) + get(0) + b"\x85R0") * 1000
    return b"\x80\x02" + value + put(0) + b"0" + function + put(1) + b"0" + calls + b"N."


SET, ENCODE = b"c__builtin__\nset\n", b"c_codecs\nencode\n"
TEXT = b"T" + (1 << 20).to_bytes(4, "little") + b"a" * (1 << 20)
ONE_HASH = b"".join(long1(k * (2**61 - 1)) + b"N" for k in range(20_000))  # all these keys have the hash 0
LONG_KEY = pickle.dumps(tuple(range(40)), 2)[2:-1]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (repeated(b"](" + b"N" * 100_000 + b"e", SET), "no text"),
        (repeated(b"](" + b"U\1a" * 100_000 + b"e", SET), "copies more than"),
        (repeated(TEXT, ENCODE), "copies more than"),
        (b"\x80\x02}(" + ONE_HASH + b"u.", "no text"),
        (b"\x80\x02" + long1(1 << 2000) + b".", "an integer of 2001 bits"),
        (b"\x80\x02}" + LONG_KEY + b"Ns.", "a key of 40 items"),
    ],
    ids=["sets", "sets of text", "bytes", "keys of one hash", "a huge integer", "a long key"],
)
def test_programs_that_repeat_large_values_are_refused(tmp_path, program, said):
    path = archive(tmp_path / "file.pt", program)
    assert path.stat().st_size < 2_000_000
    with pytest.raises(UsageError, match=said):
        load_torch_file(path)


def test_sizes_that_no_tensor_has_are_refused(tmp_path):
    for size in ((1 << 70,), (1 << 62,) * 200, (1 << 1000,)):
        path = archive(tmp_path / "file.pt", tensor_program(size=size, stride=(1,) * len(size)), _0=bytes(16))
        with pytest.raises(UsageError, match=r"file\.pt was not loaded") as e:
            load_torch_file(path)
        assert len(str(e.value)) < 500


POOLER, ACTIVATION = "arch.pooler._target_", "arch.category_encoder.encoder_layer.activation"


@pytest.mark.parametrize("place", [POOLER, ACTIVATION, "category2metrics.mos", "fs"])
def test_values_that_are_shared_many_times_over_are_refused_at_once(tmp_path, place):
    """A tuple of ten references, thirty deep: harmless in memory, 10^30 words as text."""
    from urgentmos.models import official

    value = "x"
    for _ in range(30):
        value = (value,) * 10
    config: dict = {}
    inner = config
    *folders, last = place.split(".")
    for name in folders:
        inner = inner.setdefault(name, {})
    inner[last] = [value] if last == "mos" else value
    weight = torch.zeros(1, 1)
    names = ("metric2absolute_score_predictor.mos.prediction_head.weight", "category2encoder.mos.layers.0.linear1.weight")
    torch.save({"model": dict.fromkeys(names, weight), "config": config}, tmp_path / "file.pt")
    with pytest.raises(UsageError) as e:
        official.read(tmp_path / "file.pt")
    assert "file.pt" in str(e.value) and len(str(e.value)) < 500
