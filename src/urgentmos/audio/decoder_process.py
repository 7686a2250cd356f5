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
import sys
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from urgentmos.audio import decoder_channel as protocol


class ComputingTime:
    """Ends the process (SIGXCPU) once it has computed for longer than the sound that came of it allows."""

    def __init__(self, size: int) -> None:
        """`size`: bytes of the file."""
        self._limit = time.process_time() + protocol.SECONDS + protocol.SECONDS_PER_MEGABYTE * size / 1e6

    def allow(self, seconds: float) -> None:
        """Allow the computing time of the file, and that of so many seconds of sound."""
        try:
            import resource
        except ModuleNotFoundError:  # Windows: the other side still has its deadline
            return
        limit = int(self._limit + protocol.SECONDS_PER_SECOND * seconds) + 1
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def limit_memory() -> None:
    """protocol.MEMORY beside what this process takes now; no core files, no files written."""
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
    most = taken + protocol.MEMORY
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def serve(channel: protocol.Channel) -> None:
    """Answers questions until there are none."""
    while (message := channel.receive()) is not None:
        letter, content = message
        if letter in (protocol.FILE, protocol.BYTES):
            _open(channel, letter, content)
        elif letter == protocol.CLOSE:
            channel.send(protocol.CLOSED)


def _open(channel: protocol.Channel, letter: bytes, content: bytes) -> None:
    """One recording from its opening to its end, to an error, or to the question that closes it."""
    from urgentmos.common.untrusted import reason
    from urgentmos.errors import AudioError

    head, _, rest = content.partition(b"\n")
    job = json.loads(head)
    try:
        with io.BytesIO(rest) if letter == protocol.BYTES else open(os.fsdecode(rest), "rb") as file:
            _stream(channel, file, job["where"], job["by_ffmpeg"])
    except AudioError as e:
        channel.send(protocol.ERROR, str(e).encode("utf-8", "surrogateescape"))
    except MemoryError:
        channel.send(protocol.ERROR, _failure(job["where"], protocol.TOO_LARGE))
    except OSError as e:
        is_memory = e.errno == errno.ENOMEM
        channel.send(protocol.ERROR, _failure(job["where"], protocol.TOO_LARGE if is_memory else e.strerror or str(e)))
    except Exception as e:  # a decoder's bug
        channel.send(protocol.ERROR, _failure(job["where"], reason(e)))


def _failure(where: str, reason: str) -> bytes:
    sentence = f"{where} cannot be decoded: {reason}. Check that it is audio, and export it again"
    return sentence.encode("utf-8", "surrogateescape")


def _stream(channel: protocol.Channel, file: BinaryIO, where: str, by_ffmpeg: bool) -> None:
    from urgentmos.audio.decoders import open_here

    computing = ComputingTime(file.seek(0, os.SEEK_END))
    computing.allow(0.0)
    with open_here(file, where, by_ffmpeg) as stream:
        channel.send(protocol.OPENED, json.dumps([stream.rate, stream.channels, stream.n_samples]).encode())
        blocks: Iterator[Any] | None = None
        seconds = 0.0
        while (message := channel.receive()) is not None and message[0] == protocol.NEXT:
            blocks = blocks or stream.blocks(int.from_bytes(message[1], "little"))
            block = next(blocks, None)
            if block is None:
                channel.send(protocol.END, json.dumps(stream.warnings).encode())
                return
            seconds += len(block) * stream.channels / stream.rate
            computing.allow(seconds)
            channel.send(protocol.BLOCK, block)
        channel.send(protocol.CLOSED)


def main() -> None:
    """Serves the process that started this one, and ends with it."""
    for name in ("SIGINT", "SIGTERM"):  # the other side ends with the group, and then this one's input ends
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    outgoing = os.fdopen(os.dup(1), "wb")
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)  # prints of libraries are no messages
    channel = protocol.Channel(sys.stdin.buffer, outgoing)
    _load_decoders()
    limit_memory()
    serve(channel)


def _load_decoders() -> None:
    from urgentmos.audio import decoders, ffmpeg  # noqa: F401

    if ffmpeg.installed():
        import av  # noqa: F401


if __name__ == "__main__":
    main()
