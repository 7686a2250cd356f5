"""A place -> blocks of samples, once from start to end: the only decoder. What was wrong with the file is known at its end.

libsndfile and FFmpeg decode; how long a recording is, and whether it is complete, is read from its own bytes (`containers`),
since the promised number of samples may be 0, too small or too large, and a file may hold several recordings.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from typing import Any, BinaryIO

import numpy as np

from urgentmos import frames
from urgentmos.clip_warnings import CUT_OFF, LENGTH
from urgentmos.containers import Part, View, parts
from urgentmos.errors import AudioError
from urgentmos.sources import check_local, is_elsewhere, opened

AV_SUFFIXES = frozenset({".m4a", ".mp4", ".aac", ".amr", ".webm", ".mka", ".wma", ".3gp"})
AUDIO_SUFFIXES = (
    frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au", ".caf", ".w64", ".rf64"}) | AV_SUFFIXES
)
AUDIO_ENDINGS = " ".join(sorted(AUDIO_SUFFIXES))  # for messages
UNKNOWN_LENGTH = 2**62  # samples; libsndfile promises more where a header does not know, as in a FLAC from a pipe
SOUND_FILES = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"fLaC", b"OggS", b"FORM", b"caff", b".snd")  # whatever their names
STATED_SECONDS = 0.5  # by which FFmpeg's containers may misstate a duration: codecs delay and pad
FINE = 256  # samples, to find a fault
PIECE = 1 << 16  # samples that are read at a time where only their number matters


class Stream:
    """One recording, open to be decoded once.

    `n_samples` is what `blocks` will yield, None where only decoding can tell. `warnings` are complete behind the last block.
    """

    rate: int
    channels: int
    n_samples: int | None

    def __init__(self, where: str) -> None:
        self.where = where
        self.warnings: list[str] = []

    def pieces(self, n: int) -> Iterator[np.ndarray]:
        """(t, C) float32, t as it comes but at most `n`."""
        raise NotImplementedError

    def blocks(self, n: int) -> Iterator[np.ndarray]:
        """(n, C) float32 each, the last one shorter. AudioError if the recording breaks off."""
        held: list[np.ndarray] = []
        count = 0
        for piece in self.pieces(n):
            while count + len(piece) >= n:
                cut = n - count
                yield piece[:cut] if not held else np.concatenate([*held, piece[:cut]])
                held, count, piece = [], 0, piece[cut:]
            if len(piece):
                held.append(piece)
                count += len(piece)
        if held:
            yield held[0] if len(held) == 1 else np.concatenate(held)


@contextmanager
def open_stream(path: str | os.PathLike[str]) -> Iterator[Stream]:
    """A recording, wherever it lies, for reading. AudioError with the decoder's own words if it is none."""
    where = os.fspath(path)
    _check_file(where)
    with ExitStack() as stack:
        source, suffix = stack.enter_context(opened(where))
        file: BinaryIO = stack.enter_context(open(where, "rb")) if isinstance(source, str) else source
        file.seek(0)
        head = file.read(64)
        found = parts(file)
        if frames.walker_of(head) is not None or (suffix in AV_SUFFIXES and not head.startswith(SOUND_FILES)):
            stream: AbstractContextManager[Stream] = _open_av(file, where, found)
        else:
            stream = _open_sound(source, file, where, found, spare=head.startswith(SOUND_FILES))
        yield stack.enter_context(stream)


def _check_file(where: str) -> None:
    if is_elsewhere(where):  # whoever opens it says what is wrong
        return
    check_local(where)
    if os.path.isdir(where):
        raise AudioError(f"{where} is a folder, not a recording. Remove it or name the files in it")
    if not os.path.isfile(where):
        raise AudioError(f"{where} is a device or a pipe, not a recording. Copy it into a file")
    if os.path.getsize(where) == 0:
        raise AudioError(f"{where} is empty (0 bytes). Record or copy it again")
    if not os.access(where, os.R_OK):
        raise AudioError(f"{where} may not be read. Change its permissions")


def _undecodable(where: str, reason: object, part: Part) -> AudioError:
    if part.missing:
        return AudioError(
            f"{where} is cut off: {part.missing} bytes are missing, and the rest cannot be decoded. Copy or export it again"
        )
    return AudioError(f"{where} cannot be decoded: {reason}. Check that it is audio, and export it again")


# ---- libsndfile


@cache
def _forward_type() -> Any:
    """SoundFile that only reads on: its seeking behind every read would upset the decoder of MP3."""
    import soundfile

    class Forward(soundfile.SoundFile):  # type: ignore[misc]
        def seekable(self) -> bool:
            return False

    return Forward


