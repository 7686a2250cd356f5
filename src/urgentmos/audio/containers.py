"""The recordings inside a file, as its own bytes delimit them: missing ends, joined recordings, wrong headers.

libsndfile believes the length that a header states, and does not report what it leaves unread. Each container states its length
in its own way; here all of them become a list of `Part`s. Nothing is decoded.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from urgentmos.audio import frames
from urgentmos.audio.places.views import View

TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")
TAIL = 512  # bytes; fewer of them behind the stated end are no recording
MOST_PARTS = 10_000
OGG_HEADERS = 3  # pages
SCANNED = 1 << 20  # bytes read at a time


class Part(NamedTuple):
    """One recording inside a file."""

    start: int  # offset of its first byte
    end: int
    patches: tuple[tuple[int, bytes], ...] = ()  # (offset in the file, the bytes that the header should hold there)
    prefix: bytes = b""  # a header to put in front
    promised: float | None = None  # of its samples, the share that its header states; None: no header is wrong
    missing: int = 0  # bytes that the container states and the file does not have
    unended: bool = False  # the container marks its end, and the mark is not there
    lost: int = 0  # pages that are missing in its middle

    @property
    def plain(self) -> bool:
        """Whether a decoder can read it as it is."""
        return not self.patches and not self.prefix


class TooManyParts(Exception):
    """More recordings in one file than anyone joins."""


class TooManySteps(Exception):
    """A file that consists of more pieces than may be looked at."""


class Walk:
    """A file that may be read from `steps` times: small files can consist of millions of pieces."""

    def __init__(self, file: BinaryIO, steps: int) -> None:
        self._file, self._left = file, steps

    def step(self) -> None:
        """Counts one; TooManySteps if it is one too many."""
        self._left -= 1
        if self._left < 0:
            raise TooManySteps

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def read(self, count: int = -1) -> bytes:
        self.step()
        return self._file.read(count)


def parts(file: BinaryIO, steps: int | None = None) -> list[Part]:
    """The recordings in a file, in their order; a file of an unknown container is one part. `file` is sought in.

    TooManyParts if there are more than MOST_PARTS; TooManySteps if more than `steps` pieces would have to be looked at.
    """
    walked: BinaryIO = file if steps is None else Walk(file, steps)  # type: ignore[assignment]
    size = file.seek(0, os.SEEK_END)
    recordings: list[Part] = []
    start = 0
    while start < size:
        for part in _parts_from(walked, start, size):
            recordings.append(part)
            if len(recordings) > MOST_PARTS:
                raise TooManyParts
        if recordings[-1].end <= start:
            break
        start = recordings[-1].end
    return recordings or [Part(0, size)]


def _parts_from(file: BinaryIO, start: int, size: int) -> Iterator[Part]:
    head = _read(file, start, 64)
    form = _form_of(head)
    if form is not None:
        yield _chunked(file, start, size, form)
    elif head[:4] in (b".snd", b"dns."):
        yield _au(file, start, size, ">" if head[:4] == b".snd" else "<")
    elif head.startswith(b"NIST_1A"):
        yield _nist(file, start, size)
    elif head.startswith(b"fLaC"):
        yield from _flac(file, start, size)
    elif head.startswith(b"OggS"):
        yield from _ogg(file, start, size)
    elif (walk := frames.walker_of(head)) is not None:
        end = frames.mp4_end(file, start, size)
        yield Part(start, end, missing=walk(file, start, end))
    elif frames.is_mp3(file, start, size, head):
        yield from _mp3(file, start, size)
    else:
        yield Part(start, size)


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(max(0, count))


# ---- containers of chunks: WAV, RF64, W64, AIFF, CAF


class Form(NamedTuple):
    """How a container writes its chunks."""

    first: int  # offset of the first chunk
    order: str  # byte order for struct
    data: bytes  # id of the chunk that holds the samples
    head: int = 0  # bytes in front of the samples in that chunk
    wide: bool = False  # sizes have 64 bits
    inclusive: bool = False  # a size counts the chunk's own header
    align: int = 2
    strict: bool = False  # libsndfile refuses a size beyond the end of the file

    @property
    def size_code(self) -> str:
        return f"{self.order}{'Q' if self.wide else 'I'}"

    @property
    def header(self) -> int:
        """Bytes of a chunk's id and size."""
        return len(self.data) + struct.calcsize(self.size_code)


class Chunk(NamedTuple):
    """One chunk: where its header and its content begin, and the stated size of the content."""

    name: bytes
    at: int
    content: int
    size: int


