"""The files of a request: from multipart/form-data, while it arrives, into one temporary file each.

Nothing of a client becomes part of a path: files are numbered, and of a name only its ending is used, if it is one of
ours. Limits hold while bytes arrive, not afterwards; what a file would become when decoded is known before the model sees it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from urgentmos.audio.decoding import PIECE, open_stream
from urgentmos.audio.formats import AUDIO_ENDINGS, AUDIO_SUFFIXES, AV_SUFFIXES
from urgentmos.audio.streams import Stream
from urgentmos.errors import visible
from urgentmos.server.limits import MEGABYTE, Limits, Problem, busy, too_large

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")
FORM = "multipart/form-data"
NAME_LENGTH = 255  # characters of a name
TEXT_BYTES = 4096  # of a text field
HEADER_BYTES = 8192  # of the headers of a part
TEXTS_PER_FILE, TEXTS = 4, 16  # text fields in a request: some for each file that is allowed, and some more
SMALL, LARGE_SHARE = 1 / 256, 3 / 4  # of the space for temporary files
QUICK_THREADS, SLOW_THREADS = 4, 2  # that measure uploads
WRITER_THREADS = 2  # that read forms and write files of requests beyond the first INLINE_BYTES
INLINE_BYTES = 1 << 17  # read at once: each file that is opened while others compute may stop all connections for a moment
HEAD = 16  # bytes that identify a container

# What a browser's recorder and curl call the formats that the decoders read; for files without an ending of ours.
TYPES = {
    "audio/wav": ".wav",
    "audio/wave": ".wav",
    "audio/x-wav": ".wav",
    "audio/vnd.wave": ".wav",
    "audio/flac": ".flac",
    "audio/x-flac": ".flac",
    "audio/mpeg": ".mp3",
    "audio/mp3": ".mp3",
    "audio/ogg": ".ogg",
    "audio/opus": ".opus",
    "application/ogg": ".ogg",
    "video/ogg": ".ogg",
    "audio/aiff": ".aiff",
    "audio/x-aiff": ".aiff",
    "audio/basic": ".au",
    "audio/x-caf": ".caf",
    "audio/mp4": ".m4a",
    "audio/x-m4a": ".m4a",
    "audio/m4a": ".m4a",
    "audio/aac": ".aac",
    "audio/amr": ".amr",
    "audio/3gpp": ".3gp",
    "audio/webm": ".webm",
    "audio/x-matroska": ".mka",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "video/3gpp": ".3gp",
}
UNTYPED = ("", "application/octet-stream", "binary/octet-stream")  # sent by clients that do not know


@dataclass
class Upload:
    """A file that has arrived."""

    part: str  # the form field
    name: str  # as the client calls it: a label
    path: Path  # ours
    size: int = 0  # bytes
    seconds: float = 0.0  # of audio that it counts, see `Limits.audio_seconds`; 0 if it cannot be decoded


@dataclass
class Form:
    """The parts of a request's form, in order."""

    files: list[Upload] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)


