"""Files as they are stored, local or behind a URL: their bytes, and a stamp that changes with them."""

import os
from typing import Any, BinaryIO

from urgentmos.audio.places import remote
from urgentmos.audio.places.names import scheme_of


def local_stamp(file: str) -> tuple[int | None, int | None]:
    """(size, mtime_ns) of a local file, or (None, None) if it cannot be stat'ed."""
    try:
        state = os.stat(file)
    except (OSError, ValueError):
        return None, None
    return state.st_size, state.st_mtime_ns


def open_stored(file: str) -> BinaryIO:
    """The bytes of a file as they are stored, behind a URL or on this machine, to seek in."""
    if scheme_of(file) is None:
        return open(file, "rb")
    return remote.seekable(file)


def stamp_of(file: str) -> tuple[Any, Any]:
    """A value that changes whenever the file changes; requested once per process for a URL."""
    return local_stamp(file) if scheme_of(file) is None else remote.stamp(file)
