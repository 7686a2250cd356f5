"""Walks over what compressed files consist of (frames, pages, boxes), so that their stated lengths need not be believed.

Nothing is decoded: of each frame its header is read, and its size leads to the next one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import BinaryIO, NamedTuple

STEP = 1 << 18  # bytes read at a time
RESYNC = 1 << 16  # bytes in which the next frame of an MP3 is sought
CERTAIN = 4  # frames one behind the other
SLACK = 2  # frames by which encoders miscount
FLAC_TAIL = 1 << 17  # bytes in which the last frame of a FLAC begins


class Buffer:
    """Bytes of a file by their offset, read in large steps."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        self._file, self.end = file, end
        self._base, self._data = 0, b""
        self._step: Callable[[], None] | None = getattr(file, "step", None)  # counts, where a walk is limited

    def __call__(self, at: int, count: int) -> bytes:
        """Up to `count` bytes from `at`, fewer at the end."""
        if self._step is not None:
            self._step()
        first = at - self._base
        if first < 0 or first + count > len(self._data):
            self._file.seek(at)
            self._base, self._data = at, self._file.read(max(0, min(max(count, STEP), self.end - at)))
            first = 0
        return self._data[first : first + count]


# ---- Ogg


class Page(NamedTuple):
    at: int
    stream: int
    number: int  # in its stream
    first: bool  # begins a stream
    last: bool  # ends a stream
    whole: bool


def ogg_pages(file: BinaryIO, start: int, end: int) -> Iterator[Page]:
    """The pages of an Ogg file; what lies between them is passed over."""
    data = Buffer(file, end)
    at = start
    while at < end:
        head = data(at, 27)
        if not b"OggS".startswith(head[:4]):
            at = _next(data, b"OggS", at + 1)
            continue
        if len(head) < 27:
            yield Page(at, 0, 0, False, False, False)
            return
        behind = at + 27 + head[26] + sum(data(at + 27, head[26]))
        cut = data(at + 4, behind - at - 4).find(b"OggS") if data(behind, 4) != b"OggS" else -1
        stream, number = struct.unpack("<II", head[14:22])
        yield Page(at, stream, number, bool(head[5] & 2), bool(head[5] & 4), cut < 0 and behind <= end)
        at = behind if cut < 0 else at + 4 + cut


def _next(data: Buffer, signature: bytes, at: int) -> int:
    """Offset of the next `signature`, or the end."""
    while at < data.end:
        block = data(at, STEP)
        if (place := block.find(signature)) >= 0:
            return at + place
        at += max(1, len(block) - len(signature) + 1)
    return data.end


# ---- MP3


class Mpeg(NamedTuple):
    """The header of one frame of MPEG audio."""

    size: int  # bytes
    samples: int
    kind: tuple[int, int, int, bool]  # version, layer, rate, mono: the same in all frames of one recording


_KBITS = {
    (True, 3): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44_100, 48_000, 32_000)