class _Sound(Stream):
    """What libsndfile decodes: the parts of a file, one after the other."""

    def __init__(self, where: str, source: str | BinaryIO, file: BinaryIO, found: list[Part]) -> None:
        super().__init__(where)
        self._source, self._file, self._parts = source, file, found
        self._open = self._start(found[0])
        self.rate, self.channels = self._open.samplerate, self._open.channels
        self._lengths = [self._open.frames]
        self._unlike = ""
        for number, part in enumerate(found[1:], start=2):
            with self._start(part) as own:
                if (own.samplerate, own.channels) != (self.rate, self.channels):
                    self._unlike = (
                        f"recording {number} of {len(found)} in it has {own.samplerate} Hz and {_channels(own.channels)}"
                    )
                    break
                self._lengths.append(own.frames)
        known = all(length < UNKNOWN_LENGTH for length in self._lengths)
        self.n_samples = sum(self._lengths) if known else None

    def _start(self, part: Part) -> Any:
        """The part, opened; by its path where that is possible, which is faster."""
        import soundfile

        target: Any
        if isinstance(self._source, str) and len(self._parts) == 1 and part.plain and part.start == 0:
            target = os.fsencode(self._source)  # soundfile itself stumbles over a name that is not UTF-8
        else:
            target = View(self._file, part.start, part.end, part.patches, part.prefix)
        try:
            return _forward_type()(target)
        except (soundfile.LibsndfileError, RuntimeError) as e:
            raise _undecodable(self.where, _reason(e), part) from e

    def close(self) -> None:
        self._open.close()

    def pieces(self, n: int) -> Iterator[np.ndarray]:
        done: list[int] = []
        for part in self._parts[: len(self._lengths)]:
            if done:
                self._open.close()
                self._open = self._start(part)
            read = 0
            for piece in self._read(part, n, sum(done)):
                read += len(piece)
                yield piece
            done.append(read)
        self.warnings += self._about(done)

    def _read(self, part: Part, n: int, before: int) -> Iterator[np.ndarray]:
        import soundfile

        promised, read, reason = self._open.frames, 0, ""
        try:
            while len(piece := self._open.read(min(n, max(1, promised - read)), dtype="float32", always_2d=True)):
                read += len(piece)
                yield piece
        except (soundfile.LibsndfileError, RuntimeError) as e:
            reason = _reason(e) or "it is damaged"
            read = max(read, self._readable(part))
        if part.missing or (read >= promised and not reason):  # missing bytes have a warning
            return
        of = f" of {before + promised if self.n_samples is None else self.n_samples}" if promised < UNKNOWN_LENGTH else ""
        damaged = part.lost or (reason and frames.flac_is_whole(self._file, part.start, part.end))
        what = "damaged" if damaged else "cut off" if of else "cut off or damaged"
        if reason or promised < UNKNOWN_LENGTH:
            raise AudioError(f"{self.where} is {what}: {before + read}{of} samples could be read. Copy or export it again")

    def _readable(self, part: Part) -> int:
        """How many samples of a part come before its fault: libsndfile does not say where in a piece it stopped."""
        import soundfile

        read = 0
        with self._start(part) as own:
            try:
                while count := len(own.read(FINE, dtype="float32", always_2d=True)):
                    read += count
            except (soundfile.LibsndfileError, RuntimeError):
                pass
        return read

    def _about(self, done: list[int]) -> list[str]:
        """Warnings, once all is read: samples of each part."""
        cut = _cut_off(self._parts[: len(done)])
        return cut if cut and not any(done[1:]) else cut + self._length(done)

    def _length(self, done: list[int]) -> list[str]:
        if self._unlike:
            return [f"{LENGTH}: {self._unlike}; only what stands before it was read. Split the file"]
        shares = [part.promised for part in self._parts[: len(done)]]
        if len(done) == 1 and shares[0] is None:
            return []
        first = done[0] * (1.0 if shares[0] is None else shares[0])
        several = f" ({len(done)} recordings, one after the other)" if len(done) > 1 else ""
        return [_length_sentence(first / self.rate, sum(done) / self.rate) + several]


def _cut_off(found: Sequence[Part]) -> list[str]:
    missing = sum(part.missing for part in found)
    if missing:
        return [f"{CUT_OFF}: the file is shorter than its header says ({missing} bytes are missing)"]
    if lost := sum(part.lost for part in found):
        return [f"{CUT_OFF}: the file may be cut off: {lost} Ogg pages are missing in its middle"]
    if any(part.unended for part in found):
        return [f"{CUT_OFF}: the file may be cut off: its last Ogg page does not end the stream"]
    return []


def _channels(count: int) -> str:
    return f"{count} channel" + "s" * (count != 1)


