"""Opening a place: the bytes of a recording wherever it lies, and facts about a place without opening it."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from urgentmos.audio.formats import PARQUET_ENDINGS
from urgentmos.audio.places import archives, parquet, remote
from urgentmos.audio.places.names import Place, cell_of, is_archive, is_elsewhere, place_of, suffix_of
from urgentmos.audio.places.stored import local_stamp
from urgentmos.common.names import advice, is_utf8
from urgentmos.common.retries import AGAIN, may_pass, retried
from urgentmos.errors import AudioError, UsageError

KEEP_BYTES, KEEP_SECONDS = 32 << 20, 30.0  # a header is read before the samples: what was fetched is kept for that long


@contextmanager
def opened(path: str) -> Iterator[tuple[str | BinaryIO, str]]:
    """(path or file for a decoder, ending that names its format): the path itself for a local file.

    A file whose name is not UTF-8 is opened here, because libsndfile and FFmpeg want its name as text.
    AudioError if there are no bytes, also where they stop coming while a decoder reads them.
    """
    if not is_elsewhere(path) and is_utf8(path):
        yield path, os.path.splitext(path)[1].lower()
        return
    with open_audio(path) as file:
        if isinstance(file, io.BytesIO):
            yield file, _kept_suffix(path)
            return
        guarded = _Guarded(file, path)
        try:
            yield guarded, _kept_suffix(path)  # type: ignore[misc]
        finally:
            if guarded.failure is not None:  # a decoder takes it for the end of the file
                raise guarded.failure


def check_local(path: str) -> None:
    """AudioError if a local file does not exist, or if its first byte cannot be read.

    Passing failures, such as those of network file systems, are retried.
    """

    def first_byte() -> bytes:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a folder, or a pipe that would wait for ever
            return b""
        with open(path, "rb", buffering=0) as file:
            return file.read(1)

    try:
        retried(first_byte)
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError(f"{path} does not exist. {advice(path)}") from None
    except PermissionError:
        raise AudioError(f"{path} may not be read. Change its permissions, then {AGAIN}") from None
    except (OSError, ValueError) as e:
        if getattr(e, "errno", None) == errno.ELOOP:
            raise AudioError(f"{path} does not exist: its links lead in a circle. Copy the file itself") from None
        raise AudioError(_unreadable(path, e)) from None


def _unreadable(path: str, error: Exception) -> str:
    """The sentence for a file of this machine that the system does not give."""
    why = getattr(error, "strerror", None) or str(error)
    if may_pass(error):
        return f"{path} cannot be read ({why}). Check the disk or the network that it lies on, then {AGAIN}"
    return f"{path} cannot be read ({why}). Check the path and its permissions"


def open_audio(path: str) -> BinaryIO:
    """Open the bytes of a recording in any place as a seekable file. AudioError if there are none.

    At most IN_MEMORY bytes are held in memory; a larger recording is read piece by piece.
    """
    place = place_of(path)
    if not is_elsewhere(path):
        check_local(path)
        try:
            return open(path, "rb")
        except OSError as e:
            raise AudioError(_unreadable(path, e)) from None
    kept = _kept.get(path)
    if kept is not None:
        return io.BytesIO(kept)
    content = _open(place, path)
    if isinstance(content, bytes):
        if not content:
            raise AudioError(f"{path} is empty (0 bytes). Record or copy it again")
        _kept.put(path, content)
        return io.BytesIO(content)
    return content


def _open(place: Place, path: str) -> bytes | BinaryIO:
    try:
        if not place.member:
            return remote.fetch(place.file)
        if place.file.lower().endswith(PARQUET_ENDINGS):
            return parquet.sound(place.file, *cell_of(place))
        return archives.member(place.file, place.member)
    except UsageError as e:  # a package that is missing, an archive that is none: one clip's fault when it is only opened now
        raise AudioError(str(e).rstrip(".")) from e
    except OSError as e:
        cure = f"Check that {place.file} is there and whole" + (f", then {AGAIN}" if may_pass(e) else "")
        raise AudioError(f"{path} cannot be read ({e.strerror or e}). {cure}") from e


def _kept_suffix(path: str) -> str:
    """A cell has no name to rely on: its first bytes show whether FFmpeg's libraries are needed."""
    suffix = suffix_of(path)
    if suffix or not (place := place_of(path)).member:
        return suffix
    return parquet.suffix_of(place.file, *cell_of(place))


class _Kept:
    """The recordings that were fetched last, so that reading the header and then the samples costs one transfer."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: str) -> bytes | None:
        with self._lock:
            since, data = self._held.get(path, (0.0, None))
            return data if time.monotonic() - since < KEEP_SECONDS else None

    def put(self, path: str, data: bytes) -> None:
        with self._lock:
            self._held.pop(path, None)
            self._held[path] = (time.monotonic(), data)
            while len(self._held) > 1 and sum(len(held) for _, held in self._held.values()) > KEEP_BYTES:
                self._held.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._held.clear()


_kept = _Kept()


class _Guarded(io.RawIOBase):
    """A file for a decoder: where its bytes stop coming it ends, and `failure` holds the reason; a decoder in C would go on."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        super().__init__()
        self._file, self._path = file, path
        self.failure: AudioError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        if self.failure is not None:
            return 0
        try:
            data = self._file.read(len(buffer))
        except (AudioError, UsageError) as e:
            self.failure = AudioError(str(e).rstrip("."))
            return 0
        except (OSError, ValueError) as e:
            self.failure = AudioError(_unreadable(self._path, e))
            return 0
        buffer[: len(data)] = data
        return len(data)


# ---- facts about a place without opening it


def fault(path: str) -> tuple[str, str] | None:
    """(kind, sentence) if no sound can lie at a place of this machine; None if it may, or lies behind a URL."""
    place = place_of(path)
    if place.remote:
        return None
    try:
        if not stat.S_ISREG(os.stat(place.file).st_mode):
            return "missing file", f"{place.file} is no file"
    except (FileNotFoundError, NotADirectoryError):
        return "missing file", f"{place.file} does not exist"
    except (OSError, ValueError) as e:
        return "missing file", _unreadable(place.file, e)
    if place.member and is_archive(place.file):
        try:
            size = archives.size_of(place.file, place.member)
        except (AudioError, UsageError) as e:
            return "missing file", str(e)
        return None if size else ("empty file", f"{path} has 0 bytes")
    return None


def fingerprint(path: str | None) -> list[Any]:
    """[path, size, time of change] for a journal: of the archive or Parquet file that holds a recording.

    An object behind a URL of its own is known by its URL alone: asking for each would take a request.
    """
    if path is None:
        return [None, None, None]
    place = place_of(path)
    if place.remote:
        return [path, *(remote.stamp(place.file) if place.member else (None, None))]
    return [path, *local_stamp(place.file)]