@cache
def mpeg(head: bytes) -> Mpeg | None:
    """4 bytes -> the frame that they begin; None if they begin none (or one of free format, which has no size)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    speed, rate_code = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 0 or speed in (0, 15) or rate_code == 3:
        return None
    full = version == 3
    rate = _RATES[rate_code] // {3: 1, 2: 2, 0: 4}[version]
    bits = _KBITS[full, layer][speed] * 1000
    padding = head[2] >> 1 & 1
    kind = (version, layer, rate, head[3] >> 6 == 3)
    if layer == 3:
        return Mpeg((12 * bits // rate + padding) * 4, 384, kind)
    samples = 576 if layer == 1 and not full else 1152
    return Mpeg(samples // 8 * bits // rate + padding, samples, kind)


class _Tag(NamedTuple):
    """The header of Xing, LAME or Fraunhofer in a frame of its own."""

    at: int
    frames: int | None  # that it states
    size: int | None  # bytes that it states


@dataclass
class Run:
    """Frames of one MP3 recording."""

    start: int
    end: int = 0
    frames: int = 0
    patches: tuple[tuple[int, bytes], ...] = ()
    prefix: bytes = b""
    promised: float | None = None
    missing: int = 0
    kind: tuple[int, int, int, bool] = (0, 0, 0, False)
    tag: _Tag | None = None
    head: bytes = field(default=b"", repr=False)


def is_mp3(file: BinaryIO, start: int, end: int, head: bytes) -> bool:
    """Whether MPEG audio begins at `start`, perhaps behind tags, zeros or other bytes that are no frames."""
    data = Buffer(file, end)
    at = _sync(data, _behind_tags(data, start), None)
    if at is None or head.startswith(b"ID3") or mpeg(head[:4]) is not None:
        return at is not None
    for _ in range(CERTAIN):  # other bytes: they may look like a frame, but not like several
        frame = mpeg(data(at, 4))
        if frame is None:
            return False
        at += frame.size
    return True


def _behind_tags(data: Buffer, at: int) -> int:
    """The offset behind ID3 and APE tags that begin at `at`."""
    while True:
        head = data(at, 32)
        if head.startswith(b"ID3") and len(head) >= 10:
            at += id3_size(head)
        elif head.startswith(b"TAG"):
            at += 128
        elif head.startswith(b"APETAGEX") and len(head) == 32:
            is_header = bool(head[23] & 0x20)
            at += 32 + (int.from_bytes(head[12:16], "little") if is_header else 0)
        else:
            return min(at, data.end)


def id3_size(head: bytes) -> int:
    """Bytes of the ID3 tag whose header these bytes begin."""
    return 10 + sum((byte & 0x7F) << 7 * (3 - i) for i, byte in enumerate(head[6:10])) + 10 * bool(head[5] & 0x10)


def _sync(data: Buffer, at: int, kind: tuple[int, int, int, bool] | None) -> int | None:
    """Offset of the next frame (of `kind`, if given) that another one follows, or the end; None if there is none near."""
    limit = min(data.end, at + RESYNC)
    while at < limit:
        at = _next_byte(data, at, limit)
        frame = mpeg(data(at, 4))
        if frame is not None and kind in (None, frame.kind):
            behind = at + frame.size
            following = mpeg(data(behind, 4))
            if behind >= data.end or (following is not None and following.kind == frame.kind):
                return at
        at += 1
    return None


def _next_byte(data: Buffer, at: int, limit: int) -> int:
    place = data(at, limit - at).find(b"\xff")
    return limit if place < 0 else at + place


def mp3_runs(file: BinaryIO, start: int, end: int) -> Iterator[Run]:
    """The recordings in an MP3 file, one or several joined, with headers that state their true lengths."""
    data = Buffer(file, end)
    first = _sync(data, _behind_tags(data, start), None)
    assert first is not None, "is_mp3 looked"
    at, run = first, Run(first)
    while at < end:
        frame = mpeg(data(at, 4))
        if frame is None or (run.frames and frame.kind != run.kind and _sync(data, at, frame.kind) != at):
            behind = _behind_tags(data, at)
            moved = _sync(data, behind if behind > at else at + 1, None)
            if moved is None:
                break
            at = moved
            continue
        tag = _tag_of(data, at, frame)
        if (run.frames or run.tag) and (tag is not None or frame.kind != run.kind):
            yield _closed(run, at)
            run = Run(at)
        if at + frame.size > end:
            run.missing = at + frame.size - end
            break
        if tag is None:
            run.frames += 1
        elif tag.frames is None:  # a header that counts no frames: leave it out
            run.start = at + frame.size
        else:
            run.tag = tag
        run.kind = frame.kind
        run.head = run.head or data(at, 4)
        at += frame.size
    yield _closed(run, end)


def _tag_of(data: Buffer, at: int, frame: Mpeg) -> _Tag | None:
    if frame.kind[1] != 1:
        return None
    place = at + _side(frame.kind)
    raw = data(place, 16)
    if raw[:4] in (b"Xing", b"Info"):
        counts, sizes = len(raw) == 16 and raw[7] & 1, len(raw) == 16 and raw[7] & 3 == 3
        return _Tag(
            place,
            int.from_bytes(raw[8:12], "big") if counts else None,
            int.from_bytes(raw[12:16], "big") if sizes else None,
        )
    return _Tag(at + 36, None, None) if data(at + 36, 4) == b"VBRI" else None


def _side(kind: tuple[int, int, int, bool]) -> int:
    """Bytes of a frame of layer III in front of its data: the header and the side information."""
    version, _, _, mono = kind
    return 4 + {(True, False): 32, (True, True): 17, (False, False): 17, (False, True): 9}[version == 3, mono]


def _closed(run: Run, end: int) -> Run:
    run.end = end
    if run.tag is None or run.tag.frames is None:
        run.prefix = _info_frame(run)
        return run
    run.missing = 0  # of a file that was cut, the decoder yields fewer samples than the header states
    if run.frames > run.tag.frames + SLACK:
        run.patches = ((run.tag.at + 8, struct.pack(">I", run.frames)),)
        run.promised = run.tag.frames / run.frames
    if run.tag.size is not None and abs(run.tag.size - (end - run.start)) > 0.01 * run.tag.size:  # libmpg123 prints a warning
        run.patches += ((run.tag.at + 12, struct.pack(">I", end - run.start)),)
    return run


def _info_frame(run: Run) -> bytes:
    """A frame of silence with the header that counts the frames of a run; b"" where none fits."""
    if run.kind[1] != 1 or not run.head:
        return b""
    place = _side(run.kind)
    for speed in range(1, 15):
        head = bytes([0xFF, run.head[1] | 1, speed << 4 | run.head[2] & 0x0C, run.head[3]])
        frame = mpeg(head)
        if frame is not None and frame.size >= place + 12:
            return (head + bytes(place - 4) + b"Info" + struct.pack(">II", 1, run.frames)).ljust(frame.size, b"\0")
    return b""


# ---- FLAC


class FlacLength(NamedTuple):
    """The length that the last frame implies, beside the one that the header states."""

    promised: float | None = (
        None  # the share of its samples that the header states; None if the header is right or states nothing
    )
    patches: tuple[tuple[int, bytes], ...] = ()  # to the true number


def flac_length(file: BinaryIO, start: int, end: int) -> FlacLength:
    """By the header of the last frame, which counts the samples in front of it."""
    file.seek(start)
    info = file.read(42)
    last = _last_flac_frame(file, start, end, info)
    stated = int.from_bytes(info[21:26], "big") & 0xFFFFFFFFF
    if last is None or last.samples <= stated:
        return FlacLength()
    number = int.from_bytes((info[21] & 0xF0).to_bytes(1, "big") + bytes(4), "big") | last.samples
    return FlacLength(stated / last.samples if stated else None, ((start + 21, number.to_bytes(5, "big")),))


def flac_is_whole(file: BinaryIO, start: int, end: int) -> bool:
    """Whether the last frame of a FLAC is complete: a fault lies before it, then."""
    file.seek(start)
    last = _last_flac_frame(file, start, end, file.read(42))
    return last is not None and _crc16(last.data[:-2]) == int.from_bytes(last.data[-2:], "big")


class _FlacFrame(NamedTuple):
    samples: int  # of the recording up to its end
    data: bytes  # from its header to the end of the file


def _last_flac_frame(file: BinaryIO, start: int, end: int, info: bytes) -> _FlacFrame | None:
    if len(info) < 42:
        return None
    largest = int.from_bytes(info[10:12], "big")
    first = min(end, max(start + 42, end - FLAC_TAIL))
    file.seek(first)
    tail = file.read(end - first)
    place = len(tail)
    while (place := tail.rfind(b"\xff", 0, place)) >= 0:
        samples = _flac_frame_end(tail[place : place + 20], largest)
        if samples is not None:
            return _FlacFrame(samples, tail[place:])
    return None


def _flac_frame_end(head: bytes, largest: int) -> int | None:
    """Number of the sample behind the frame that these bytes begin; None if they begin none (RFC 9639, section 9.1)."""
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[2] >> 4 == 0 or head[2] & 15 == 15 or head[3] & 1:
        return None
    length = 1 if head[4] < 0x80 else 8 - (head[4] ^ 0xFF).bit_length()
    if length > 7 or (length == 1 and head[4] >= 0x80) or len(head) < 4 + length + 5:
        return None
    number = head[4] if length == 1 else head[4] & (0x7F >> length)
    for byte in head[5 : 4 + length]:
        if byte >> 6 != 2:
            return None
        number = number << 6 | byte & 0x3F
    at = 4 + length
    code = head[2] >> 4
    if code in (6, 7):
        samples = int.from_bytes(head[at : at + code - 5], "big") + 1
        at += code - 5
    else:
        samples = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    at += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if at >= len(head) or _crc8(head[:at]) != head[at]:
        return None
    return (number if head[1] & 1 else number * largest) + samples


def _crc8(data: bytes) -> int:
    return _crc(data, 8, 0x07)


def _crc16(data: bytes) -> int:
    return _crc(data, 16, 0x8005)


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    value, top, mask = 0, 1 << bits - 1, (1 << bits) - 1
    for byte in data:
        value ^= byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ polynomial) & mask if value & top else value << 1
    return value


# ---- containers that FFmpeg reads: how many bytes are missing at their end

Walk = Callable[[BinaryIO, int, int], int]  # (file, start, end) -> missing bytes
_EBML = b"\x1a\x45\xdf\xa3"
_ASF = bytes.fromhex("3026b2758e66cf11")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof")
_AMR_SIZES = {
    b"#!AMR\n": (13, 14, 16, 18, 20, 21, 27, 32, 6, 1, 1, 1, 1, 1, 1, 1),
    b"#!AMR-WB\n": (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1),
}


def walker_of(head: bytes) -> Walk | None:
    """The walker of a container that FFmpeg's libraries read; None if the bytes begin no such container."""
    container = _container_of(head)
    return container[1] if container else None


