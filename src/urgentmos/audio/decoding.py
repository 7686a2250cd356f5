"""A place -> blocks of samples, once from start to end: the only decoder. What was wrong with the file is known at its end.

libsndfile and FFmpeg decode; how long a recording is, and whether it is complete, is read from its own bytes (`containers`),
since the promised number of samples may be 0, too small or too large, and a file may hold several recordings.

The usual containers are decoded by libsndfile in this process. All others, and MP3, whose decoder prints to the terminal, go
to a process of the pool (`decoder_pool`), where a decoder that crashes, hangs or grows costs one clip.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from urgentmos.audio import ffmpeg, frames
from urgentmos.audio.containers import MOST_PARTS, Part, TooManyParts, TooManySteps, parts
from urgentmos.audio.libsndfile import UNKNOWN_LENGTH, SoundStream
from urgentmos.audio.places import check_local, is_elsewhere, opened
from urgentmos.audio.streams import Stream, check_form
from urgentmos.common.retries import is_passing
from urgentmos.errors import AudioError

__all__ = ["AUDIO_ENDINGS", "AUDIO_SUFFIXES", "AV_SUFFIXES", "PIECE", "UNKNOWN_LENGTH", "Stream", "open_stream"]

AV_SUFFIXES = frozenset({".m4a", ".mp4", ".aac", ".amr", ".webm", ".mka", ".wma", ".3gp"})
AUDIO_SUFFIXES = (
    frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au", ".caf", ".w64", ".rf64"}) | AV_SUFFIXES
)
AUDIO_ENDINGS = " ".join(sorted(AUDIO_SUFFIXES))  # for messages
PIECE = 1 << 16  # samples that are read at a time where only their number matters
NEAR_STEPS = 100_000  # pieces of a file that are looked at in this process

# First bytes of the containers that libsndfile decodes in this process, whatever their names; tests/fuzz mutates files of each.
SOUND_FILES = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff", b"fLaC", b"OggS", b"FORM", b"caff", b".snd", b"NIST_1A")


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
        if head.startswith(SOUND_FILES) and frames.walker_of(head) is None:
            stream = stack.enter_context(_near(source, file, where))
        else:
            stream = stack.enter_context(_far(file, where, by_ffmpeg=False, suffix=suffix))
        check_form(where, stream.rate, stream.channels)
        yield stream


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


@contextmanager
def _near(source: str | BinaryIO, file: BinaryIO, where: str) -> Iterator[Stream]:
    """By libsndfile, or by FFmpeg's libraries if they are there and libsndfile does not know what is inside."""
    with ExitStack() as stack:
        stream: Stream
        try:
            recordings = _parts(file, where, NEAR_STEPS)
        except TooManySteps:
            yield stack.enter_context(_far(file, where, by_ffmpeg=False))
            return
        try:
            sound = SoundStream(where, source, file, recordings)
        except AudioError as e:
            stream = _spare(stack, file, where, e)
        else:
            stack.callback(sound.close)
            stream = sound
        yield stream


def _spare(stack: ExitStack, file: BinaryIO, where: str, error: AudioError) -> Stream:
    """The stream of FFmpeg's libraries for a file that libsndfile refused with `error`; raises `error` if they do, too."""
    try:
        return stack.enter_context(_far(file, where, by_ffmpeg=True))
    except AudioError as e:
        raise (e if is_passing(str(e)) else error) from None


@contextmanager
def _far(file: BinaryIO, where: str, by_ffmpeg: bool, suffix: str = "") -> Iterator[Stream]:
    """By a process of the pool."""
    from urgentmos.audio import decoder_pool

    needs_ffmpeg = by_ffmpeg or suffix in AV_SUFFIXES or frames.walker_of(_head(file)) is not None
    if needs_ffmpeg and not ffmpeg.installed():
        raise ffmpeg.missing_libraries(where)
    with decoder_pool.open_stream(file, where, by_ffmpeg) as stream:
        yield stream


def _parts(file: BinaryIO, where: str, steps: int | None = None) -> list[Part]:
    try:
        return parts(file, steps)
    except TooManyParts:
        raise AudioError(f"{where} holds more than {MOST_PARTS} recordings, one after the other. Split it") from None


def _head(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(64)


@contextmanager
def open_here(file: BinaryIO, where: str, by_ffmpeg: bool) -> Iterator[Stream]:
    """A recording that is no usual one, decoded in this process: called in the processes of the pool.

    `by_ffmpeg`: libsndfile has refused it.
    """
    container = ffmpeg.demuxer(file)
    recordings = _parts(file, where)
    if container is not None and (by_ffmpeg or not _head(file).startswith(SOUND_FILES)):
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
