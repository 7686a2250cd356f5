"""A process that decodes recordings for another one, which survives it: jobs on standard input, samples on standard output.

It is started by `decoder_pool`. What it may use of the machine is limited by the kernel: memory, and computing time by the
sound that comes of it. Messages are a letter, a length and that many bytes; nothing in them is executed.
"""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

HEAD = struct.Struct("<cQ")  # the letter of a message, and the length of what follows
FILE, BYTES, NEXT, CLOSE = b"F", b"D", b"N", b"C"  # questions
OPENED, BLOCK, END, ERROR, CLOSED = b"O", b"B", b"E", b"X", b"Z"  # answers

MEMORY = 1 << 30  # bytes, beside what the empty process takes
SECONDS = 5.0  # of computing, for a file of which nothing comes
SECONDS_PER_MEGABYTE = 0.1  # of computing, for each of its file
SECONDS_PER_SECOND = 0.05  # of computing, for each second of sound of a channel
TOO_LARGE = f"decoding it takes more than {MEMORY >> 30} GB of memory"


class Channel:
    """Messages over two files."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming, self._outgoing = incoming, outgoing

    def receive(self) -> tuple[bytes, bytes] | None:
        """The next message; None once there will be none."""
        head = self._incoming.read(HEAD.size)
        if len(head) < HEAD.size:
            return None
        letter, length = HEAD.unpack(head)
        content = self._incoming.read(length)
        return (letter, content) if len(content) == length else None

    def send(self, letter: bytes, *parts: Any) -> None:
        """One message, its content in parts."""
        views = [memoryview(part).cast("B") for part in parts]
        self._outgoing.write(HEAD.pack(letter, sum(map(len, views))))
        for view in views:
            self._outgoing.write(view)
        self._outgoing.flush()


class ComputingTime:
    """Ends the process (SIGXCPU) once it has computed for longer than the sound that came of it allows."""

    def __init__(self, size: int) -> None:
        """`size`: bytes of the file."""
        self._limit = time.process_time() + SECONDS + SECONDS_PER_MEGABYTE * size / 1e6

    def allow(self, seconds: float) -> None:
        """Allow the computing time of the file, and that of so many seconds of sound."""
        try:
            import resource
        except ModuleNotFoundError:  # Windows: the other side still has its deadline
            return
        limit = int(self._limit + SECONDS_PER_SECOND * seconds) + 1
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def limit_memory() -> None:
    """MEMORY beside what this process takes now; no core files, no files written."""
    try:
        import resource
    except ModuleNotFoundError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    try:
        with open("/proc/self/statm", "rb") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # not Linux
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = taken + MEMORY
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def serve(channel: Channel) -> None:
    """Answers questions until there are none."""
    while (message := channel.receive()) is not None:
        letter, content = message
        if letter in (FILE, BYTES):
            _open(channel, letter, content)
        elif letter == CLOSE:
            channel.send(CLOSED)


def _open(channel: Channel, letter: bytes, content: bytes) -> None:
    """One recording from its opening to its end, to an error, or to the question that closes it."""
    from urgentmos.common.untrusted import reason
    from urgentmos.errors import AudioError

    head, _, rest = content.partition(b"\n")
    job = json.loads(head)
    try:
        with io.BytesIO(rest) if letter == BYTES else open(os.fsdecode(rest), "rb") as file:
            _stream(channel, file, job["where"], job["by_ffmpeg"])
    except AudioError as e:
        channel.send(ERROR, str(e).encode("utf-8", "surrogateescape"))
    except MemoryError:
        channel.send(ERROR, _failure(job["where"], TOO_LARGE))
    except OSError as e:
        is_memory = e.errno == errno.ENOMEM
        channel.send(ERROR, _failure(job["where"], TOO_LARGE if is_memory else e.strerror or str(e)))
    except Exception as e:  # a decoder's bug
        channel.send(ERROR, _failure(job["where"], reason(e)))


def _failure(where: str, reason: str) -> bytes:
    sentence = f"{where} cannot be decoded: {reason}. Check that it is audio, and export it again"
    return sentence.encode("utf-8", "surrogateescape")


def _stream(channel: Channel, file: BinaryIO, where: str, by_ffmpeg: bool) -> None:
    from urgentmos.audio.decoding import open_here

    computing = ComputingTime(file.seek(0, os.SEEK_END))
    computing.allow(0.0)
    with open_here(file, where, by_ffmpeg) as stream:
        channel.send(OPENED, json.dumps([stream.rate, stream.channels, stream.n_samples]).encode())
        blocks: Iterator[Any] | None = None
        seconds = 0.0
        while (message := channel.receive()) is not None and message[0] == NEXT:
            blocks = blocks or stream.blocks(int.from_bytes(message[1], "little"))
            block = next(blocks, None)
            if block is None:
                channel.send(END, json.dumps(stream.warnings).encode())
                return
            seconds += len(block) * stream.channels / stream.rate
            computing.allow(seconds)
            channel.send(BLOCK, block)
        channel.send(CLOSED)


def main() -> None:
    """Serves the process that started this one, and ends with it."""
    for name in ("SIGINT", "SIGTERM"):  # whoever ends the group ends the other side, and then this one's input ends
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    outgoing = os.fdopen(os.dup(1), "wb")
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)  # whatever a library prints is no message
    channel = Channel(sys.stdin.buffer, outgoing)
    _load_decoders()
    limit_memory()
    serve(channel)


def _load_decoders() -> None:
    from urgentmos.audio import (
        decoding,  # noqa: F401
        ffmpeg,
    )

    if ffmpeg.installed():
        import av  # noqa: F401


if __name__ == "__main__":
    main()
