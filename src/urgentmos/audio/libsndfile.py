"""Recordings that libsndfile decodes: WAV, FLAC, Ogg, MP3, AIFF, CAF, AU and its rarer containers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from typing import Any, BinaryIO

import numpy as np

from urgentmos.audio import frames
from urgentmos.audio.containers import Part, PartView
from urgentmos.audio.streams import Stream, counted_channels, cut_off, length_sentence, undecodable
from urgentmos.common.clip_warnings import LENGTH
from urgentmos.errors import AudioError

UNKNOWN_LENGTH = 2**62  # samples; libsndfile promises more where a header does not know, as in a FLAC from a pipe
FINE = 256  # samples, to find a fault


@cache
def _forward_type() -> Any:
    """SoundFile that only reads on: its seeking behind every read would upset the decoder of MP3."""
    import soundfile

    class Forward(soundfile.SoundFile):  # type: ignore[misc]
        def seekable(self) -> bool:
            return False

    return Forward


class SoundStream(Stream):
    """A recording decoded by libsndfile: the parts of a file, one after the other."""

    def __init__(self, where: str, source: str | BinaryIO, file: BinaryIO, recordings: list[Part]) -> None:
        super().__init__(where)
        self._source, self._file, self._parts = source, file, recordings
        self._open = self._start(recordings[0])
        self.rate, self.channels = self._open.samplerate, self._open.channels
        self._lengths = [self._open.frames]
        self._unlike = ""
        for number, part in enumerate(recordings[1:], start=2):
            with self._start(part) as own:
                if (own.samplerate, own.channels) != (self.rate, self.channels):
                    form = f"{own.samplerate} Hz and {counted_channels(own.channels)}"
                    self._unlike = f"recording {number} of {len(recordings)} in it has {form}"
                    break
                self._lengths.append(own.frames)
        is_counted = all(length < UNKNOWN_LENGTH for length in self._lengths)
        self.n_samples = sum(self._lengths) if is_counted else None

    def _start(self, part: Part) -> Any:
        """The part, opened; by its path where that is possible, which is faster."""
        import soundfile

        target: Any
        if isinstance(self._source, str) and len(self._parts) == 1 and part.plain and part.start == 0:
            target = os.fsencode(self._source)  # soundfile itself stumbles over a name that is not UTF-8
        else:
            target = PartView(self._file, part.start, part.end, part.patches, part.prefix)
        try:
            return _forward_type()(target)
        except (soundfile.LibsndfileError, RuntimeError) as e:
            raise undecodable(self.where, _reason(e), part) from e

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
        """How many samples of a part come before its fault: libsndfile does not report where in a piece it stopped."""
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
        cut = cut_off(self._parts[: len(done)])
        return cut if cut and not any(done[1:]) else cut + self._length(done)

    def _length(self, done: list[int]) -> list[str]:
        if self._unlike:
            return [f"{LENGTH}: {self._unlike}; only what stands before it was read. Split the file"]
        shares = [part.promised for part in self._parts[: len(done)]]
        if len(done) == 1 and shares[0] is None:
            return []
        first = done[0] * (1.0 if shares[0] is None else shares[0])
        several = f" ({len(done)} recordings, one after the other)" if len(done) > 1 else ""
        return [length_sentence(first / self.rate, sum(done) / self.rate) + several]


# libsndfile's messages -> ours; for an MP3 without frames its message is that there is no file.
_REASONS = {
    "File does not exist": "it holds no audio that is known",
    "Format not recognised": "it holds no audio that is known",
    "Internal error : SF_INFO struct incomplete": "its header states no sampling rate or no channels",
}


def _reason(error: Exception) -> str:
    """The reason that libsndfile gives, without the path."""
    reason = str(error).split(": ", 1)[-1].strip().rstrip(".")
    return next((ours for theirs, ours in _REASONS.items() if reason.startswith(theirs)), reason)
