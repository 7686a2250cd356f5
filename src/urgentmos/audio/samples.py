"""From any recording to mono float32 at a given rate, by one policy.

The policy, for every command and every model: channels are averaged; resampling is soxr HQ; nothing is trimmed; the level
stays as it is. A recording that cannot be judged (missing, empty, undecodable, cut off, non-finite) raises AudioError, whose
sentence becomes the reason in the clip's row. One that can be judged but deserves a word (silence, channels that cancel, a
missing end, clipping, ...) has warnings. `decoding` reads files, `description` looks at samples; a file that is read at once
(`load`) and one that is read in windows go through the same `Reading`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from urgentmos.audio.decoding import PIECE, open_stream
from urgentmos.audio.description import SECTIONS, AudioInfo, Meter, block_length, blocks_of, section_length
from urgentmos.audio.streams import MAX_RATE, MIN_RATE, Stream
from urgentmos.errors import AudioError, UsageError

CHANNELS_MAX = 8  # of an array: 7.1 sound; more rows are a batch
SIXTEEN_BITS = 32_768
HELD = 1 << 24  # samples of all channels; of a recording with more in a block, a second at a time is decoded

AudioInput = str | Path | np.ndarray | Sequence[float]  # a path or place, or samples


@dataclass(frozen=True)
class Audio:
    """One recording, decoded."""

    wave: np.ndarray  # (T,) float32, mono
    rate: int  # Hz, of `wave`
    info: AudioInfo  # about the recording as it was found


class Batch(NamedTuple):
    """Clips of one rate side by side. Audio never travels without its length."""

    wave: np.ndarray  # (B, T) float32, zero-padded right
    n_samples: np.ndarray  # (B,) int64
    ids: list[str]


# ---- files


class Reading:
    """The mono blocks of an open stream at its own rate; `info` describes the recording once they are all taken."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.meter = Meter(stream.where, stream.rate, stream.channels)

    def __iter__(self) -> Iterator[np.ndarray]:
        rate = self._stream.rate
        if block_length(rate) * self._stream.channels <= HELD:
            yield from map(self.meter.add, self._stream.blocks(block_length(rate)))
            return
        sections = self._stream.blocks(section_length(rate))
        for first in sections:
            yield self.meter.add_sections(chain([first], islice(sections, SECTIONS - 1)))

    @property
    def info(self) -> AudioInfo:
        """AudioError if the recording cannot be judged."""
        return self.meter.info(tuple(self._stream.warnings))


def load(
    source: str | os.PathLike[str] | np.ndarray | Sequence[float], rate: int | None = None, *, sample_rate: int | None = None
) -> Audio:
    """A path or URL (or any place of `audio.places`), or samples with their `sample_rate` -> mono at `rate` (None: its own).

    Samples are (T,) or (C, T) or (T, C) with C < T, as `as_samples` scales them. Raises AudioError if the recording cannot be
    judged, UsageError if samples come without a sensible rate.
    """
    if isinstance(source, str | os.PathLike):
        with open_stream(source) as stream:
            return _load(stream, [], Reading(stream), rate)
    samples, file_rate = as_samples(source), check_rate(sample_rate)
    meter = Meter("the array", file_rate, samples.shape[1])
    waves = [meter.add(block) for block in blocks_of(samples, file_rate)]
    return _audio(waves, meter.info(), rate)


def load_within(path: str | os.PathLike[str], rate: int, seconds: float) -> Audio | tuple[int, int]:
    """The recording at `rate` if it lasts at most `seconds`, else its (number of samples, own rate): in one decoding."""
    with open_stream(path) as stream:
        most = seconds * stream.rate
        if stream.n_samples is not None:
            return (stream.n_samples, stream.rate) if stream.n_samples > most else _load(stream, [], Reading(stream), rate)
        reading = Reading(stream)
        waves: list[np.ndarray] = []
        blocks = iter(reading)
        for wave in blocks:
            waves.append(wave)
            if reading.meter.n_samples > most:
                return reading.meter.n_samples + sum(map(len, blocks)), stream.rate
        return _audio(waves, reading.info, rate)


def _load(stream: Stream, waves: list[np.ndarray], reading: Reading, rate: int | None) -> Audio:
    waves += reading
    return _audio(waves, reading.info, rate)


def _audio(waves: list[np.ndarray], info: AudioInfo, rate: int | None) -> Audio:
    wave = waves[0] if len(waves) == 1 else np.concatenate(waves)
    return Audio(resample(wave, info.rate, rate or info.rate), rate or info.rate, info)


def resample(wave: np.ndarray, rate: int, to: int) -> np.ndarray:
    """(T,) at `rate` -> (T',) at `to` by soxr HQ, the resampler of the URGENT challenges."""
    if rate == to:
        return wave
    import soxr

    return np.asarray(soxr.resample(wave, rate, to), dtype=np.float32)


def decode(path: str | os.PathLike[str]) -> tuple[np.ndarray, int, str]:
    """Decode a recording in any place to ((T, C) float32, rate, the decoder's warnings). AudioError if it cannot be."""
    with open_stream(path) as stream:
        blocks = list(stream.blocks(block_length(stream.rate)))
        if not blocks:
            raise AudioError(f"{stream.where} holds no samples. Record or export it again")
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks), stream.rate, "; ".join(stream.warnings)


