"""Files that appear whole or not at all, and names for what waits beside them; the floor that all shelves stand on.

Nothing else in the package opens a file for writing: a full disk, a limit or a file system that fails is met here, and the
file of an earlier run survives it.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from urgentmos.errors import UsageError

LONGEST_NAME = 255  # bytes, of most file systems
_HIDDEN = re.compile(r"\.(?P<name>.+)\.(partial|shards|[\d-]+\.tmp)", re.DOTALL)  # what `beside` makes
_numbers = count()


def beside(path: Path, ending: str) -> Path:
    """The hidden file for `path`, in the same folder: ".NAME.ENDING", with NAME cut short where a disk has no room for it."""
    name = f".{path.name}.{ending}"
    size = len(os.fsencode(name))
    if size > LONGEST_NAME:
        digest = f"{crc32(os.fsencode(path.name)):08x}"
        name = f".{os.fsdecode(os.fsencode(path.name)[:100])}-{digest}.{ending}"
    return path.with_name(name)


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place when all went well; pipes and devices are written directly.

    sync: wait until the disk has it, so that a power cut leaves the old file or the new one. UsageError if it cannot be
    written.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    direct = target.exists() and not target.is_file()
    place = target if direct else _unfinished_place(target)
    try:
        with open(place, "wb") as out:
            yield out
            out.flush()
            if sync and not direct:
                os.fsync(out.fileno())
        if not direct:
            os.replace(place, target)
    except BrokenPipeError:
        raise
    except OSError as e:
        raise unwritable(path, e) from None
    finally:
        if not direct:
            _remove(place)


@contextmanager
def replacing_path(path: Path) -> Iterator[Path]:
    """As `replacing`, for libraries that open a file by its name: the path beside `path` that they are to write."""
    place = _unfinished_place(path)
    try:
        yield place
        os.replace(place, path)
    except OSError as e:
        raise unwritable(path, e) from None
    finally:
        _remove(place)


def write_whole(path: Path, content: bytes, *, sync: bool = True) -> None:
    """`content` into `path`, whole or not at all. UsageError if it cannot be written."""
    with replacing(path, sync=sync) as out:
        out.write(content)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Files that belong together: all are on the disk before the first takes its place. UsageError, and the old ones stay."""
    with ExitStack() as stack:
        for path, content in contents.items():
            with open(stack.enter_context(replacing_path(path)), "wb") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())


class Appended:
    """The end of a file: bytes come to it whole, or the file stays as it was. UsageError if they cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115
            self.size = os.fstat(self._file.fileno()).st_size
        except OSError as e:
            raise unwritable(path, e) from None

    def write(self, content: bytes) -> None:
        """Append `content`; another process, or a kill of this one, sees it at once."""
        left = memoryview(content)
        try:
            while left:
                left = left[self._file.write(left) or 0 :]
        except OSError as e:
            with suppress(OSError):  # a line cut short
                os.ftruncate(self._file.fileno(), self.size)
            raise unwritable(self._path, e) from None
        self.size += len(content)

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as e:
            raise unwritable(self._path, e) from None


@contextmanager
def appending(path: Path) -> Iterator[Appended]:
    """The end of a file, which is made if there is none."""
    out = Appended(path)
    try:
        yield out
    finally:
        out.close()


def check_writable(path: Path, output: Path) -> None:
    """UsageError about `output` if `path` beside it could not be made or appended to; nothing is left if it was not there."""
    existed = path.exists()
    try:
        path.open("ab").close()
    except OSError as e:
        raise UsageError(
            f"{output}: the folder {output.parent} cannot be written to ({e.strerror}). Choose another place."
        ) from None
    if not existed:
        _remove(path)


def mark(path: Path) -> None:
    """Make an empty file. UsageError if it cannot be made."""
    Appended(path).close()


_unfinished: set[Path] = set()


def _unfinished_place(path: Path) -> Path:
    place = beside(path, f"{os.getpid()}-{next(_numbers)}.tmp")
    _unfinished.add(place)
    return place


def remove_unfinished() -> None:
    """Remove the files that take no place any more, as this process is about to end."""
    for place in list(_unfinished):
        _remove(place)


def _remove(path: Path) -> None:
    _unfinished.discard(path)
    with suppress(OSError):
        path.unlink(missing_ok=True)


def unwritable(path: str | Path, error: OSError) -> UsageError:
    """The error for a file that cannot be written, with the reason of the system; of a hidden file, named by what it is for."""
    path = Path(path)
    if hidden := _HIDDEN.fullmatch(path.name):
        path = path.with_name(hidden["name"])
    return UsageError(f"{path}: cannot be written ({error.strerror or error}). Make room there, or choose another place.")
