"""Files that are views of other files, to read and seek in."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

IN_MEMORY = 64 << 20  # bytes; a larger file is read piece by piece where it lies


class View(io.RawIOBase):
    """A file with a position of its own; a subclass knows its size and reads bytes from a position on."""

    _at = 0

    def size(self) -> int:
        """Bytes in all."""
        raise NotImplementedError

    def bytes_at(self, start: int, count: int) -> bytes:
        """The `count` bytes from `start` on, which all lie before the end."""
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The new position; one before the start is the start, since decoders in C cannot handle an exception here."""
        base = 0 if whence == io.SEEK_SET else self._at if whence == io.SEEK_CUR else self.size()
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self.size() - self._at))
        data = self.bytes_at(self._at, count) if count else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class Slice(View):
    """`size` bytes of an open file from `start` on, as a file of their own; closes what it reads from."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size = file, start, size

    def size(self) -> int:
        return self._size

    def bytes_at(self, start: int, count: int) -> bytes:
        self._file.seek(self._start + start)
        return self._file.read(count)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