class Store:
    """Temporary files of all requests: a private folder with a private folder for each request, which goes with it."""

    def __init__(self, limit_mb: float) -> None:
        self._root = tempfile.TemporaryDirectory(prefix="urgentmos-", ignore_cleanup_errors=True)  # 0700
        self._limit = limit_mb * MEGABYTE
        self._lock = threading.Lock()
        self.bytes = 0
        self.root.mkdir(0o700)
        self.writers = ThreadPoolExecutor(WRITER_THREADS, "urgentmos-writer")

    @property
    def own(self) -> Path:
        """For files of the service itself."""
        return Path(self._root.name)

    @property
    def root(self) -> Path:
        """The folders of requests."""
        return self.own / "requests"

    @contextmanager
    def room(self) -> Iterator[Room]:
        """A folder for one request. Its bytes count until the request is over."""
        with tempfile.TemporaryDirectory(dir=self.root, ignore_cleanup_errors=True) as name:
            room = Room(Path(name), self)
            try:
                yield room
            finally:
                with self._lock:
                    self.bytes -= room.bytes

    @asynccontextmanager
    async def large_room(self) -> AsyncIterator[Room]:
        """The same; many files are removed by a writer."""
        context = self.room()
        room = context.__enter__()
        try:
            yield room
        finally:
            if room.bytes > INLINE_BYTES:
                await _in_full(self.writers, context.__exit__, None, None, None)
            else:
                context.__exit__(None, None, None)

    def is_small(self, n_bytes: int) -> bool:
        """Whether a request that holds so much may use all of the space."""
        return n_bytes <= self._limit * SMALL

    def reserve(self, n_bytes: int, *, small: bool) -> bool:
        """Whether there was room for so many more."""
        with self._lock:
            fits = self.bytes + n_bytes <= self._limit * (1.0 if small else LARGE_SHARE)
            self.bytes += n_bytes if fits else 0
            return fits

    def close(self) -> None:
        self.writers.shutdown(wait=False, cancel_futures=True)
        self._root.cleanup()


@dataclass
class Room:
    """The folder of one request."""

    folder: Path
    store: Store
    bytes: int = 0

    def reserve(self, n_bytes: int) -> None:
        """Problem if all requests together hold too much; the last quarter of the space is for those that need little."""
        if not self.store.reserve(n_bytes, small=self.store.is_small(self.bytes + n_bytes)):
            raise busy("The service holds as many files as it may.", 5)
        self.bytes += n_bytes


async def receive(request: Request, room: Room, limits: Limits) -> Form:
    """The form of a request, its files in its room. Problem where it breaks a limit or is no form; ClientDisconnect."""
    reading = _Reading(room, limits)
    try:
        parser = MultipartParser(_boundary(request, limits), reading.callbacks())  # type: ignore[arg-type]
        async with asyncio.timeout(limits.upload_seconds):
            received = 0
            async for chunk in _chunks(request, limits):
                received += len(chunk)
                if received > INLINE_BYTES:
                    await _in_full(room.store.writers, parser.write, chunk)
                else:
                    parser.write(chunk)
        parser.finalize()
    except TimeoutError:
        sentence = f"The request did not arrive within {limits.upload_seconds:g} s. Send less at once, or over a faster line."
        raise Problem(408, sentence, {"Connection": "close"}) from None
    except FormParserError as e:
        raise Problem(400, f"The form cannot be read ({e}). Send it as {FORM}.") from e
    finally:
        reading.close()
    if not reading.ended:
        raise Problem(400, "The form is cut off: its last boundary is missing. Send it again.")
    return reading.form


async def _in_full(executor: Executor, work: Callable[..., T], *values: Any) -> T:
    """Run `work` in a thread and return its result; a cancelled caller waits for its end."""
    future = asyncio.get_running_loop().run_in_executor(executor, partial(work, *values))
    try:
        return await asyncio.shield(future)
    finally:
        if not future.done():
            await asyncio.wait({future})


