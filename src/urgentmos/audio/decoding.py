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

from urgentmos.audio import decoder_pool, ffmpeg, frames
from urgentmos.audio.containers import TooManySteps
from urgentmos.audio.decoders import SOUND_FILES, head_of, recordings_in
from urgentmos.audio.formats import AV_SUFFIXES
from urgentmos.audio.libsndfile import SoundStream
from urgentmos.audio.places.names import is_elsewhere
from urgentmos.audio.places.opening import check_local, opened
from urgentmos.audio.streams import Stream, check_form
from urgentmos.common.retries import is_passing
from urgentmos.errors import AudioError

PIECE = 1 << 16  # samples that are read at a time where only their number matters
NEAR_STEPS = 100_000  # pieces of a file that are looked at in this process


@contextmanager
def open_stream(path: str | os.PathLike[str]) -> Iterator[Stream]:
    """Open a recording in any place for reading. AudioError with the decoder's reason if it is none."""
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
    if is_elsewhere(where):  # opening it raises the error
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
            recordings = recordings_in(file, where, NEAR_STEPS)
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
    needs_ffmpeg = by_ffmpeg or suffix in AV_SUFFIXES or frames.walker_of(head_of(file)) is not None
    if needs_ffmpeg and not ffmpeg.installed():
        raise ffmpeg.missing_libraries(where)
    with decoder_pool.open_stream(file, where, by_ffmpeg) as stream:
        yield stream
