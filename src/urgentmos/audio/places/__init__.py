"""Where a recording lies: a file, an object behind a URL, a member of a tar shard, a cell of a Parquet file.

A clip's audio_path says it in one string, its place:

    utt1.wav                          a file of this machine
    s3://bucket/sysA/utt1.wav         an object (http, https, s3, gs, hf)
    shard-000.tar#sysA/utt1.flac      a member of a tar, plain or compressed, or of a zip
    train-0.parquet#audio[17]         the cell of a column and a row, counted from 0

The archive and the Parquet file may themselves be behind a URL. Whatever reads sound asks `opened` or `open_audio`, and gets
bytes that it can seek in. The name of an archive's member is never used as a path.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urlsplit

from urgentmos.common.names import advice, is_utf8
from urgentmos.common.retries import AGAIN, may_pass, retried
from urgentmos.errors import AudioError, UsageError

IN_MEMORY = 64 << 20  # bytes; what is larger is read piece by piece where it lies
KEEP_BYTES, KEEP_SECONDS = 32 << 20, 30.0  # a header is read before the samples: what was fetched is kept for that long
WEB = ("http", "https")
COMPRESSED_TAR_ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
TAR_ENDINGS = (".tar", *COMPRESSED_TAR_ENDINGS)
ZIP_ENDINGS = (".zip",)
ARCHIVE_ENDINGS = (*TAR_ENDINGS, *ZIP_ENDINGS)
PARQUET_ENDINGS = (".parquet", ".pq")

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")
_SQUEEZED = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):/+")  # what pathlib leaves of it
_HOLDERS = "|".join(re.escape(ending) for ending in (*ARCHIVE_ENDINGS, *PARQUET_ENDINGS))
_INSIDE = re.compile(rf"(?P<file>.+?(?:{_HOLDERS}))#(?P<member>.+)", re.DOTALL | re.IGNORECASE)
_CELL = re.compile(r"(?P<column>.+)\[(?P<row>\d+)\]", re.DOTALL)


class Place(NamedTuple):
    """`file` is a path or a URL; `member` is "" for all of it, an archive's member, or COLUMN[ROW] of a Parquet file."""

    file: str
    member: str = ""

    @property
    def remote(self) -> bool:
        return scheme_of(self.file) is not None


# ---- names


def scheme_of(path: str) -> str | None:
    """The scheme of a URL in small letters; None for a path."""
    match = _URL.match(path)
    return match[1].lower() if match else None


def input_name(name: str | os.PathLike[str]) -> str:
    """What a user named: a path or a URL. file:// is a path; a Path that was made of a URL is mended."""
    text = os.fspath(name)
    if not isinstance(name, str) and (match := _SQUEEZED.match(text)) and not os.path.lexists(text):
        from urgentmos.audio.places.remote import SCHEMES

        if match[1].lower() in SCHEMES:
            text = f"{match[1]}://{text[match.end() :]}" if match[1] != "file" else f"file:///{text[match.end() :]}"
    if scheme_of(text) == "file":
        return text.split("://", 1)[1].removeprefix("localhost")
    return text


def place_of(path: str) -> Place:
    """The place that an audio_path names. A file of this machine with that very name comes first."""
    match = _INSIDE.fullmatch(path)
    if match is None or os.path.lexists(path):
        return Place(path)
    return Place(match["file"], match["member"])


def is_elsewhere(path: str) -> bool:
    """True unless `path` names a file of this machine: then the disk cannot be asked about it."""
    place = place_of(path)
    return bool(place.member) or place.remote


def inside(path: str) -> str:
    """The part of an audio_path that names the recording: a member, or the path itself."""
    return place_of(path).member or path


def suffix_of(path: str) -> str:
    """The ending that tells the format, in small letters: of the member, or of a URL without its query. "" for a cell."""
    place = place_of(path)
    if place.member:
        return "" if place.file.lower().endswith(PARQUET_ENDINGS) else PurePosixPath(place.member).suffix.lower()
    name = urlsplit(path).path if scheme_of(path) in WEB else path
    return os.path.splitext(name)[1].lower()


def file_name(path: str) -> str:
    """The last part of a path, or of a URL without its query."""
    return (urlsplit(path).path if scheme_of(path) in WEB else path).rstrip("/").rsplit("/", 1)[-1]


def is_archive(path: str) -> bool:
    """Whether the name is that of an archive whose members are read in place."""
    return file_name(path).lower().endswith(ARCHIVE_ENDINGS)


def joined(folder: str, path: str) -> str:
    """`path` as a manifest in `folder` means it: a URL and an absolute path are themselves."""
    if scheme_of(path) is not None:
        return path if scheme_of(path) != "file" else input_name(path)
    if scheme_of(folder) is None or os.path.isabs(path):
        return os.path.join(folder, path)
    return f"{folder.rstrip('/')}/{path}"


