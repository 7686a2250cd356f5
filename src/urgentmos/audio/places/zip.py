"""Zip archives: what is in them, and one recording after the other without unpacking.

The central directory is read once; a member is then read where it lies, by a file object of its own, so that threads do not
wait for each other. Nothing is written under a member's name. Stored and deflated members are read, others are refused.
"""

from __future__ import annotations

import io
import stat
import struct
import tempfile
import threading
import zipfile
import zlib
from collections import OrderedDict
from typing import IO, Any, BinaryIO, NamedTuple

from urgentmos.audio.places.stored import open_stored, stamp_of
from urgentmos.audio.places.views import IN_MEMORY, Slice
from urgentmos.common.untrusted import shown
from urgentmos.errors import AudioError, UsageError

KEPT_INDEXES = 64  # archives whose directories are remembered
MAX_BYTES = 8 << 30  # of one member
SUSPICIOUS_RATIO = 200  # of members above IN_MEMORY: recordings do not shrink like that, and bombs do
CHUNK = 1 << 20
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_UTF8 = 0x800
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
_MADE_ON_DOS = 0


class Packed(NamedTuple):
    """Position of a member, from the central directory."""

    header: int
    packed: int  # bytes in the archive
    size: int  # bytes after unpacking, as the directory states
    crc: int
    deflated: bool


class Directory(NamedTuple):
    """`places` in the order of the archive; `refused` and `links` are names that are not read, refused ones with the reason."""

    places: dict[str, Packed]
    links: list[str]
    refused: dict[str, str]


_directories: OrderedDict[str, tuple[Any, Directory]] = OrderedDict()
_lock = threading.Lock()


def directory(file: str) -> Directory:
    """The members of a zip. UsageError if it cannot be read, or has two members of one name."""
    with _lock:
        stamp = stamp_of(file)
        kept = _directories.get(file)
        if kept is None or kept[0] != stamp:
            kept = _directories[file] = (stamp, _read(file))
        _directories.move_to_end(file)
        while len(_directories) > KEPT_INDEXES:
            _directories.popitem(last=False)
        return kept[1]


def _read(file: str) -> Directory:
    try:
        with open_stored(file) as source, zipfile.ZipFile(source) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, UnicodeError) as e:
        raise UsageError(
            f"{file}: is not a whole zip ({str(e).rstrip('.') or type(e).__name__}). Copy or pack it again."
        ) from e
    except AudioError as e:
        raise UsageError(f"{e}.") from e
    except OSError as e:
        raise UsageError(f"{file}: cannot be read ({e.strerror or e}). Check the path and its permissions.") from e
    listed = Directory({}, [], {})
    for info in members:
        name = _name(info)
        if name.endswith(("/", "\\")):
            continue
        if name in listed.places or name in listed.refused or name in listed.links:
            raise UsageError(f"{file}: two members are called {shown(name, 200)}. Pack it again.")
        if stat.S_ISLNK(info.external_attr >> 16):
            listed.links.append(name)
        elif why := _refusal(info, name):
            listed.refused[name] = why
        else:
            deflated = info.compress_type == zipfile.ZIP_DEFLATED
            listed.places[name] = Packed(info.header_offset, info.compress_size, info.file_size, info.CRC, deflated)
    return listed