def _length_sentence(promised: float, decoded: float) -> str:
    return f"{LENGTH}: the header promises {promised:.2f} s and {decoded:.2f} s were decoded"


@contextmanager
def _open_sound(source: str | BinaryIO, file: BinaryIO, where: str, found: list[Part], spare: bool) -> Iterator[Stream]:
    """By libsndfile, or (`spare`) by FFmpeg's libraries if they are there and libsndfile does not know what is inside."""
    try:
        stream = _Sound(where, source, file, found)
    except AudioError as e:
        with ExitStack() as stack:
            try:
                av_stream = stack.enter_context(_open_av(file, where, found)) if spare else None
            except AudioError:
                av_stream = None
            if av_stream is None or av_stream.n_first == 0:
                raise e
            yield av_stream
        return
    try:
        yield stream
    finally:
        stream.close()


def _reason(error: Exception) -> str:
    """What libsndfile says, without the path; of an MP3 without frames it says that there is no file."""
    said = str(error).split(": ", 1)[-1].strip().rstrip(".")
    return "it holds no audio that is known" if said.startswith("File does not exist") else said


# ---- FFmpeg


class _Av(Stream):
    """Containers that libsndfile does not read (m4a, amr, webm, ...), through FFmpeg's libraries."""

    def __init__(self, where: str, file: BinaryIO, found: list[Part]) -> None:
        super().__init__(where)
        self._file, self._parts = file, found
        self.n_samples = None
        self._seconds: list[float | None] = []  # that the containers state
        self._arrays = self._decoded(found[0])
        self._first = next(self._arrays, None)  # only a frame knows its channels
        self.channels = 1 if self._first is None else len(self._first)
        self.n_first = 0 if self._first is None else self._first.shape[1]

    def _decoded(self, part: Part) -> Iterator[np.ndarray]:
        """(C, t) float32 each."""
        import av

        count = 0
        try:
            with av.open(View(self._file, part.start, part.end), "r") as container:
                if not container.streams.audio:
                    raise _undecodable(self.where, "it holds no audio stream", part)
                stream = container.streams.audio[0]
                if stream.codec_context is None or not stream.rate:
                    raise _undecodable(self.where, "its codec is not known", part)
                if not self._seconds:
                    self.rate = int(stream.rate)
                self._seconds.append(_stated_seconds(container, stream))
                to_float = av.AudioResampler(format="fltp", rate=self.rate)  # the layout stays
                for frame in container.decode(stream):
                    for out in to_float.resample(frame):
                        count += out.samples
                        yield out.to_ndarray()
                for out in to_float.resample(None):
                    yield out.to_ndarray()
        except (av.FFmpegError, ValueError) as e:
            if not (part.missing and count):  # of a file that was cut, the last frame may be half a one
                raise _undecodable(self.where, e, part) from e

    def pieces(self, n: int) -> Iterator[np.ndarray]:
        decoded = 0
        for array in [] if self._first is None else _chained(self._first, self._arrays):
            decoded += array.shape[1]
            yield np.ascontiguousarray(array.T, dtype=np.float32)
        first = decoded
        for part in self._parts[1:]:
            for array in self._decoded(part):
                if len(array) != self.channels:
                    unlike = f"it holds recordings of {self.channels} and of {len(array)} channels"
                    raise _undecodable(self.where, unlike, part)
                decoded += array.shape[1]
                yield np.ascontiguousarray(array.T, dtype=np.float32)
        self.warnings += _cut_off(self._parts)
        stated = first / self.rate if len(self._parts) > 1 else self._seconds[0] if self._seconds else None
        if not self.warnings and stated and abs(stated - decoded / self.rate) > STATED_SECONDS:
            several = f" ({len(self._parts)} recordings, one after the other)" if len(self._parts) > 1 else ""
            self.warnings.append(_length_sentence(stated, decoded / self.rate) + several)


def _chained(first: np.ndarray, others: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from others


def _stated_seconds(container: Any, stream: Any) -> float | None:
    """The duration that the container states; None where FFmpeg would only estimate it, or where it is that of a picture."""
    name = container.format.name
    if "mp4" in name and stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if "matroska" in name and container.duration is not None and len(container.streams) == 1:
        return float(container.duration / 1_000_000)
    return None


@contextmanager
def _open_av(file: BinaryIO, where: str, found: list[Part]) -> Iterator[_Av]:
    try:
        import av  # noqa: F401
    except ModuleNotFoundError as e:
        raise AudioError(f"{where} needs FFmpeg's libraries to decode. Install them with: pip install 'urgentmos[av]'") from e
    yield _Av(where, file, found)
