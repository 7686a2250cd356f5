"""Samples from Python have a unit: whatever holds them, the same sound is the same recording."""

import array
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.audio.samples import load
from urgentmos.errors import AudioError

RATE = 16_000
SIXTEEN = (20_000 * np.sin(np.arange(RATE) * 0.05)).astype(np.int16)

HOLDERS: dict[str, Any] = {
    "int16": lambda x: x,
    "big-endian int16": lambda x: x.astype(">i2"),
    "int32": lambda x: x.astype(np.int32) << 16,
    "int64": lambda x: x.astype(np.int64),
    "uint16": lambda x: (x.astype(np.int32) + 32768).astype(np.uint16),
    "float32": lambda x: x.astype(np.float32) / 32768,
    "float64": lambda x: x / 32768,
    "list of ints": lambda x: x.tolist(),
    "tuple of ints": lambda x: tuple(x.tolist()),
    "list of np.int16": list,
    "list of floats": lambda x: (x / 32768).tolist(),
    "list of channels": lambda x: [x.tolist(), x.tolist()],
    "array('h')": lambda x: array.array("h", x.tolist()),
    "array('i')": lambda x: array.array("i", (x.astype(np.int32) << 16).tolist()),
    "array('f')": lambda x: array.array("f", (x / 32768).tolist()),
    "memoryview": memoryview,
    "memoryview of bytes cast to int16": lambda x: memoryview(x.tobytes()).cast("h"),
    "(1, T)": lambda x: x[None],
    "(T, 2)": lambda x: np.stack([x, x], axis=1),
    "read-only": lambda x: np.frombuffer(x.tobytes(), dtype=np.int16),
}
TENSORS: dict[str, Any] = {
    "int16": lambda torch, x: torch.tensor(x),
    "int32": lambda torch, x: torch.tensor(x.astype(np.int32) << 16),
    "int64": lambda torch, x: torch.tensor(x.tolist()),
    "(1, T) int16": lambda torch, x: torch.tensor(x)[None],
    "float32": lambda torch, x: torch.tensor(x / 32768).float(),
    "with gradients": lambda torch, x: torch.tensor(x / 32768, requires_grad=True),
    "a list of tensors": lambda torch, x: [torch.tensor(x), torch.tensor(x)],
}


@pytest.mark.parametrize("name", HOLDERS)
def test_the_same_samples_in_any_holder_are_the_same_recording(name: str) -> None:
    audio = load(HOLDERS[name](SIXTEEN), sample_rate=RATE)
    np.testing.assert_allclose(audio.wave, SIXTEEN / np.float32(32768), atol=1e-7)


@pytest.mark.parametrize("name", TENSORS)
def test_the_same_samples_in_a_tensor_are_the_same_recording(name: str) -> None:
    torch = pytest.importorskip("torch")
    audio = load(TENSORS[name](torch, SIXTEEN), sample_rate=RATE)
    np.testing.assert_allclose(audio.wave, SIXTEEN / np.float32(32768), atol=1e-7)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_half_precision_is_taken_as_it_is(kind: str) -> None:
    torch = pytest.importorskip("torch")
    audio = load(torch.tensor(SIXTEEN / 32768).to(getattr(torch, kind)), sample_rate=RATE)
    np.testing.assert_allclose(audio.wave, SIXTEEN / 32768, atol=4e-3)


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=50))
def test_ints_are_sixteen_bits_unless_they_are_within_full_scale(samples: list[int]) -> None:
    unit = 32768 if max(map(abs, samples)) > 1 else 1
    for holder in (list, tuple, lambda x: np.array(x, dtype=np.int64)):
        np.testing.assert_allclose(load(holder(samples), sample_rate=RATE).wave, np.array(samples) / unit, atol=1e-7)


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        ([8_388_607, 0], r"up to 8388607 are more than 16 bits.*Pass an array of int32"),
        (SIXTEEN.tobytes(), "bytes have no type of samples. Pass np.frombuffer"),
        (bytearray(8), "bytes have no type"),
        (memoryview(SIXTEEN.tobytes()), "bytes have no type"),
        (np.zeros((9, RATE)), "9 rows is a batch, not one recording. Pass each row alone"),
        (np.zeros((RATE, 9)), "9 rows is a batch"),
        (np.zeros((2, 1, RATE)), r"shape \(2, 1, 16000\) is not one recording.*each clip of a batch alone"),
        (np.zeros(RATE, bool), "type bool are not audio. Pass integers or floats"),
        (np.zeros(RATE, complex), "type complex128 are not audio"),
    ],
)
def test_what_has_no_unit_or_is_no_recording_is_refused(samples: Any, says: str) -> None:
    with pytest.raises(AudioError, match=says):
        load(samples, sample_rate=RATE)


@pytest.mark.parametrize("name", ["bool", "complex64", "sparse"])
def test_tensors_that_are_no_samples_are_refused(name: str) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.eye(4).to_sparse() if name == "sparse" else torch.zeros(RATE, dtype=getattr(torch, name))
    with pytest.raises(AudioError, match="not audio"):
        load(tensor, sample_rate=RATE)


def test_eight_channels_are_a_recording() -> None:
    assert load(np.tile(SIXTEEN, (8, 1)), sample_rate=RATE).info.channels == 8


@pytest.mark.parametrize(("gain", "kinds"), [(8.0, []), (8.1, ["level"]), (32768.0, ["level"])])
def test_samples_far_above_full_scale_are_said(gain: float, kinds: list[str]) -> None:
    wave = np.random.default_rng(0).uniform(-1, 1, RATE)
    wave[0] = 1.0
    warnings = load(wave * gain, sample_rate=RATE).info.warnings
    assert [warning.split(":")[0] for warning in warnings] == kinds