def demuxer_of(head: bytes) -> str | None:
    """FFmpeg's name of the container that these bytes begin, of those that `walker_of` knows."""
    container = _container_of(head)
    return container[0] if container else None


def _container_of(head: bytes) -> tuple[str, Walk] | None:
    if head[4:8] in _BOXES:
        return "mov", _mp4_missing
    if head.startswith(_EBML):
        return "matroska", _matroska_missing
    if head.startswith(tuple(_AMR_SIZES)):
        return "amr", _amr_missing
    if head.startswith(_ASF):
        return "asf", _asf_missing
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "aac", _adts_missing
    return None


def _boxes(data: Buffer, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(offset, name) of the boxes at the top of an MP4 file, and (offset behind them, b"")."""
    while at + 8 <= end:
        head = data(at, 16)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if size == 0 or not all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in head[4:8]):  # to the end; or no box
            at = end
            break
        yield at, head[4:8]
        at += max(8, size)
    yield at, b""


def _mp4_missing(file: BinaryIO, start: int, end: int) -> int:
    *_, (behind, _) = _boxes(Buffer(file, end), start, end)
    return max(0, behind - end)


def mp4_end(file: BinaryIO, start: int, end: int) -> int:
    """Offset of a further file of boxes, or the end."""
    data = Buffer(file, end)
    for at, name in _boxes(data, start, end):
        if at > start and name == b"ftyp":
            return at
    return end


def _matroska_missing(file: BinaryIO, at: int, end: int) -> int:
    """Elements of unknown size (of a live stream) are walked into, others over."""
    data = Buffer(file, end)
    while at < end:
        head = data(at, 12)
        name = _vint_length(head[:1])
        length = _vint_length(head[name : name + 1])
        if not name or not length or len(head) < name + length:
            return 0 if not name or not length else 1
        size = int.from_bytes(head[name : name + length], "big") & ((1 << 7 * length) - 1)
        at += name + length
        if size != (1 << 7 * length) - 1:
            at += size
    return max(0, at - end)


def _vint_length(byte: bytes) -> int:
    """Bytes of a number that begins with `byte`; 0 if none does."""
    return 9 - byte[0].bit_length() if byte and byte[0] else 0


def _amr_missing(file: BinaryIO, at: int, end: int) -> int:
    data = Buffer(file, end)
    magic = next(name for name in _AMR_SIZES if data(at, len(name)) == name)
    sizes = _AMR_SIZES[magic]
    at += len(magic)
    while at < end:
        at += sizes[data(at, 1)[0] >> 3 & 15]
    return at - end


def _adts_missing(file: BinaryIO, at: int, end: int) -> int:
    data = Buffer(file, end)
    while at < end:
        head = data(at, 7)
        if head[0] != 0xFF or (len(head) > 1 and head[1] & 0xF6 != 0xF0):
            return 0
        if len(head) < 7:
            return 7 - len(head)
        size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        if size < 7:
            return 0
        at += size
    return at - end


def _asf_missing(file: BinaryIO, at: int, end: int) -> int:
    file.seek(at)
    head = file.read(STEP)
    place = head.find(_ASF_FILE)
    if place < 0 or len(head) < place + 92 or head[place + 88] & 1:  # a broadcast does not know
        return 0
    return max(0, int.from_bytes(head[place + 40 : place + 48], "little") - (end - at))