def probe(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """(n_samples, rate, channels): as many samples as decoding yields. AudioError if it cannot be opened.

    Only containers that do not count their samples (those of FFmpeg) are decoded for it.
    """
    with open_stream(path) as stream:
        n_samples = stream.n_samples
        if n_samples is None:
            n_samples = sum(map(len, stream.pieces(PIECE)))
        return n_samples, stream.rate, stream.channels


# ---- samples


def as_samples(source: Any) -> np.ndarray:
    """Array, tensor, buffer or list -> (T, C) float32 in +-1; the longer axis is time.

    Integers of a type are scaled by its range, in any container (numpy, torch, array.array, memoryview). Python's own ints
    and 64-bit integers have no range that sound uses: they are 16-bit samples if any lies outside -1..1.
    """
    array = _as_array(source)
    if array.ndim not in (1, 2):
        raise AudioError(
            f"an array of shape {array.shape} is not one recording. Pass (T,), (T, C) or (C, T), and each clip of a batch alone"
        )
    if array.size == 0:
        raise AudioError("the array holds no samples. Record or export it again")
    array = _scaled(array)
    if array.ndim == 1:
        return array[:, None]
    array = array if array.shape[0] >= array.shape[1] else array.T
    if array.shape[1] > CHANNELS_MAX:
        raise AudioError(
            f"an array of {array.shape[1]} rows is a batch, not one recording. Pass each row alone, for example "
            "[model.score(row, sample_rate=16000) for row in batch], or mix a recording of many channels down"
        )
    return array


def _as_array(source: Any) -> np.ndarray:
    is_view = isinstance(source, memoryview)
    if isinstance(source.obj if is_view else source, bytes | bytearray) and not (
        is_view and source.format not in ("B", "b", "c")
    ):
        raise AudioError("bytes have no type of samples. Pass np.frombuffer(data, dtype=np.int16), or what they are")
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.Tensor):
        source = _from_torch(source, torch)
    try:
        array = np.asarray(source)
    except ValueError as e:
        raise AudioError("the lists in the list differ in length. Pass (T,), (T, C) or (C, T)") from e
    except (TypeError, RuntimeError) as e:
        raise AudioError(f"{type(source).__name__} is not audio ({e}). Pass an array of integers or floats") from e
    if array.dtype == object or array.dtype.kind not in "iuf":
        raise AudioError(f"samples of type {array.dtype} are not audio. Pass integers or floats")
    return array


def _from_torch(tensor: Any, torch: Any) -> np.ndarray:
    """A tensor on any device, with or without gradients, of any real type."""
    if tensor.is_floating_point() and tensor.dtype != torch.float64:
        tensor = tensor.to(torch.float32)  # numpy has no bfloat16
    try:
        return np.asarray(tensor.detach().cpu().resolve_conj().resolve_neg().numpy())
    except (TypeError, RuntimeError) as e:
        raise AudioError(
            f"a tensor of type {tensor.dtype} is not audio ({e}). Pass a dense tensor of integers or floats"
        ) from e


def _scaled(array: np.ndarray) -> np.ndarray:
    """Integers by their range; floats as they are. float32."""
    kind, bits = array.dtype.kind, 8 * array.dtype.itemsize
    if kind == "i" and bits == 64:
        array = _by_content(array)
    elif kind == "u":
        half = float(1 << bits - 1)
        array = (array.astype(np.float64) - half) / half
    elif kind == "i":
        array = array / float(1 << bits - 1)
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused as such
        return array.astype(np.float32)


def _by_content(array: np.ndarray) -> np.ndarray:
    largest = max(int(array.max(initial=0)), -int(array.min(initial=0)))
    if largest > SIXTEEN_BITS:
        raise AudioError(
            f"whole numbers up to {largest} are more than 16 bits, and nothing says how many. Pass an array of int32, "
            "or floats in -1..1"
        )
    return array / float(SIXTEEN_BITS) if largest > 1 else array.astype(np.float64)


def check_rate(rate: Any) -> int:
    """A sampling rate in Hz, or UsageError."""
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer):
        if isinstance(rate, float | np.floating) and rate.is_integer():
            return check_rate(int(rate))
        raise UsageError(f"sample_rate={rate!r} is not a whole number of Hz. Pass, for example, sample_rate=16000")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise UsageError(f"sample_rate={rate} is outside {MIN_RATE}..{MAX_RATE} Hz")
    return int(rate)


def describe(wave: np.ndarray, rate: int, name: str = "the array") -> AudioInfo:
    """Describe (T,) samples without copying them."""
    meter = Meter(name, rate, 1)
    for block in blocks_of(wave[:, None], rate):
        meter.add(block)
    return meter.info()


# ---- batches


def collate(waves: Sequence[np.ndarray], ids: Sequence[str]) -> Batch:
    """(T_i,) each -> one zero-padded Batch."""
    n_samples = np.array([len(w) for w in waves], dtype=np.int64)
    wave = np.zeros((len(waves), int(n_samples.max(initial=0))), dtype=np.float32)
    for row, w in zip(wave, waves, strict=True):
        row[: len(w)] = w
    return Batch(wave, n_samples, list(ids))


def duration_batches(durations: Sequence[float], max_seconds: float, max_padding: float = 0.1) -> Iterator[list[int]]:
    """Indices of clips, batch by batch: similar lengths together, at most `max_seconds` of padded audio in each.

    A batch also ends where a further clip would raise its share of padding above `max_padding`. A clip longer than
    `max_seconds` travels alone. Longest first, so that memory runs out at once or not at all.
    """
    order = sorted(range(len(durations)), key=lambda i: (-durations[i], i))
    batch: list[int] = []
    real = 0.0
    for i in order:
        if batch:
            padded = durations[batch[0]] * (len(batch) + 1)
            if padded > max_seconds or 1 - (real + durations[i]) / padded > max_padding:
                yield batch
                batch, real = [], 0.0
        batch.append(i)
        real += durations[i]
    if batch:
        yield batch
