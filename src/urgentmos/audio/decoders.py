"""The decoders of this process: libsndfile, and FFmpeg's libraries for what libsndfile does not read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from urgentmos.audio import ffmpeg
from urgentmos.audio.containers import MOST_PARTS, Part, TooManyParts, parts
from urgentmos.audio.libsndfile import SoundStream
from urgentmos.audio.streams import Stream
from urgentmos.errors import AudioError

# First bytes of the containers that libsndfile decodes in this process, under any name; tests/fuzz mutates files of each.
SOUND_FILES = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff", b"fLaC", b"OggS", b"FORM", b"caff", b".snd", b"NIST_1A")


def recordings_in(file: BinaryIO, where: str, steps: int | None = None) -> list[Part]:
    try:
        return parts(file, steps)
    except TooManyParts:
        raise AudioError(f"{where} holds more than {MOST_PARTS} recordings, one after the other. Split it") from None


def head_of(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(64)


@contextmanager
def open_here(file: BinaryIO, where: str, by_ffmpeg: bool) -> Iterator[Stream]:
    """A recording that is no usual one, decoded in this process: called in the processes of the pool.

    `by_ffmpeg`: libsndfile has refused it.
    """
    container = ffmpeg.demuxer(file)
    recordings = recordings_in(file, where)
    if container is not None and (by_ffmpeg or not head_of(file).startswith(SOUND_FILES)):
        stream = ffmpeg.AvStream(where, file, recordings, container)
        if by_ffmpeg and not stream.holds_samples:
            raise AudioError(f"{where} holds no samples")
        yield stream
    else:
        sound = SoundStream(where, file, file, recordings)
        try:
            yield sound
        finally:
            sound.close()
