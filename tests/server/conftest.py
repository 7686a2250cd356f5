"""What the tests of the service share: a judge that needs no network, files, and a service on a socket."""

import io
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

pytest.importorskip("fastapi")
pytest.importorskip("python_multipart")

from urgentmos.audio.samples import AudioInput, load
from urgentmos.clips.clip import Clip
from urgentmos.errors import AudioError
from urgentmos.judges.base import Predictor, Run, Score
from urgentmos.judges.timeline import Timeline
from urgentmos.ranking.comparison import Comparison, comparison


class Loudness(Predictor):
    """Scores a clip by its level. `gate`: what it waits for before each batch; `batches`: how many clips each had."""

    name, version, metrics, ranks_by = "loudness", "1", ("mos_overall",), "mos_overall"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.batches: list[int] = []
        self.broken = ""  # a name whose clip makes a whole batch fail

    def score_clips(self, clips: Sequence[Clip], run: Run = Run()) -> Iterator[Score]:
        self.batches.append(len(clips))
        self.entered.set()
        assert self.gate.wait(60)
        if any(clip.uid == self.broken for clip in clips):
            raise RuntimeError("a bug")
        for done, clip in enumerate(clips, start=1):
            if run.progress:
                run.progress(self.name, done, len(clips))
            values = self._values(clip.audio_path)
            value = values["mos_overall"]
            ends = None if value is None else {"mos_overall": [max(1.0, value - 0.4), min(5.0, value + 0.3)]}
            yield replace(self.score(clip.audio_path), clip=replace(clip, metrics=values), intervals=ends)

    def _values(self, path: str) -> dict[str, float | None]:
        try:
            return {"mos_overall": round(float(load(path).info.rms) * 10 + 1, 6)}
        except AudioError:
            return {"mos_overall": None}

    def score(self, source: AudioInput, *, sample_rate: int | None = None, reference: AudioInput | None = None) -> Score:
        clip = Clip("x", str(source))
        try:
            heard = load(source, sample_rate=sample_rate)
        except AudioError as e:
            return Score(clip, self.name, str(e))
        return Score(clip, self.name, None, list(heard.info.warnings))

    def timeline(self, source: AudioInput, *, sample_rate: int | None = None) -> Timeline:
        """The level of each hundredth of a second."""
        heard = load(source, sample_rate=sample_rate)
        step = heard.rate // 100
        blocks = heard.wave[: len(heard.wave) // step * step].reshape(-1, step)
        logits = 10 * np.sqrt(np.mean(blocks**2, axis=1)) - 1
        times = (np.arange(len(logits)) + 0.5) / 100
        return Timeline(len(heard.wave) / heard.rate, times, {"mos_overall": logits}, {"mos_overall": (1.0, 5.0)})

    def compare(self, a: AudioInput, b: AudioInput, *, sample_rate: int | None = None) -> Comparison:
        left, right = (load(source, sample_rate=sample_rate).info.rms for source in (a, b))
        return comparison(str(a), str(b), np.array([left > right, left == right, left < right, left - right], dtype=float))


def sound(seed: int = 0, seconds: float = 0.3, level: float = 0.1, form: str = "WAV", subtype: str | None = None) -> bytes:
    """A noise at a level, as a file."""
    out = io.BytesIO()
    wave = level * np.random.default_rng(seed).standard_normal(int(16_000 * seconds)).clip(-3, 3)
    soundfile.write(out, wave, 16_000, format=form, subtype=subtype)
    return out.getvalue()


def silence(hours: float, form: str = "FLAC", subtype: str | None = None, rate: int = 8000) -> bytes:
    """A file that is far smaller than what it decodes to."""
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", rate, 1, subtype, format=form) as file:
        block = np.zeros(rate * 60, dtype=np.float32)
        for _ in range(round(hours * 60)):
            file.write(block)
    return out.getvalue()


def multipart(files: Sequence[tuple[str, str, bytes]], boundary: str = "xyz") -> tuple[bytes, str]:
    """(field, name, content) each -> (body, Content-Type)."""
    parts = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for field, name, content in files
    )
    return parts + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def raw_request(body: bytes, kind: str, path: str = "/v1/score", length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def read_all(connection: socket.socket, seconds: float = 60) -> bytes:
    connection.settimeout(seconds)
    found = b""
    while more := connection.recv(65_536):
        found += more
    return found


class Running:
    """A service on a free port of this machine."""

    def __init__(self, server, port: int, thread: threading.Thread) -> None:
        self.server, self.port, self.thread = server, port, thread
        self.url = f"http://127.0.0.1:{port}"
        self.service = server.config.app.state.service

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def folders(self) -> list[Path]:
        return list(self.service.store.root.iterdir())


@contextmanager
def running(judge: Predictor, limits=None, token: str | None = None) -> Iterator[Running]:
    from urgentmos.server.run import listening, server_of

    place = listening("127.0.0.1", 0)
    server = server_of(judge, limits, token)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield Running(server, place.getsockname()[1], thread)
    finally:
        server.should_exit = True
        thread.join(60)
        place.close()


def until(true, seconds: float = 60.0) -> None:
    """Waits; a machine may be busy."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@pytest.fixture
def serving() -> SimpleNamespace:
    """All of the above."""
    names = (Loudness, Running, sound, silence, multipart, raw_request, read_all, running, until)
    return SimpleNamespace(**{name.__name__: name for name in names})


@pytest.fixture
def judge() -> Loudness:
    return Loudness()


@pytest.fixture
def client(judge: Loudness) -> Iterator:
    """Asks a service over `judge` that has the ordinary limits and no socket."""
    httpx = pytest.importorskip("httpx")
    assert httpx
    from starlette.testclient import TestClient

    from urgentmos.server import create_app

    with TestClient(create_app(judge), raise_server_exceptions=False) as asking:
        yield asking
