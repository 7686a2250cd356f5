"""Recordings decoded in processes of their own: a decoder that crashes, hangs or grows costs one clip and not the command.

The processes start when the first such recording comes, wait for the next one, and end with this process. They are plain
subprocesses, so a script needs no `if __name__ == "__main__"`.
"""

from __future__ import annotations

import atexit
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

import numpy as np

from urgentmos.audio import decoder_channel as protocol
from urgentmos.audio.streams import Stream, check_form
from urgentmos.common.retries import AGAIN
from urgentmos.errors import AudioError

ANSWER_SECONDS = 30.0  # without a word from a process: what waits for a disk does not compute
START_SECONDS = 60.0  # until a process has loaded its decoders, on a machine under load
IN_MESSAGE = 64 << 20  # bytes of a recording that is no file of this machine; a larger one is copied into a file first
RECORDINGS = 500  # that a process decodes before another takes its place
IDLE = 4  # processes that are kept
STEP = 1 << 20  # bytes
COMMAND = [sys.executable, "-P", "-m", "urgentmos.audio.decoder_process"]  # -P: never a module of the current folder
LONGEST_ANSWER = 1 << 32  # bytes


class _Gone(Exception):
    """The process ended, or had to be ended; with the reason as it goes into a sentence."""


class Decoder:
    """One process."""

    def __init__(self) -> None:
        paths = [path for path in sys.path if os.path.isabs(path)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=os.path.abspath(os.sep),  # libsndfile looks for a file ._ beside an MP3 (a resource fork), and believes it
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self.recordings = 0
        self._is_ready = False

    def ask(self, letter: bytes, *parts: bytes | memoryview) -> tuple[bytes, bytearray]:
        """The answer to a question. _Gone if there is none in time."""
        deadline = time.monotonic() + (ANSWER_SECONDS if self._is_ready else START_SECONDS)
        try:
            self._write(protocol.HEAD.pack(letter, sum(map(len, parts))), deadline)
            for part in parts:
                self._write(part, deadline)
            head = self._read(protocol.HEAD.size, deadline)
            answer, length = protocol.HEAD.unpack(head)
            if length > LONGEST_ANSWER:
                raise EOFError
            content = self._read(length, deadline)
        except (TimeoutError, BrokenPipeError, EOFError, MemoryError) as e:
            raise _Gone(self._end(e)) from None
        self._is_ready = True
        return answer, content

    def _write(self, data: bytes | memoryview, deadline: float) -> None:
        view = memoryview(data)
        while len(view):
            try:
                view = view[os.write(self._in, view[:STEP]) :]
            except BlockingIOError:
                _wait(self._in, selectors.EVENT_WRITE, deadline)

    def _read(self, length: int, deadline: float) -> bytearray:
        data = bytearray(length)
        view = memoryview(data)
        while len(view):
            try:
                count = os.readv(self._out, [view])
            except BlockingIOError:
                _wait(self._out, selectors.EVENT_READ, deadline)
                continue
            if count == 0:
                raise EOFError
            view = view[count:]
        return data

    def _end(self, error: Exception) -> str:
        """Why there was no answer; the process has ended."""
        if isinstance(error, TimeoutError):
            self.kill()
            return f"its decoder did not answer for {ANSWER_SECONDS:g} s"
        if isinstance(error, MemoryError):
            self.kill()
            return f"decoding it takes more than {protocol.MEMORY >> 30} GB of memory"
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.returncode
        self.kill()
        if code is None or code >= 0:
            return f"its decoder ended without an answer (exit status {code})"
        if -code == getattr(signal, "SIGXCPU", 0):
            return f"its decoder computed for more than {protocol.SECONDS:g} s, and too little sound came of it"
        return f"its decoder crashed ({signal.Signals(-code).name})"

    def kill(self) -> None:
        """Ends the process now."""
        self._process.kill()
        self.close()
        self._process.wait()

    def close(self) -> None:
        """Ends the process once it has nothing to do."""
        for end in (self._process.stdin, self._process.stdout):
            if end is not None:
                with suppress(OSError):
                    end.close()

    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None


def _wait(descriptor: int, event: int, deadline: float) -> None:
    left = deadline - time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, event)
        if left <= 0 or not selector.select(left):
            raise TimeoutError


class Pool:
    """Processes that wait for recordings."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Decoder] = []

    def take(self, fresh: bool = False) -> Decoder:
        """A process for one recording. AudioError if the machine cannot start one."""
        with self._lock:
            waiting = [] if fresh else self._idle
            while waiting:
                decoder = waiting.pop()
                if decoder.is_alive():
                    return decoder
                decoder.kill()
        return Decoder()

    def give_back(self, decoder: Decoder) -> None:
        """Keeps it for the next recording, or ends it."""
        with self._lock:
            if decoder.recordings < RECORDINGS and len(self._idle) < IDLE:
                self._idle.append(decoder)
                return
        decoder.kill()

    def close(self) -> None:
        """Ends the processes that wait."""
        with self._lock:
            idle, self._idle = self._idle, []
        for decoder in idle:
            decoder.kill()

    def forget(self) -> None:
        """In a forked process: the parent's processes are not its own."""
        self._lock = threading.Lock()
        for decoder in self._idle:
            decoder.close()
        self._idle = []


