"""Long recordings in pieces: equal windows no longer than a model takes, decoded and resampled as a stream.

A two-hour file costs the memory of one window. A file that fits into one window is what `audio.load` gives, decoded ahead
of the network that waits for it.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import TypeVar

import numpy as np

from urgentmos.audio.decoding import open_stream
from urgentmos.audio.description import AudioInfo
from urgentmos.audio.samples import Audio, AudioInput, Reading, load, load_within, probe
from urgentmos.common.steps import idle, step
from urgentmos.common.untrusted import reason
from urgentmos.errors import AudioError

T = TypeVar("T")

READ_AHEAD = 16  # clips decoded while the network computes
SHORTEST_WINDOW = 1.0  # seconds; a clip is not cut finer to match the windows of a longer one


@dataclass(frozen=True)
class OpenedAudio:
    """One recording, opened: decoded where it fits into one window, or why it cannot be judged."""

    name: str
    whole: Audio | None = None  # None: it is decoded again, window by window, on each use
    seconds: float | None = None
    n_windows: int = 1  # that its length needs
    error: str | None = None
    n_samples: int | None = None  # at its own rate, if it is to be decoded again


@dataclass(frozen=True)
class AudioReader:
    """Opens recordings for one model."""

    model: str
    rate: int  # Hz
    window_seconds: float  # longest window
    min_samples: int  # at `rate`

    def open(self, source: AudioInput, sample_rate: int | None = None) -> OpenedAudio:
        """Open a recording. AudioError if it cannot be decoded, UsageError if samples come without a sensible rate."""
        if isinstance(source, str | Path):
            loaded = load_within(source, self.rate, self.window_seconds)
            if not isinstance(loaded, Audio):
                n_samples, file_rate = loaded
                count = ceil(n_samples / (self.window_seconds * file_rate))
                return OpenedAudio(str(source), None, n_samples / file_rate, count, n_samples=n_samples)
            audio = loaded
        else:
            audio = load(source, self.rate, sample_rate=sample_rate)
        count = max(1, ceil(len(audio.wave) / (self.window_seconds * self.rate)))
        return OpenedAudio(names_of(source)[1], audio, audio.info.duration, count, self._too_short(audio))

    def try_open(self, path: str) -> OpenedAudio:
        """Like `open`, but returns failures in `OpenedAudio.error`."""
        try:
            return self.open(path)
        except AudioError as e:
            return OpenedAudio(path, error=str(e))
        except Exception as e:  # a decoder's bug must not end the other clips
            return OpenedAudio(path, error=_undecodable(path, e))

    def ahead(self, paths: Iterable[str], keys: Iterable[T]) -> Iterator[tuple[T, OpenedAudio]]:
        """(key, recording) for each path, in order, READ_AHEAD of them opened in advance."""
        with ThreadPoolExecutor(2) as pool:
            waiting: deque[tuple[T, Future[OpenedAudio]]] = deque()
            for path, key in zip(paths, keys, strict=True):
                waiting.append((key, pool.submit(self.try_open, path)))
                if len(waiting) > READ_AHEAD:
                    first, future = waiting.popleft()
                    yield first, _result(future)
            while waiting:
                first, future = waiting.popleft()
                yield first, _result(future)

    def pieces(self, heard: OpenedAudio, count: int | None = None) -> Iterator[Audio]:
        """Its windows, `count` or as many as its length needs; AudioError where decoding fails on the way."""
        count = count or heard.n_windows
        if heard.whole is not None:
            yield from split(heard.whole, self.window_seconds, count)
            return
        try:
            yield from windows(heard.name, self.rate, self.window_seconds, count, heard.n_samples)
        except AudioError:
            raise
        except Exception as e:
            raise AudioError(_undecodable(heard.name, e)) from e

    def _too_short(self, audio: Audio) -> str | None:
        if len(audio.wave) >= self.min_samples:
            return None
        has, needed = len(audio.wave) / audio.rate, self.min_samples / self.rate
        return f"{has:.3g} s is shorter than the {needed:.3g} s that {self.model} needs. Use a longer clip"


def names_of(source: AudioInput) -> tuple[str, str]:
    """(uid, path) of a recording for its row."""
    return (Path(source).stem, str(source)) if isinstance(source, str | Path) else ("array", "array")


def matched(heard: OpenedAudio, most: int) -> int:
    """Into how many windows a clip is cut beside one of `most`: as many, so that windows hold the same part of a content."""
    assert heard.seconds is not None
    return most if heard.seconds / most >= SHORTEST_WINDOW else heard.n_windows


def repeated(items: Iterable[T], n: int, to: int) -> Iterator[T]:
    """n items as `to` >= n of them, in order: the i-th is item i * n // to."""
    for k, item in enumerate(items):
        for _ in range(-(-(k + 1) * to // n) + (-k * to // n)):
            yield item


def _result(future: Future[T]) -> T:
    if not future.done():
        with idle():
            wait([future])
    return future.result()


def _undecodable(name: str, e: Exception) -> str:
    return f"{name} cannot be decoded: {reason(e)}. Export it again"


def windows(path: str, rate: int, seconds: float, count: int | None = None, n_samples: int | None = None) -> Iterator[Audio]:
    """The recording at `rate` in equal windows of at most `seconds`, or in `count` of them.

    n_samples: its length at its own rate, where that is known already. The info of a window describes the recording up to its
    end; `merge` takes the last one. AudioError as in `load`: before the last window at the latest.
    """
    n_samples = n_samples if n_samples is not None else probe(path)[0]
    with open_stream(path) as stream:
        count = count or ceil(n_samples / (seconds * stream.rate))
        reading = Reading(stream)
        held: list[np.ndarray] = []
        done = start = passed = 0  # windows; samples before the current one; samples decoded
        for block in _resampled(reading, stream.rate, rate):
            step()
            if reading.meter.refused:  # read on, since the reason counts all of it
                held = []
                continue
            held.append(block)
            passed += len(block)
            while done + 1 < count and passed >= (edge := n_samples * rate * (done + 1) // (count * stream.rate)):
                wave = np.concatenate(held)
                cut = edge - start
                yield Audio(np.ascontiguousarray(wave[:cut]), rate, reading.meter.info())
                held, start, done = [wave[cut:]], edge, done + 1
        info = reading.info
        yield Audio(np.concatenate(held), rate, info)


def _resampled(blocks: Iterable[np.ndarray], from_rate: int, to: int) -> Iterator[np.ndarray]:
    """As `audio.resample`, block by block."""
    if from_rate == to:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(from_rate, to, 1, dtype="float32")
    for block in blocks:
        yield np.asarray(stream.resample_chunk(block))
    yield np.asarray(stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True))


def split(audio: Audio, seconds: float, count: int | None = None) -> Iterator[Audio]:
    """A recording in memory in equal windows of at most `seconds`, or in `count` of them."""
    count = count or ceil(len(audio.wave) / (seconds * audio.rate))
    if count <= 1:
        yield audio
        return
    edges = [len(audio.wave) * k // count for k in range(count + 1)]  # as `windows` has them
    for start, end in pairwise(edges):
        yield Audio(audio.wave[start:end], audio.rate, audio.info)


def merge(infos: list[AudioInfo]) -> AudioInfo:
    """Merge the descriptions of a recording's windows; the last window has seen all of it."""
    return infos[-1]
