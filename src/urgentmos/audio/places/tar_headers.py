"""The headers of a tar, read one after the other: where each member's bytes lie, and nothing else.

The formats of POSIX.1-1988 (ustar) and POSIX.1-2001 (pax), of GNU tar, and of V7. Python's tarfile is not used: a damaged
header in the middle ends its list without a word, a negative size makes it go round for ever, and its recursion is as deep as
a file asks. Here every step goes forwards, and whatever is odd is a TarError with the place of the header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from urgentmos.common.untrusted import shown

BLOCK = 512
MAX_HEADER = 1 << 20  # bytes of a long name, or of pax records
SCAN = 1 << 20  # bytes at a time, in search of what follows zeros
FILES = frozenset(b"0\x007")  # types of plain files
WITHOUT_DATA = frozenset(b"123456")  # links, devices, folders, pipes: no bytes follow, even if their size is not 0
FOLDER, SPARSE, LONG_NAME, LONG_LINK = b"5"[0], b"S"[0], b"L"[0], b"K"[0]
PAX, PAX_OF_SUN, PAX_FOR_ALL = b"x"[0], b"X"[0], b"g"[0]

_RECORD = re.compile(rb"([0-9]{1,10}) ")


class TarError(Exception):
    """Why a tar is not whole."""


class Member(NamedTuple):
    """A member's name; where its `size` bytes start; whether it is a plain file, or a folder, or neither."""

    name: str
    start: int
    size: int
    is_file: bool
    is_folder: bool


def members(file: BinaryIO) -> Iterator[Member]:
    """The members in their order. TarError if one cannot be read, or a member's bytes reach beyond the file's end.

    Tars that were put behind one another count as one. Between two members the file may be read elsewhere.
    """
    end = file.seek(0, 2)
    place, for_all = 0, dict[str, str]()
    own, long_name = dict[str, str](), None  # from the headers before a member
    while (place_of_header := _next_header(file, place, end)) is not None:
        if place_of_header > place and (own or long_name is not None):
            raise TarError(f"the member behind the header at byte {place} is missing")
        header = _Header(file, place_of_header)
        place = header.start
        if header.kind in (LONG_NAME, LONG_LINK, PAX, PAX_OF_SUN, PAX_FOR_ALL):
            content = _content(file, header, end)
            place += _padded(header.size)
            if header.kind == LONG_NAME:
                long_name = _text(content)
            elif header.kind == PAX_FOR_ALL:
                for_all = {**for_all, **_pax(content, header)}
            elif header.kind != LONG_LINK:
                own = _pax(content, header)
            continue
        member = _member(file, header, {**for_all, **own}, long_name)
        place = member.start
        if header.kind not in WITHOUT_DATA:
            place += _padded(member.size)
            if member.start + member.size > end:
                raise TarError("it is cut off")
        yield member
        own, long_name = {}, None
    if own or long_name is not None:
        raise TarError("it is cut off")
    if end == 0:
        raise TarError("empty file")


def _next_header(file: BinaryIO, place: int, end: int) -> int | None:
    """The place of the next header from `place` on; behind zeros only one that is whole counts, else the tar ends there."""
    zeros = False
    while place < end:
        file.seek(place)
        block = file.read(SCAN if zeros else BLOCK)
        if not zeros and block.strip(b"\0"):
            return place
        filled = len(block) - len(block.lstrip(b"\0"))
        if filled < len(block):
            place += filled // BLOCK * BLOCK
            file.seek(place)
            block = file.read(BLOCK)
            return place if len(block) == BLOCK and _has_checksum(block) else None
        place, zeros = place + max(len(block), 1), True
    return None


class _Header:
    """One block, its numbers read."""

    def __init__(self, file: BinaryIO, place: int) -> None:
        file.seek(place)
        block = file.read(BLOCK)
        if len(block) < BLOCK:
            raise TarError("it is cut off")
        if not _has_checksum(block):
            raise TarError("invalid header" if place == 0 else f"the header at byte {place} is damaged")
        self.place, self.start, self.block = place, place + BLOCK, block
        self.kind = block[156]
        self.size = _size(block[124:136], place)


def _has_checksum(block: bytes) -> bool:
    """Whether a header's checksum is right, over signed or unsigned bytes."""
    try:
        wanted = _number(block[148:156])
    except ValueError:
        return False
    rest = block[:148] + b" " * 8 + block[156:]
    unsigned = sum(rest)
    return wanted in (unsigned, unsigned - 256 * sum(byte > 127 for byte in rest))


def _number(field: bytes) -> int:
    """Octal digits, or GNU's base 256. ValueError for anything else."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    digits = field.partition(b"\0")[0].strip(b" ")
    if digits.strip(b"01234567"):
        raise ValueError("no octal number")
    return int(digits or b"0", 8)


def _size(field: bytes, place: int) -> int:
    try:
        size = _number(field)
    except ValueError:
        size = -1
    if size < 0:
        raise TarError(f"the header at byte {place} has a size that is none")
    return size


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _content(file: BinaryIO, header: _Header, end: int) -> bytes:
    """The bytes of a header that describes the next member."""
    if header.size > MAX_HEADER:
        raise TarError(f"a header of {header.size} bytes at byte {header.place}")
    if header.start + header.size > end:
        raise TarError("it is cut off")
    file.seek(header.start)
    return file.read(header.size)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax(content: bytes, header: _Header) -> dict[str, str]:
    """Records of the form "LENGTH KEY=VALUE\\n", each of the length that it states."""
    records: dict[str, str] = {}
    place = 0
    while place < len(content) and content[place]:
        match = _RECORD.match(content, place)
        stop = place + int(match[1]) if match else 0
        key, equals, value = content[match.end() if match else place : stop - 1].partition(b"=")
        if not match or not match.end() < stop <= len(content) or content[stop - 1 : stop] != b"\n" or not key or not equals:
            raise TarError(f"the pax header at byte {header.place} is damaged")
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        place = stop
    return records


def _member(file: BinaryIO, header: _Header, pax: dict[str, str], long_name: str | None) -> Member:
    name, size, start = _name(header.block), header.size, header.start
    if long_name is not None:
        name = long_name
    if "size" in pax:
        if not re.fullmatch(r"[0-9]{1,19}", pax["size"]):
            raise TarError(f"the pax header before byte {header.place} has the size {shown(pax['size'], 40)}")
        size = int(pax["size"])
    name = pax.get("GNU.sparse.name", pax.get("path", name))
    is_sparse = header.kind == SPARSE or any(key.startswith("GNU.sparse.") for key in pax)
    if header.kind == SPARSE:
        start = _behind_sparse_map(file, header)
    is_folder = header.kind == FOLDER or (header.kind == 0 and name.endswith("/"))
    is_file = header.kind in FILES and not is_sparse and not is_folder
    return Member(name.rstrip("/") if is_folder else name, start, size, is_file, is_folder)


def _name(block: bytes) -> str:
    name, prefix = _text(block[:100]), _text(block[345:500])
    return f"{prefix}/{name}" if prefix and block[257:263] == b"ustar\0" else name


def _behind_sparse_map(file: BinaryIO, header: _Header) -> int:
    """Start of an old GNU sparse file's bytes: its map may go on in further blocks."""
    place, more = header.start, header.block[482]
    file.seek(place)
    while more:
        block = file.read(BLOCK)
        if len(block) < BLOCK:
            raise TarError("it is cut off")
        place, more = place + BLOCK, block[504]
    return place