def _boundary(request: Request, limits: Limits) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind.decode("latin-1").lower() != FORM:
        raise Problem(415, f"The body is {kind.decode('latin-1')[:80] or 'of no stated type'}. Send files as {FORM}.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "The body is compressed as a whole. Send it without Content-Encoding.")
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= 200:
        raise Problem(400, f"The Content-Type has no usable boundary. Let the client write it: {FORM}; boundary=...")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limits.request_mb * MEGABYTE:
        raise _request_too_large(limits)
    return boundary


async def _chunks(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limits.request_mb * MEGABYTE:
            raise _request_too_large(limits)
        if chunk:
            yield chunk


def _request_too_large(limits: Limits) -> Problem:
    return too_large(f"A request may have {limits.request_mb:g} MB. Send fewer files at once.")


class _Reading:
    """Callbacks of the multipart parser, and what they have seen."""

    def __init__(self, room: Room, limits: Limits) -> None:
        self._room, self._limits = room, limits
        self.form = Form()
        self.ended = False
        self._file: BinaryIO | None = None
        self._upload: Upload | None = None
        self._part, self._text, self._n_texts = "", bytearray(), 0
        self._name, self._value = bytearray(), bytearray()
        self._headers: dict[str, bytes] = {}
        self._header_bytes = 0

    def callbacks(self) -> dict[str, Any]:
        names = "part_begin part_data part_end header_field header_value header_end headers_finished end"
        return {f"on_{name}": getattr(self, f"_{name}") for name in names.split()}

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _part_begin(self) -> None:
        self._headers, self._header_bytes = {}, 0
        self._name, self._value = bytearray(), bytearray()
        self._part, self._text, self._upload = "", bytearray(), None

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._grow(self._name, data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._grow(self._value, data[start:end])

    def _grow(self, held: bytearray, more: bytes) -> None:
        held += more
        self._header_bytes += len(more)
        if self._header_bytes > HEADER_BYTES:
            raise Problem(400, f"The headers of a part have more than {HEADER_BYTES} bytes. Use shorter names.")

    def _header_end(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        self._part = label(options.get(b"name", b""))
        if b"filename" in options:
            self._open(label(options[b"filename"]))
            return
        self._n_texts += 1
        if self._n_texts > TEXTS_PER_FILE * self._limits.files + TEXTS:
            raise too_large("The form has too many fields. Send only those that the interface names.")

    def _open(self, name: str) -> None:
        n = len(self.form.files)
        if n >= self._limits.files:
            raise too_large(f"A request may have {self._limits.files} files. Send the others in further requests.")
        kind = self._headers.get("content-type", b"").decode("latin-1").split(";")[0].strip().lower()
        self._upload = Upload(self._part, name or f"file {n + 1}", self._room.folder / f"{n:04d}{suffix_of(name, kind)}")
        self.form.files.append(self._upload)
        self._file = self._upload.path.open("xb")  # closed when the part ends, or by close()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is None or self._upload is None:
            self._text += data[start:end]
            if len(self._text) > TEXT_BYTES:
                raise too_large(f"The field {self._part!r} has more than {TEXT_BYTES} bytes. Send audio as files.")
            return
        if self._upload.size + end - start > self._limits.file_mb * MEGABYTE:
            cure = "Send it in pieces, or compressed as FLAC or Opus"
            raise too_large(f"{self._upload.name} has more than {self._limits.file_mb:g} MB. {cure}.")
        self._room.reserve(end - start)
        self._upload.size += end - start
        self._file.write(data[start:end])

    def _part_end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        else:
            text = self._text.decode("utf-8", "replace")
            self.form.texts.setdefault(self._part, []).append(_printable(text))

    def _end(self) -> None:
        self.ended = True


def label(name: bytes) -> str:
    """A name as a client sent it -> text that can be shown: no control characters, no more than NAME_LENGTH of them."""
    return _printable(name.decode("utf-8", "replace").replace("%22", '"'))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()[-NAME_LENGTH:]


def suffix_of(name: str, kind: str) -> str:
    """The ending, one of AUDIO_SUFFIXES, that names the format for the decoder. Problem if it is no audio by name and type."""
    suffix = os.path.splitext(name)[1].lower()
    by_type = TYPES.get(kind)
    if suffix in AUDIO_SUFFIXES and (kind in UNTYPED or by_type or kind.startswith("audio/")):
        return suffix
    if by_type and suffix not in AUDIO_SUFFIXES:
        return by_type
    stated = visible(f"{name or 'A file'} is {kind or 'of no stated type'}")
    raise Problem(415, f"{stated}, which is no audio that can be read. Send one of: {AUDIO_ENDINGS}.")


# ---- what a file would become


class Lengths:
    """Measures uploads before the model sees them: headers at once, what must be decoded to be counted one after the other.

    So a request with many bytes to decode does not keep others from being measured.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._quick = ThreadPoolExecutor(QUICK_THREADS, "urgentmos-header")
        self._slow = ThreadPoolExecutor(SLOW_THREADS, "urgentmos-length")

    async def measure(self, uploads: Sequence[Upload]) -> float:
        """Seconds of audio that the uploads count together, each of which gets its own. Problem as `measure` says."""
        loop = asyncio.get_running_loop()
        stop = threading.Event()
        total = 0.0
        try:
            for upload in uploads:
                if not await loop.run_in_executor(self._quick, measure, upload, self._limits):
                    await loop.run_in_executor(self._slow, count, upload, self._limits, stop)
                total += upload.seconds
                if total > self._limits.request_seconds:
                    cure = "Send fewer files, or shorter or narrower ones, at once"
                    raise too_large(f"A request may hold {self._limits.request_seconds:g} s of audio. {cure}.")
        finally:
            stop.set()
        return total

    def close(self) -> None:
        self._quick.shutdown(wait=False, cancel_futures=True)
        self._slow.shutdown(wait=False, cancel_futures=True)


def check_decoded(upload: Upload, limits: Limits) -> None:
    """`measure` and, where that is not enough, `count`."""
    if not measure(upload, limits):
        count(upload, limits, threading.Event())


def measure(upload: Upload, limits: Limits) -> bool:
    """Whether the header states how long the recording is, which the upload then knows.

    Problem if it is longer than allowed, or does not match its ending. An undecodable file passes; the model reports it.
    """
    suffix = upload.path.suffix
    if suffix in AV_SUFFIXES:
        # FFmpeg goes by content. Some formats that it knows are lists of other files and addresses to open: never those.
        with open(upload.path, "rb") as f:
            head = f.read(HEAD)
        if head and not _begins_like(suffix, head):
            raise Problem(415, f"{upload.name} does not begin as a {suffix} file does. Export it again, for example as FLAC.")
    try:
        with open_stream(upload.path) as stream:
            if stream.n_samples is None:
                return False
            _note_length(upload, limits, stream.n_samples, stream)
    except Problem:
        raise
    except Exception:  # also a decoder's bug: the model's row holds the error
        pass
    return True


def count(upload: Upload, limits: Limits, stop: threading.Event) -> None:
    """Decode the recording to count its samples, in constant memory; ends early at a limit (Problem), or when `stop` is set."""
    n_samples = 0
    try:
        if stop.is_set():
            return
        with open_stream(upload.path) as stream:
            for piece in stream.pieces(PIECE):
                n_samples += len(piece)
                _note_length(upload, limits, n_samples, stream)
                if stop.is_set():
                    return
    except Problem:
        raise
    except Exception:  # a decoder's error or bug: the model's row reports it
        return


def _begins_like(suffix: str, head: bytes) -> bool:
    if suffix in (".m4a", ".mp4", ".3gp"):
        return head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
    if suffix in (".webm", ".mka"):
        return head.startswith(b"\x1a\x45\xdf\xa3")
    if suffix == ".aac":
        return head.startswith((b"ADIF", b"ID3")) or (head[0] == 0xFF and len(head) > 1 and head[1] & 0xF6 == 0xF0)
    return head.startswith({".amr": b"#!AMR", ".wma": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"}[suffix])


def _note_length(upload: Upload, limits: Limits, n_samples: int, stream: Stream) -> None:
    seconds, samples = n_samples / max(1, stream.rate), n_samples * stream.channels
    upload.seconds = limits.audio_seconds(seconds, samples)
    if seconds > limits.seconds:
        raise too_large(f"{upload.name} lasts longer than {limits.seconds:g} s. Cut it into shorter recordings.")
    if samples > limits.samples:
        most = f"{limits.samples / MEGABYTE:g} million samples"
        raise too_large(f"{upload.name} decodes to more than {most}. Send fewer channels, a lower rate, or shorter pieces.")