def cell_of(place: Place) -> tuple[str, int]:
    """(column, row) of a place in a Parquet file; AudioError if it names none."""
    match = _CELL.fullmatch(place.member)
    if match is None:
        raise AudioError(f"{place.file}#{place.member} names no cell. Write FILE.parquet#COLUMN[ROW], rows counted from 0")
    return match["column"], int(match["row"])


# ---- bytes


@contextmanager
def opened(path: str) -> Iterator[tuple[str | BinaryIO, str]]:
    """(what a decoder opens, the ending that tells its format): the path itself for a file of this machine.

    A file whose name is not UTF-8 is opened here, because libsndfile and FFmpeg want its name as text.
    AudioError says why there are no bytes, also where they stop coming while a decoder reads them.
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
    """AudioError if a file of this machine does not exist, or if the system does not give its first byte.

    A failure that may pass, of a network's file system say, is tried again.
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
    """The bytes of a recording, wherever it lies, as a file that can be read and sought in. AudioError if there are none.

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
    found = _open(place, path)
    if isinstance(found, bytes):
        if not found:
            raise AudioError(f"{path} is empty (0 bytes). Record or copy it again")
        _kept.put(path, found)
        return io.BytesIO(found)
    return found


def _open(place: Place, path: str) -> bytes | BinaryIO:
    from urgentmos.audio.places import archives, parquet, remote

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
    """A cell has no name that could be trusted: its first bytes say whether FFmpeg's libraries are needed."""
    suffix = suffix_of(path)
    if suffix or not (place := place_of(path)).member:
        return suffix
    from urgentmos.audio.places import parquet

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


class Slice(io.RawIOBase):
    """`size` bytes of an open file from `start` on, as a file of their own; closes what it reads from."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("a position before the start of the recording")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._size - self._at))
        if wanted == 0:
            return 0
        self._file.seek(self._start + self._at)
        data = self._file.read(wanted)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class _Guarded(io.RawIOBase):
    """A file for a decoder: where its bytes stop coming it ends, and `failure` says why; a decoder in C would go on."""

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


# ---- what is asked about a place without opening it


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
        from urgentmos.audio.places import archives

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
        from urgentmos.audio.places import remote

        return [path, *(remote.stamp(place.file) if place.member else (None, None))]
    return [path, *local_stamp(place.file)]


def local_stamp(file: str) -> tuple[int | None, int | None]:
    """(size, time of change in ns) of a file of this machine; None twice if it cannot be asked."""
    try:
        state = os.stat(file)
    except (OSError, ValueError):
        return None, None
    return state.st_size, state.st_mtime_ns


def open_file(file: str) -> BinaryIO:
    """The archive or Parquet file, behind a URL or on this machine, to seek in: a compressed tar as the tar in it.

    OSError or UsageError if it cannot be read.
    """
    if file_name(file).lower().endswith(COMPRESSED_TAR_ENDINGS):
        from urgentmos.audio.places import compressed

        return compressed.open_tar(file)
    return open_stored(file)


def open_stored(file: str) -> BinaryIO:
    """The bytes of a file as they are stored, behind a URL or on this machine, to seek in."""
    if scheme_of(file) is None:
        return open(file, "rb")
    from urgentmos.audio.places import remote

    return remote.seekable(file)


def stamp_of(file: str) -> tuple[Any, Any]:
    """Changes whenever the file changes; of a URL it is asked once per process."""
    from urgentmos.audio.places import remote

    return local_stamp(file) if scheme_of(file) is None else remote.stamp(file)


# ---- patterns

_BRACES = re.compile(r"\{([^{}]*)\}")
MAX_NAMES = 100_000  # that one pattern may stand for


def expand(pattern: str) -> list[str]:
    """`shards-{000..003}.tar` and `{a,b}.tar` -> names in that order, as bash does it; anything else is itself."""
    names = [pattern]
    while any(match := _BRACES.search(name) for name in names):
        grown: list[str] = []
        for name in names:
            match = _BRACES.search(name)
            choices = list(_choices(match[1])) if match else [""]
            if len(grown) + len(choices) > MAX_NAMES or len(names) * len(choices) > MAX_NAMES:
                raise UsageError(f"{pattern}: stands for more than {MAX_NAMES} names. Give several patterns.")
            grown += [name[: match.start()] + choice + name[match.end() :] for choice in choices] if match else [name]
        names = grown
    return names


def _choices(text: str) -> Iterable[str]:
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if ends is None:
        return text.split(",")
    low, high = int(ends[1]), int(ends[2])
    if abs(high - low) >= MAX_NAMES:
        raise UsageError(f"{{{text}}}: stands for more than {MAX_NAMES} names. Give several patterns.")
    width = max(len(ends[1]), len(ends[2])) if "0" in (ends[1][0], ends[2][0]) else 0
    step = 1 if low <= high else -1
    return [str(number).zfill(width) for number in range(low, high + step, step)]