_GUID = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # the end of most ids of W64
_WAV = Form(12, "<", b"data")
_RIFX = Form(12, ">", b"data")
_AIFF = Form(12, ">", b"SSND", head=8)
_SVX = Form(12, ">", b"BODY")
_CAF = Form(8, ">", b"data", head=4, wide=True, align=1, strict=True)
_W64 = Form(40, "<", b"data" + _GUID, wide=True, inclusive=True, align=8)
_NO_CHUNKS = Form(0, ">", b"none")
_W64_START = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")
# Chunks that may stand behind the samples and be cut: what is missing of them is no sound.
_NAMES = (
    b"LIST,id3 ,ID3 ,bext,cue ,smpl,inst,iXML,_PMX,fact,PEAK"
    b",JUNK,junk,FLLR,PAD ,axml,chna,acid,cart,afsp,DISP,MARK,NAME,ANNO,AUTH,COMT,(c) ,APPL,INST,MIDI,CHAN"
    b",info,strg,mark,regn,uuid,free,pakt,kuki,chan,desc,edct,umid,ovvw,peak"
)
_OTHER_CHUNKS = frozenset(_NAMES.split(b","))


def _form_of(head: bytes) -> Form | None:
    kind = head[8:12]
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and kind == b"WAVE":
        return _WAV
    if head[:4] == b"RIFX" and kind == b"WAVE":
        return _RIFX
    if head[:4] == b"FORM":
        return {b"AIFF": _AIFF, b"AIFC": _AIFF, b"8SVX": _SVX, b"16SV": _SVX}.get(kind)
    if head[:4] == b"caff":
        return _CAF
    return _W64 if head.startswith(_W64_START) else None


def _chunks(file: BinaryIO, at: int, size: int, form: Form) -> Iterator[Chunk]:
    while at + form.header <= size:
        raw = _read(file, at, form.header)
        stated = int(struct.unpack(form.size_code, raw[len(form.data) :])[0]) - (form.header if form.inclusive else 0)
        chunk = Chunk(raw[: len(form.data)], at, at + form.header, stated)
        yield chunk
        at = chunk.content + max(0, stated)
        at += -at % form.align


def _chunked(file: BinaryIO, start: int, size: int, form: Form) -> Part:
    """`start` may be odd: chunks are aligned within the recording, so offsets are counted from there."""
    view: BinaryIO = file if start == 0 else PartView(file, start, size)  # type: ignore[assignment]
    length = size - start
    stated64: Chunk | None = None
    for chunk in _chunks(view, form.first, length, form):
        if chunk.name == b"ds64":
            stated64 = chunk
        elif chunk.name == form.data:
            return _sized(view, start, length, form, chunk, stated64)
    return Part(start, size)


def _sized(view: BinaryIO, start: int, length: int, form: Form, chunk: Chunk, stated64: Chunk | None) -> Part:
    """The part whose samples lie in `chunk`."""
    stated, place, code = chunk.size, chunk.at + len(form.data), form.size_code
    if stated64 is not None and stated == 0xFFFFFFFF:
        place, code = stated64.content + 8, "<Q"
        stated = int(struct.unpack(code, _read(view, place, 8))[0])
    held = length - chunk.content
    wide = code.endswith("Q")
    if stated >= 1 << 62 if wide else stated >= 0x7FFFF000 and stated > held:  # a stream: nobody knew the length
        return Part(start, start + length, ((start + place, _number(held, code, form)),) if wide else ())
    if stated > held:
        patches = ((start + place, _number(held, code, form)),) if form.strict else ()
        return Part(start, start + length, patches, missing=stated - held)
    end = chunk.content + max(0, stated)
    tail = _tail(view, end + -end % form.align, length, form)
    if tail.kind == "samples":
        share = max(0, stated - form.head) / (held - form.head)
        return Part(start, start + length, ((start + place, _number(held, code, form)),), promised=share)
    return Part(start, start + tail.at if tail.kind == "recording" else start + length)


def _number(held: int, code: str, form: Form) -> bytes:
    value = held + (form.header if form.inclusive else 0)
    return struct.pack(code, value if code.endswith("Q") else min(value, 0xFFFFFFFF))


class Tail(NamedTuple):
    """The part of the file behind the stated end of the samples."""

    kind: str  # "samples", a further "recording", or "" for neither
    at: int  # where it begins


def _tail(file: BinaryIO, at: int, size: int, form: Form) -> Tail:
    for border in (at, at + 1):  # some writers pad where the container does not
        if _begins_recording(_read(file, border, 64)):
            return Tail("recording", border)
    if size - at < TAIL or _read(file, at, 16).startswith(TAGS):
        return Tail("", size)
    for count, chunk in enumerate(_chunks(file, at, size, form)):
        if count and _begins_recording(_read(file, chunk.at, 64)):
            return Tail("recording", chunk.at)
        readable = chunk.name.endswith(_GUID[4:]) if form is _W64 else all(0x20 <= byte < 0x7F for byte in chunk.name)
        cut = chunk.content + chunk.size > size
        if not readable or chunk.size < 0 or (cut and not count and form is not _W64 and chunk.name not in _OTHER_CHUNKS):
            break
    else:
        return Tail("", size)
    rest = chunk.at
    return Tail("samples" if size - rest >= TAIL and any(_read(file, rest, SCANNED)) else "", at)


