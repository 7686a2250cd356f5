"""Files that appear whole or not at all, and names for what waits beside them; the floor that all shelves stand on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from urgentmos.errors import UsageError

LONGEST_NAME = 255  # bytes, of most file systems


def beside(path: Path, ending: str) -> Path:
    """The hidden file for `path`, in the same folder: ".NAME.ENDING", with NAME cut short where a disk has no room for it."""
    name = f".{path.name}.{ending}"
    size = len(os.fsencode(name))
    if size > LONGEST_NAME:
        digest = f"{crc32(os.fsencode(path.name)):08x}"
        name = f".{os.fsdecode(os.fsencode(path.name)[:100])}-{digest}.{ending}"
    return path.with_name(name)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place when all went well; pipes and devices are written directly.

    UsageError if it cannot be written.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    direct = target.exists() and not target.is_file()
    place = target if direct else beside(target, f"{os.getpid()}.tmp")
    try:
        with open(place, "wb") as out:
            yield out
        if not direct:
            os.replace(place, target)
    except BrokenPipeError:
        raise
    except OSError as e:
        raise unwritable(path, e) from None
    finally:
        if not direct:
            place.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """`content` into `path`, whole or not at all. UsageError if it cannot be written."""
    with replacing(path) as out:
        out.write(content)


def unwritable(path: str | Path, error: OSError) -> UsageError:
    """The error for a file that cannot be written, with the reason of the system."""
    return UsageError(f"{path}: cannot be written ({error.strerror or error}). Make room there, or choose another place.")