POOL = Pool()
atexit.register(POOL.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.forget)


class FarStream(Stream):
    """A recording that a process of the pool decodes."""

    def __init__(self, where: str, decoder: Decoder, form: bytes) -> None:
        super().__init__(where)
        self.rate, self.channels, self.n_samples = json.loads(form)
        self._decoder = decoder
        self.is_open = True

    def pieces(self, n: int) -> Iterator[np.ndarray]:
        while self.is_open:
            letter, content = self._ask(protocol.NEXT, n.to_bytes(8, "little"))
            if letter == protocol.END:
                self.is_open = False
                self.warnings += json.loads(content)
            elif letter == protocol.BLOCK:
                yield np.frombuffer(content, dtype=np.float32).reshape(-1, self.channels)
            else:
                self.is_open = False
                raise AudioError(content.decode("utf-8", "surrogateescape"))

    def _ask(self, letter: bytes, content: bytes = b"") -> tuple[bytes, bytearray]:
        try:
            return self._decoder.ask(letter, content)
        except _Gone as e:
            self.is_open = False
            raise gone(self.where, e) from None

    def close(self) -> None:
        """Leaves the process ready for the next recording."""
        if self.is_open and self._decoder.is_alive():
            self.is_open = False
            with suppress(_Gone):
                letter, _ = self._decoder.ask(protocol.CLOSE)
                if letter != protocol.CLOSED:
                    self._decoder.kill()


def gone(where: str, reason: object) -> AudioError:
    """The error of a recording that ended its decoder."""
    return AudioError(f"{where} cannot be decoded: {reason}. Check that it is audio, and export it again, for example as WAV")


@contextmanager
def open_stream(file: BinaryIO, where: str, by_ffmpeg: bool = False) -> Iterator[Stream]:
    """The recording in an open file, decoded in a process of the pool. `by_ffmpeg`: libsndfile has refused it.

    Raises AudioError if it cannot be decoded, takes too long or too much memory, or crashes its decoder.
    """
    job = json.dumps({"where": where, "by_ffmpeg": by_ffmpeg}).encode() + b"\n"
    with _content(file, where) as (letter, content):
        decoder, answer, form = _opened(where, letter, job, content)
        try:
            if answer == protocol.ERROR:
                raise AudioError(form.decode("utf-8", "surrogateescape"))
            assert answer == protocol.OPENED
            stream = FarStream(where, decoder, bytes(form))
            try:
                check_form(where, stream.rate, stream.channels)
                yield stream
            finally:
                stream.close()
        finally:
            if decoder.is_alive():
                decoder.recordings += 1
                POOL.give_back(decoder)


def _opened(where: str, letter: bytes, job: bytes, content: bytes | memoryview) -> tuple[Decoder, bytes, bytearray]:
    """A process that has opened a recording, and its answer."""
    for fresh in (False, True):
        try:
            decoder = POOL.take(fresh)
        except OSError as e:
            raise AudioError(
                f"{where} cannot be decoded now: no process can be started ({e.strerror}). Close others, then {AGAIN}"
            ) from e
        is_used = decoder.recordings > 0
        try:
            return decoder, *decoder.ask(letter, job, content)
        except _Gone as e:
            if not is_used:  # one that was used may have ended while it waited
                raise gone(where, e) from None
    raise AssertionError("a fresh process answers or raises")


@contextmanager
def _content(file: BinaryIO, where: str) -> Iterator[tuple[bytes, bytes | memoryview]]:
    """How a process gets at a recording: by the name of a file of this machine, or by its bytes."""
    name = getattr(file, "name", None)
    if isinstance(name, str | bytes) and os.path.isfile(name):
        yield protocol.FILE, os.path.abspath(os.fsencode(name))
        return
    file.seek(0)
    data = file.read(IN_MESSAGE + 1)
    if len(data) <= IN_MESSAGE:
        yield protocol.BYTES, data
        return
    with tempfile.NamedTemporaryFile(prefix="urgentmos-") as copy:
        try:
            while data:
                copy.write(data)
                data = file.read(STEP)
            copy.flush()
        except OSError as e:
            raise AudioError(
                f"{where} cannot be copied to {copy.name} to be decoded ({e.strerror}). Free some space, then {AGAIN}"
            ) from e
        yield protocol.FILE, os.fsencode(copy.name)