def _name(info: zipfile.ZipInfo) -> str:
    """A name without the mark of UTF-8 is UTF-8 all the same, or DOS text if made on DOS, or bytes of an unknown kind."""
    name = info.orig_filename
    if info.flag_bits & _UTF8:
        return name
    raw = name.encode("cp437", "surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return name if info.create_system == _MADE_ON_DOS else raw.decode("utf-8", "surrogateescape")


def _refusal(info: zipfile.ZipInfo, name: str) -> str | None:
    if "\0" in name:
        return "its name holds a NUL byte"
    if info.flag_bits & _ENCRYPTED:
        return "it is encrypted"
    if info.compress_type not in _METHODS:
        return f"it is packed by method {info.compress_type}, and only stored and deflated members are read"
    return None


def member(file: str, name: str) -> bytes | BinaryIO:
    """The bytes of a member, or a file to seek in if it is larger than IN_MEMORY. AudioError if they cannot be had."""
    at = directory(file).places.get(name)
    if at is None:
        raise AudioError(f"{file} has no member {shown(name, 200)}. Check the name")
    suspicious = at.size > IN_MEMORY and at.size > SUSPICIOUS_RATIO * at.packed
    if at.size > MAX_BYTES or suspicious:
        raise AudioError(
            f"{file}: {shown(name, 200)} says that {at.size} bytes come out of {at.packed}. If you trust it, unpack it"
        )
    source = open_stored(file)
    if not at.deflated and at.size > IN_MEMORY:
        return io.BufferedReader(Slice(source, _start(source, file, name, at), at.size), CHUNK)
    with source:
        if at.size <= IN_MEMORY:
            buffer = io.BytesIO()
            _unpack(source, file, name, at, buffer)
            return buffer.getvalue()
        out = tempfile.TemporaryFile(prefix="urgentmos-")  # noqa: SIM115
        try:
            _unpack(source, file, name, at, out)
        except BaseException:
            out.close()
            raise
    out.seek(0)
    return out


def texts(file: str, names: list[str], most: int) -> dict[str, bytes | None]:
    """The bytes of small members; None for those of more than `most` bytes. UsageError if one is damaged."""
    if not names:
        return {}
    texts_by_name: dict[str, bytes | None] = {}
    places = directory(file).places
    with open_stored(file) as source:
        for name in names:
            buffer = io.BytesIO()
            if places[name].size <= most:
                try:
                    _unpack(source, file, name, places[name], buffer)
                except AudioError as e:
                    raise UsageError(f"{e}.") from e
            texts_by_name[name] = buffer.getvalue() if places[name].size <= most else None
    return texts_by_name


def _unpack(source: BinaryIO, file: str, name: str, at: Packed, out: IO[bytes]) -> None:
    """Write a member into `out`. AudioError if it does not match the directory."""
    source.seek(_start(source, file, name, at))
    try:
        crc = _inflate(source, at, out) if at.deflated else _copy(source, at, out)
    except zlib.error as e:
        raise AudioError(f"{file}: {shown(name, 200)} is damaged ({e}). Copy or pack the archive again") from e
    if out.tell() != at.size or crc != at.crc:
        raise AudioError(f"{file}: {shown(name, 200)} is damaged (size or checksum is wrong). Copy or pack the archive again")


def _start(source: BinaryIO, file: str, name: str, at: Packed) -> int:
    """Start of the bytes: behind the local header, whose length is not in the central directory."""
    source.seek(max(0, at.header))  # a directory that was moved can point before the file
    head = source.read(30)
    if at.header < 0 or len(head) < 30 or head[:4] != b"PK\3\4":
        raise AudioError(f"{file}: {shown(name, 200)} is not where the archive says. Copy or pack the archive again")
    n_name, n_extra = struct.unpack("<HH", head[26:30])
    return int(at.header + 30 + n_name + n_extra)


def _inflate(source: BinaryIO, at: Packed, out: IO[bytes]) -> int:
    """Writes what comes out, one byte more than declared at the most; returns its checksum."""
    inflater, left, crc = zlib.decompressobj(-15), at.packed, 0
    data = b""
    while not inflater.eof and out.tell() <= at.size:
        if not data:
            data = source.read(min(CHUNK, left))
            left -= len(data)
        produced = inflater.decompress(data, min(CHUNK, at.size + 1 - out.tell()))
        data = inflater.unconsumed_tail
        crc = zlib.crc32(produced, crc)
        out.write(produced)
        if not produced and not data and not left:
            break
    return crc


def _copy(source: BinaryIO, at: Packed, out: IO[bytes]) -> int:
    data = source.read(at.size)
    out.write(data)
    return zlib.crc32(data)
