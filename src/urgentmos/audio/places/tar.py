"""Tar archives: where their members lie, and one recording after the other without unpacking.

A tar is walked once, for the places of its members; a recording is then read where it lies. Only plain files are read:
links, devices and sparse files are listed as such.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from urgentmos.audio.formats import COMPRESSED_TAR_ENDINGS
from urgentmos.audio.places import compressed, remote, tar_headers
from urgentmos.audio.places.names import file_name, scheme_of
from urgentmos.audio.places.stored import open_stored, stamp_of
from urgentmos.audio.places.tar_headers import TarError
from urgentmos.audio.places.views import IN_MEMORY, Slice
from urgentmos.common.untrusted import shown
from urgentmos.errors import AudioError, UsageError

KEPT_INDEXES = 64  # tars whose places are remembered


class At(NamedTuple):
    """Position of a member's bytes in the tar."""

    start: int
    size: int


class Directory(NamedTuple):
    """`places` in the order of the tar; `links` are members that are no plain files."""

    places: dict[str, At]
    links: list[str]


def open_tar(file: str) -> BinaryIO:
    """A tar, or the tar in a compressed one, to seek in. OSError or UsageError if it cannot be read."""
    if file_name(file).lower().endswith(COMPRESSED_TAR_ENDINGS):
        return compressed.open_tar(file)
    return open_stored(file)


def _walk(file: str, ending: str = "\0", most: int = 0) -> Iterator[tuple[str, At | None, bytes | None]]:
    """(name, place or None for what is no plain file, bytes of a small member with the ending) in the order of the tar.

    UsageError if it is no whole tar.
    """
    try:
        with open_tar(file) as source:
            for member in tar_headers.members(source):
                if not member.is_file:
                    if not member.is_folder:
                        yield member.name, None, None
                    continue
                text = None
                if member.name.lower().endswith(ending) and member.size <= most:
                    source.seek(member.start)
                    text = source.read(member.size)
                yield member.name, At(member.start, member.size), text
    except TarError as e:
        raise UsageError(f"{file}: is not a whole tar ({e}). Copy it again.") from e
    except AudioError as e:
        raise UsageError(f"{e}.") from e
    except OSError as e:
        raise UsageError(f"{file}: cannot be read ({e.strerror or e}). Check the path and its permissions.") from e


# ---- places

_indexes: OrderedDict[str, tuple[Any, Directory]] = OrderedDict()
_hints: dict[tuple[str, str], At] = {}
_lock = threading.Lock()


def directory(file: str) -> Directory:
    """The members of a tar. UsageError if it cannot be read, or has two members of one name."""
    with _lock:
        stamp = stamp_of(file)
        kept = _indexes.get(file)
        if kept is not None and kept[0] == stamp:
            _indexes.move_to_end(file)
            return kept[1]
        return _remember(file, stamp, [(name, at) for name, at, _ in _walk(file)])


def with_texts(file: str, ending: str, most: int) -> tuple[dict[str, At], list[str], dict[str, bytes | None]]:
    """(places, links, bytes of the members with the ending; None for those of more than `most` bytes), in one walk."""
    texts: dict[str, bytes | None] = {}
    members: list[tuple[str, At | None]] = []
    with _lock:
        stamp = stamp_of(file)
        for name, at, text in _walk(file, ending, most):
            members.append((name, at))
            if at is not None and name.lower().endswith(ending):
                texts[name] = text
        return *_remember(file, stamp, members), texts


def _remember(file: str, stamp: Any, members: Iterable[tuple[str, At | None]]) -> Directory:
    listed = Directory({}, [])
    for name, at in members:
        if at is None:
            listed.links.append(name)
            continue
        if name in listed.places:
            raise UsageError(f"{file}: two members are called {shown(name, 200)}. Make the tar again.")
        listed.places[name] = at
    _indexes[file] = (stamp, listed)
    _indexes.move_to_end(file)
    while len(_indexes) > KEPT_INDEXES:
        _indexes.popitem(last=False)
    return listed


def hints(file: str, members: Iterable[str]) -> dict[tuple[str, str], At]:
    """The places of some members, for another process that would have to walk the tar to learn them."""
    places = directory(file).places
    return {(file, name): places[name] for name in members if name in places}


def set_member_offsets(offsets: Mapping[tuple[str, str], At]) -> None:
    """Places that another process learned; they replace those that were taken before."""
    _hints.clear()
    _hints.update(offsets)


def has_member_offset(file: str, name: str) -> bool:
    """Whether the place of a member was learned from another process, so that the tar need not be walked."""
    return (file, name) in _hints


def member(file: str, name: str) -> bytes | BinaryIO:
    """The bytes of a member, or a file to seek in if it is larger than IN_MEMORY. AudioError if there is none."""
    at = _hints.get((file, name)) or directory(file).places.get(name)
    if at is None:
        raise AudioError(f"{file} has no member {shown(name, 200)}. Check the name")
    if at.size > IN_MEMORY:
        import io

        return io.BufferedReader(Slice(open_tar(file), *at), 1 << 16)
    if scheme_of(file) is not None:
        return remote.fetch_range(file, *at)
    with open_tar(file) as source:
        source.seek(at.start)
        data = source.read(at.size)
    if len(data) < at.size:
        raise AudioError(f"{file} is cut off: {shown(name, 200)} is not all there. Copy it again")
    return data
