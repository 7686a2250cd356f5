"""A compressed tar as the tar in it: decompressed once per process, in order, into a nameless temporary file.

A recording in a compressed tar has no place of its own that could be read without all that precedes it. The temporary file
has no name in the file system and disappears with the process; room and size are checked as it grows.
"""

from __future__ import annotations

import atexit
import bz2
import gzip
import io
import lzma
import shutil
import tempfile
import threading
import zlib
from typing import IO, Any, BinaryIO, NamedTuple

from urgentmos.audio.places.stored import open_stored, stamp_of
from urgentmos.audio.places.views import View
from urgentmos.common.retries import AGAIN, may_pass
from urgentmos.errors import AudioError, UsageError

MAX_BYTES = 64 << 30  # of one tar
SUSPICIOUS_BYTES, SUSPICIOUS_RATIO = 1 << 30, 200  # recordings do not shrink like that, and bombs do
FREE_BYTES = 1 << 30  # that stay free for others
CHUNK = 1 << 20
CHECKED = 64 * CHUNK  # bytes between two looks at the room there is


class _Held(NamedTuple):
    """A decompressed tar; `lock` guards the position of `file`, which threads share."""

    stamp: Any
    file: IO[bytes]
    lock: threading.Lock


_held: dict[str, _Held] = {}
_lock = threading.Lock()


@atexit.register
def _close() -> None:
    for held in _held.values():
        held.file.close()
    _held.clear()


def open_tar(file: str) -> BinaryIO:
    """The tar in a compressed tar, to seek in; every call has a position of its own. UsageError if it cannot be had."""
    with _lock:
        stamp = stamp_of(file)
        held = _held.get(file)
        if held is None or held.stamp != stamp:
            held = _held[file] = _Held(stamp, _decompressed(file), threading.Lock())
    return io.BufferedReader(_View(held), 1 << 16)


def _decompressed(file: str) -> IO[bytes]:
    out = tempfile.TemporaryFile(prefix="urgentmos-")  # noqa: SIM115
    try:
        with open_stored(file) as source:
            size = source.seek(0, 2)
            source.seek(0)
            with _decompressor(file, source) as stream:
                _copy(file, stream, out, size)
    except BaseException:
        out.close()
        raise
    return out


def _copy(file: str, stream: IO[bytes], out: IO[bytes], size: int) -> None:
    """Bounded by what is sensible and by the room there is."""
    written = 0
    try:
        while chunk := stream.read(CHUNK):
            written += len(chunk)
            if written > MAX_BYTES or (written > SUSPICIOUS_BYTES and written > SUSPICIOUS_RATIO * size):
                raise UsageError(f"{file}: holds over {written >> 30} GB in {size >> 20} MB. If you trust it, {_unpack(file)}.")
            if written % CHECKED < CHUNK and shutil.disk_usage(tempfile.gettempdir()).free < FREE_BYTES:
                cure = f"{_unpack(file).capitalize()}, or make room and {AGAIN}"
                raise UsageError(f"{file}: {tempfile.gettempdir()} has no room to decompress it. {cure}.")
            out.write(chunk)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as e:
        why = "it is cut off" if isinstance(e, EOFError) else str(e)
        raise UsageError(f"{file}: is not a whole compressed tar ({why}). Copy it again.") from e
    except AudioError as e:
        raise UsageError(f"{e}.") from e
    except OSError as e:  # of bz2: data that are none; of the temporary file: no room
        why = e.strerror or str(e)
        cure = f"Make room and {AGAIN}" if may_pass(e) else "Copy it again"
        raise UsageError(f"{file}: cannot be decompressed ({why}). {cure}, or {_unpack(file)}.") from e


def _decompressor(file: str, source: BinaryIO) -> IO[bytes]:
    if file.lower().endswith((".gz", ".tgz")):
        return gzip.GzipFile(fileobj=source)  # type: ignore[return-value]
    return lzma.LZMAFile(source) if file.lower().endswith("xz") else bz2.BZ2File(source)


def _unpack(file: str) -> str:
    return f"unpack it (tar xf {file}) and give the folder"


class _View(View):
    """A decompressed tar with a position of its own."""

    def __init__(self, held: _Held) -> None:
        self._held = held

    def size(self) -> int:
        with self._held.lock:
            return self._held.file.seek(0, io.SEEK_END)

    def bytes_at(self, start: int, count: int) -> bytes:
        with self._held.lock:
            self._held.file.seek(start)
            return self._held.file.read(count)
