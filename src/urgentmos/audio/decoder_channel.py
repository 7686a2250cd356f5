"""Messages to and from decoding processes: a letter, a length and that many bytes; nothing in them is executed."""

from __future__ import annotations

import struct
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
