"""Tar shards: what is in them, and one recording after the other without unpacking.

A tar is walked once, for the places of its members; a recording is then read where it lies. The layout is that of
WebDataset: `KEY.flac` and `KEY.json` are one sample, and the JSON object is a row of a manifest without audio_path. A tar of
a folder tree is read like the folder. Only plain files count: links, devices and sparse files are passed over.
"""

from __future__ import annotations

import tarfile
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from urgentmos.audio import AUDIO_SUFFIXES
from urgentmos.cells import parse_json
from urgentmos.errors import AudioError, UsageError
from urgentmos.sources import IN_MEMORY, Slice, open_file, scheme_of, stamp_of

MAX_JSON = 1 << 20  # bytes of a sample's JSON
MAX_HEADER = 1 << 20  # bytes of one header: long names, PAX records
KEPT_INDEXES = 16  # tars whose places are remembered


class At(NamedTuple):
    """Where a member's bytes lie in the tar."""

    start: int
    size: int


class Sample(NamedTuple):
    """A recording in a tar. `record` is its JSON object, {} if it has none; `problem` says what is wrong with that."""

    key: str
    member: str
    record: dict[str, Any]
    problem: str | None = None


class _Careful:
    """What tarfile reads headers from: refuses a header that claims to be huge."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


def _walk(file: str) -> Iterator[tuple[str, At, bytes | None]]:
    """(name, place, bytes of a .json) of the plain files in their order. UsageError if it is no whole tar."""
    try:
        with open_file(file) as source, tarfile.open(fileobj=_Careful(source), mode="r:", encoding="utf-8") as tar:  # type: ignore[call-overload]
            size = source.seek(0, 2)
            for info in tar:
                tar.members = []  # else it keeps all of them
                if not info.isreg() or info.issparse():
                    continue
                if info.offset_data + info.size > size:
                    raise tarfile.ReadError("unexpected end of data")
                at = At(info.offset_data, info.size)
                text = None
                if info.name.lower().endswith(".json") and info.size <= MAX_JSON:
                    source.seek(at.start)
                    text = source.read(at.size)
                yield info.name, at, text
    except tarfile.TarError as e:
        why = "it is cut off" if "unexpected end" in str(e) else str(e)
        raise UsageError(f"{file}: is not a whole tar ({why}). Copy it again; a compressed one must be uncompressed.") from e
    except AudioError as e:
        raise UsageError(f"{e}.") from e
    except OSError as e:
        raise UsageError(f"{file}: cannot be read ({e.strerror or e}). Check the path and its permissions.") from e


# ---- places

_indexes: OrderedDict[str, tuple[Any, dict[str, At]]] = OrderedDict()
_hints: dict[tuple[str, str], At] = {}
_lock = threading.Lock()


def index(file: str) -> dict[str, At]:
    """Member -> place. UsageError if the tar cannot be read, or has two members of one name."""
    with _lock:
        stamp = stamp_of(file)
        known = _indexes.get(file)
        if known is not None and known[0] == stamp:
            _indexes.move_to_end(file)
            return known[1]
        return _remember(file, stamp, [(name, at) for name, at, _ in _walk(file)])


def _remember(file: str, stamp: Any, members: list[tuple[str, At]]) -> dict[str, At]:
    places: dict[str, At] = {}
    for name, at in members:
        if name in places:
            raise UsageError(f"{file}: two members are called {name!r}. Make the tar anew.")
        places[name] = at
    _indexes[file] = (stamp, places)
    while len(_indexes) > KEPT_INDEXES:
        _indexes.popitem(last=False)
    return places


def hints(file: str, members: Iterable[str]) -> dict[tuple[str, str], At]:
    """The places of some members, for another process that would have to walk the tar to learn them."""
    places = index(file)
    return {(file, name): places[name] for name in members if name in places}


def take_hints(found: Mapping[tuple[str, str], At]) -> None:
    """Places that another process learned; they replace those that were taken before."""
    _hints.clear()
    _hints.update(found)


def member(file: str, name: str) -> bytes | BinaryIO:
    """The bytes of a member, or a file to seek in if it is larger than IN_MEMORY. AudioError if there is none."""
    at = _hints.get((file, name)) or index(file).get(name)
    if at is None:
        raise AudioError(f"{file} has no member {name!r}. Check the name")
    if at.size > IN_MEMORY:
        import io

        return io.BufferedReader(Slice(open_file(file), *at), 1 << 16)
    if scheme_of(file) is not None:
        from urgentmos.sources import remote

        return remote.fetch_range(file, *at)
    with open_file(file) as source:
        source.seek(at.start)
        data = source.read(at.size)
    if len(data) < at.size:
        raise AudioError(f"{file} is cut off: {name!r} is not all there. Copy it again")
    return data


# ---- samples


def samples(file: str) -> list[Sample]:
    """The recordings of a tar in the order of their members. UsageError if it cannot be read."""
    names: list[tuple[str, At]] = []
    records: dict[str, bytes | None] = {}
    with _lock:
        stamp = stamp_of(file)
        for name, at, text in _walk(file):
            names.append((name, at))
            if name.lower().endswith(".json"):
                records[_key(name)[0]] = text
        places = _remember(file, stamp, names)
    sounds = [name for name in places if PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES and not _is_junk(name)]
    plain = {_key(name)[0] for name in sounds if "." not in _key(name)[1]}
    found = []
    for name in sounds:
        key, ending = _key(name)
        if "." in ending:  # utt1.clean.flac: beside utt1.flac it is that sample's companion, alone it is a recording
            if key in plain:
                continue
            key = name[: -len(PurePosixPath(name).suffix)]
        found.append(_sample(key, name, records, places))
    return found


def _is_junk(name: str) -> bool:
    """Hidden files, and what macOS leaves in archives."""
    return any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _key(name: str) -> tuple[str, str]:
    """(key, ending) of a member, as WebDataset splits its name: at the first dot behind the folder."""
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return (folder + slash + stem).removeprefix("./"), ending


def _sample(key: str, name: str, records: Mapping[str, bytes | None], places: Mapping[str, At]) -> Sample:
    if key not in records:
        return Sample(key, name, {})
    text = records[key]
    if text is None:
        return Sample(key, name, {}, f"{key}.json has more than {MAX_JSON >> 20} MB")
    try:
        record = parse_json(text.decode("utf-8-sig"))
    except (UnicodeDecodeError, ValueError) as e:
        return Sample(key, name, {}, f"{key}.json: {e}")
    if not isinstance(record, dict):
        return Sample(key, name, {}, f"{key}.json does not hold an object with keys")
    return Sample(key, name, _with_companions(record, name, places, key))


def _with_companions(record: dict[str, Any], name: str, places: Mapping[str, At], key: str) -> dict[str, Any]:
    """The record, with reference_path as "#MEMBER" where it names a member of the tar, by its name or by its ending."""
    reference = record.get("reference_path")
    if not isinstance(reference, str):
        return record
    folder = name.rpartition("/")[0]
    for candidate in (reference, f"{folder}/{reference}" if folder else reference, f"{name.rpartition('.')[0]}.{reference}"):
        if candidate in places:
            return {**record, "reference_path": f"#{candidate}"}
    return record