def _begins_recording(head: bytes) -> bool:
    return _form_of(head) is not None or head.startswith((b".snd", b"fLaC", b"OggS", b"NIST_1A"))


# ---- headers of one block


def _au(file: BinaryIO, start: int, size: int, order: str) -> Part:
    offset, stated = struct.unpack(f"{order}II", _read(file, start + 4, 8).ljust(8, b"\0"))
    content = start + offset
    held = size - content
    if stated == 0xFFFFFFFF or held <= 0:
        return Part(start, size)
    patches = ((start + 8, struct.pack(f"{order}I", min(held, 0xFFFFFFFF))),)
    if stated > held:
        return Part(start, size, patches, missing=0 if stated >= 0x7FFFF000 else stated - held)
    tail = _tail(file, content + stated, size, _NO_CHUNKS)
    if tail.kind == "samples":
        return Part(start, size, patches, promised=stated / held)
    return Part(start, tail.at if tail.kind == "recording" else size)


def _nist(file: BinaryIO, start: int, size: int) -> Part:
    """NIST SPHERE, as in TIMIT: text that counts the samples."""
    text = _read(file, start, 1024).decode("latin-1")
    numbers = {
        key: int(value) for key, value in re.findall(r"^(sample_count|sample_n_bytes|channel_count) -i (\d+)", text, re.M)
    }
    if len(numbers) < 3 or not text[8:16].strip().isdigit() or "shorten" in text:
        return Part(start, size)
    end = start + int(text[8:16]) + numbers["sample_count"] * numbers["sample_n_bytes"] * numbers["channel_count"]
    if end > size:
        return Part(start, size, missing=end - size)
    return Part(start, end if _begins_recording(_read(file, end, 64)) else size)


# ---- streams that follow one another in one file


def _flac(file: BinaryIO, start: int, size: int) -> Iterator[Part]:
    """A FLAC has no size; another one behind it begins with its own STREAMINFO."""
    signature = b"fLaC\0\0\0\x22"
    at = start
    for border in [*_occurrences(file, signature, start + 1, size), size]:
        length = frames.flac_length(file, at, border)
        yield Part(at, border, length.patches, promised=length.promised)
        at = border


def _occurrences(file: BinaryIO, signature: bytes, at: int, size: int) -> Iterator[int]:
    while at < size:
        block = _read(file, at, SCANNED)
        place = block.find(signature)
        while place >= 0:
            yield at + place
            place = block.find(signature, place + 1)
        at += max(1, len(block) - len(signature) + 1)


def _ogg(file: BinaryIO, start: int, size: int) -> Iterator[Part]:
    """Chained streams (RFC 3533): a page that begins a stream, behind pages that do not, begins a further recording."""
    begun, ended, lost = start, False, 0
    beginnings = True  # only pages that begin a stream were seen
    numbers: dict[int, int] = {}  # stream -> its last page
    for page in frames.ogg_pages(file, start, size):
        if page.first and not beginnings:
            yield Part(begun, page.at, unended=not ended, lost=lost)
            begun, ended, lost, beginnings, numbers = page.at, False, 0, True, {}
        beginnings = beginnings and page.first
        ended = page.last and page.whole
        before = numbers.get(page.stream, page.number - 1)
        if before > OGG_HEADERS:  # who tunes in to a live stream gets its headers, and then pages from anywhere
            lost += max(0, page.number - before - 1)
        numbers[page.stream] = page.number
    yield Part(begun, size, unended=not ended, lost=lost)


def _mp3(file: BinaryIO, start: int, size: int) -> Iterator[Part]:
    for run in frames.mp3_runs(file, start, size):
        yield Part(run.start, run.end, run.patches, run.prefix, run.promised, run.missing)


# ---- a part as a file of its own


class PartView(View):
    """The bytes of a part, mended, as a file to read and seek in."""

    def __init__(
        self, file: BinaryIO, start: int, end: int, patches: tuple[tuple[int, bytes], ...] = (), prefix: bytes = b""
    ) -> None:
        self._file, self._start, self._patches, self._prefix = file, start, patches, prefix
        self._size = len(prefix) + end - start

    def size(self) -> int:
        return self._size

    def bytes_at(self, start: int, count: int) -> bytes:
        data = bytearray(self._prefix[start : start + count])
        if len(data) < count:
            first = self._start + start + len(data) - len(self._prefix)  # offset in the file
            data += self._file_bytes(first, count - len(data))
        return bytes(data)

    def _file_bytes(self, first: int, count: int) -> bytearray:
        self._file.seek(first)
        data = bytearray()
        while len(data) < count and (more := self._file.read(count - len(data))):
            data += more
        for at, mended in self._patches:
            for i, byte in enumerate(mended, at - first):
                if 0 <= i < len(data):
                    data[i] = byte
        return data
