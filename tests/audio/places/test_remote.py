"""A store that fails: what may pass is asked again, what does not exist is said to, and no server leads to another one."""

import errno
import io
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import example, given
from hypothesis import strategies as st

from urgentmos.audio.places import opening, remote
from urgentmos.audio.samples import load
from urgentmos.clips.inputs import read_clips
from urgentmos.clips.journal import Journal, Outcome, Task
from urgentmos.common import retries as passing
from urgentmos.common.retries import AGAIN, is_passing
from urgentmos.errors import AudioError, UsageError
from urgentmos.labellers.loop import label

pytest.importorskip("aiohttp")
RATE = 8_000
Answer = Callable[[BaseHTTPRequestHandler], bool]  # whether it has answered; else the recording is sent


def wav() -> bytes:
    file = io.BytesIO()
    wave = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    soundfile.write(file, wave, RATE, format="WAV")
    return file.getvalue()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(passing, "PAUSE", 0.0)
    monkeypatch.delenv(remote.ALLOWED, raising=False)
    monkeypatch.setattr(remote, "_typed", set())
    opening._kept.clear()
    remote.stamp.cache_clear()
    remote._gives_parts.cache_clear()
    yield
    opening._kept.clear()


class Store:
    """A web server on loopback; `answer` may take a request, `hits` counts (method, path)."""

    def __init__(self, answer: Answer) -> None:
        self.hits: Counter[tuple[str, str]] = Counter()
        store, data = self, wav()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                store.hits[self.command, self.path] += 1
                if answer(self):
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(data)

            do_HEAD = do_GET

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Store]]:
    running: list[Store] = []

    def start(answer: Answer) -> Store:
        running.append(Store(answer))
        return running[-1]

    yield start
    for store in running:
        store.server.shutdown()
        store.server.server_close()


def status(code: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> bool:
        request.send_response(code)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body)
        return True

    return answer


def reset(request: BaseHTTPRequestHandler) -> bool:
    request.close_connection = True
    request.connection.close()
    return True


def half(request: BaseHTTPRequestHandler) -> bool:
    """Half of what the header promises."""
    data = wav()
    request.send_response(200)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    if request.command == "GET":
        request.wfile.write(data[: len(data) // 2])
        request.close_connection = True
    return True


PASSING: dict[str, Answer] = {str(code): status(code) for code in (408, 425, 429, 500, 502, 503, 504, 507, 520)} | {
    "reset": reset,
    "half": half,
}
FINAL = {404: "does not exist", 410: "does not exist", 401: "may not be read", 403: "may not be read", 400: "cannot be fetched"}


@pytest.mark.parametrize("name", PASSING)
def test_a_failure_that_passes_costs_nothing(name: str, serve: Callable[[Answer], Store]) -> None:
    failures = iter([True] * (3 if name == "half" else 4))  # of HEAD and GET alike
    store = serve(lambda request: next(failures, False) and PASSING[name](request))
    assert len(load(f"{store.url}/a.wav").wave) == RATE


@pytest.mark.parametrize("name", PASSING)
def test_a_failure_that_stays_is_no_missing_file_and_may_pass(name: str, serve: Callable[[Answer], Store]) -> None:
    store = serve(PASSING[name])
    with pytest.raises(AudioError, match="cannot be fetched") as caught:
        load(f"{store.url}/a.wav")
    assert is_passing(str(caught.value)) and "does not exist" not in str(caught.value)
    assert 1 < sum(store.hits.values()) <= 2 * passing.TRIES * 2, "tried again, but not for ever"


@pytest.mark.parametrize("code", FINAL)
def test_what_cannot_pass_is_asked_once(code: int, serve: Callable[[Answer], Store]) -> None:
    store = serve(status(code))
    with pytest.raises(AudioError, match=FINAL[code]) as caught:
        load(f"{store.url}/a.wav")
    assert store.hits["GET", "/a.wav"] == 1
    assert is_passing(str(caught.value)) == (code in (401, 403)), "credentials may be mended, a missing file is missing"


def test_nobody_listens_there() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    port = server.server_address[1]
    server.server_close()
    with pytest.raises(AudioError, match="cannot be fetched") as caught:
        load(f"http://127.0.0.1:{port}/a.wav")
    assert is_passing(str(caught.value))


def test_a_server_is_waited_for_as_long_as_it_asks_within_a_bound(
    serve: Callable[[Answer], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(passing.time, "sleep", pauses.append)
    store = serve(status(429, {"Retry-After": "7"}))
    with pytest.raises(AudioError):
        load(f"{store.url}/a.wav")
    assert pauses == [7.0] * (passing.TRIES - 1)
    pauses.clear()
    store = serve(status(503, {"Retry-After": "86400"}))
    with pytest.raises(AudioError):
        load(f"{store.url}/a.wav")
    assert pauses == [passing.LONGEST_PAUSE] * (passing.TRIES - 1)


@given(
    st.one_of(
        st.text(), st.integers(0, 10**400).map(str), st.datetimes().map(lambda d: d.strftime("%a, %d %b %Y %H:%M:%S GMT"))
    )
)
@example("0\x1f")
def test_whatever_a_header_says_the_pause_is_none_or_seconds(text: str) -> None:
    seconds = passing.retry_after(text)
    assert seconds is None or seconds >= 0


@given(st.integers(1, 12), st.floats(0.01, 5))
def test_pauses_grow_and_are_bounded(tries: int, pause: float) -> None:
    pauses: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passing, "TRIES", tries)
        patch.setattr(passing, "PAUSE", pause)
        patch.setattr(passing.time, "sleep", pauses.append)
        with pytest.raises(TimeoutError):
            passing.retried(lambda: (_ for _ in ()).throw(TimeoutError()))
    assert len(pauses) == tries - 1
    assert all(a < b or b == passing.LONGEST_PAUSE or b > 0.8 * passing.LONGEST_PAUSE for a, b in pairwise(pauses))
    assert max(pauses, default=0.0) <= passing.LONGEST_PAUSE


# ---- local files


@pytest.mark.parametrize("number", sorted(passing.ERRNOS))
def test_a_network_file_system_that_recovers_costs_nothing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.wav").write_bytes(wav())
    failures = iter([True, True])
    stat = opening.os.stat

    def flaky(path: Any, *args: Any, **kwargs: Any) -> Any:
        if str(path).endswith("a.wav") and next(failures, False):
            raise OSError(number, "away")
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(opening.os, "stat", flaky)
    assert len(load(tmp_path / "a.wav").wave) == RATE


@pytest.mark.parametrize(
    ("number", "sentence", "passes"),
    [
        (errno.EIO, "cannot be read", True),
        (errno.ESTALE, "cannot be read", True),
        (errno.EMFILE, "cannot be read", True),
        (errno.EACCES, "may not be read", True),
        (errno.ENOENT, "does not exist", False),
        (errno.ENOTDIR, "does not exist", False),
        (errno.ENAMETOOLONG, "cannot be read", False),
    ],
)
def test_a_file_that_the_system_does_not_give(
    number: int, sentence: str, passes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.wav").write_bytes(wav())
    stat = opening.os.stat

    def broken(path: Any, *args: Any, **kwargs: Any) -> Any:
        if str(path).endswith("a.wav"):
            raise OSError(number, "the system's word")
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(opening.os, "stat", broken)
    with pytest.raises(AudioError, match=sentence) as caught:
        load(tmp_path / "a.wav")
    assert is_passing(str(caught.value)) == passes


# ---- large objects, which are read piece by piece


@pytest.mark.parametrize("suffix", ["WAV", "FLAC"])
def test_a_large_object_that_stops_coming_is_no_shorter_recording(
    suffix: str, serve: Callable[[Answer], Store], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.random.default_rng(0).standard_normal(100_000), RATE, format=suffix)
    data = file.getvalue()
    is_down = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> bool:
        asked = request.headers.get("Range")
        low, _, high = asked.removeprefix("bytes=").partition("-") if asked else ("0", "", str(len(data) - 1))
        part = data[int(low) : int(high) + 1]
        if is_down.is_set() and int(low) > 20_000:
            return status(503)(request)
        request.send_response(206 if asked else 200)
        request.send_header("Content-Range", f"bytes {low}-{int(low) + len(part) - 1}/{len(data)}")
        request.send_header("Content-Length", str(len(part)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(part)
        return True

    store = serve(answer)
    monkeypatch.setattr(remote, "IN_MEMORY", 1000)
    monkeypatch.setattr(remote, "BLOCK", 4096)
    assert len(load(f"{store.url}/a.{suffix.lower()}").wave) == 100_000
    is_down.set()
    with pytest.raises(AudioError, match="cannot be fetched") as caught:
        load(f"{store.url}/a.{suffix.lower()}")
    assert is_passing(str(caught.value))
    assert "Traceback" not in capfd.readouterr().err


# ---- a journal


def test_a_failure_that_may_pass_is_not_kept(tmp_path: Path) -> None:
    outcomes = {
        "a": Outcome(error=f"a cannot be fetched (503). Check the connection, then {AGAIN}"),
        "b": Outcome(reasons={"pesq": f"reference signal: b cannot be fetched (503), then {AGAIN}"}),
        "c": Outcome(error="c is empty (0 bytes). Record or copy it again"),
        "d": Outcome({"pesq": 1.0}),
    }
    with Journal.open(tmp_path / "j") as log:
        for name, outcome in outcomes.items():
            log.append("stage", Task(name, None), outcome)
    with Journal.open(tmp_path / "j") as log:
        assert [log.get("stage", Task(name, None)) for name in outcomes] == [None, None, outcomes["c"], outcomes["d"]]


def test_rows_that_a_store_failed_are_asked_again(
    serve: Callable[[Answer], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(remote.ALLOWED, "http")
    is_down = threading.Event()
    is_down.set()
    store = serve(lambda request: is_down.is_set() and request.path.endswith("1.wav") and status(503)(request))
    (tmp_path / "m.jsonl").write_text("".join(json.dumps({"audio_path": f"{store.url}/{i}.wav"}) + "\n" for i in range(3)))
    clips = read_clips(tmp_path / "m.jsonl")
    first = list(label(clips, ["lsd"], journal=tmp_path / "j"))
    assert [bool(is_passing(item.error)) for item in first] == [False, True, False]
    is_down.clear()
    asked = dict(store.hits)
    opening._kept.clear()
    second = list(label(clips, ["lsd"], journal=tmp_path / "j"))
    assert not any(is_passing(item.error) for item in second)
    again = [path for (method, path), count in store.hits.items() if method == "GET" and count > asked.get((method, path), 0)]
    assert again == ["/1.wav"], "only what failed is asked again"


# ---- redirects


def inner_and_outer(serve: Callable[[Answer], Store], code: int = 302) -> tuple[Store, Store]:
    inner = serve(lambda request: False)
    rows = json.dumps({"audio_path": "a.wav"}).encode()

    def answer(request: BaseHTTPRequestHandler) -> bool:
        if request.path == "/m.jsonl":
            return status(200, body=rows)(request)
        if request.path == "/real.wav":
            return False
        place = "/real.wav" if request.path == "/b.wav" else f"{inner.url}/secret.wav"
        return status(code, {"Location": place})(request)

    return inner, serve(answer)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_no_manifest_leads_to_another_server(code: int, serve: Callable[[Answer], Store]) -> None:
    inner, outer = inner_and_outer(serve, code)
    (clip,) = read_clips(f"{outer.url}/m.jsonl")
    with pytest.raises(AudioError, match="redirects to another server") as caught:
        load(clip.audio_path)
    assert not inner.hits and remote.ALLOWED in str(caught.value)


def test_a_server_may_redirect_to_itself(serve: Callable[[Answer], Store]) -> None:
    _, outer = inner_and_outer(serve)
    assert len(load(f"{outer.url}/b.wav").wave) == RATE


def test_a_url_that_the_user_named_may_redirect(serve: Callable[[Answer], Store]) -> None:
    inner, outer = inner_and_outer(serve)
    (clip,) = read_clips(f"{outer.url}/a.wav")
    assert len(load(clip.audio_path).wave) == RATE and inner.hits
    inner.hits.clear()
    with pytest.raises(AudioError, match="another server"):
        load(f"{outer.url}/other.wav")
    assert not inner.hits


def test_a_scheme_that_is_allowed_may_be_led_to(serve: Callable[[Answer], Store], monkeypatch: pytest.MonkeyPatch) -> None:
    _, outer = inner_and_outer(serve)
    monkeypatch.setenv(remote.ALLOWED, "http")
    assert len(load(f"{outer.url}/a.wav").wave) == RATE


def test_a_redirect_without_end_is_one_sentence(serve: Callable[[Answer], Store]) -> None:
    store = serve(lambda request: status(302, {"Location": "/a.wav"})(request))
    with pytest.raises(AudioError, match="cannot be fetched"):
        load(f"{store.url}/a.wav")


def test_a_manifest_that_cannot_be_fetched_is_a_usage_error(serve: Callable[[Answer], Store]) -> None:
    store = serve(status(503))
    with pytest.raises(UsageError, match="cannot be fetched"):
        read_clips(f"{store.url}/m.jsonl")


ORIGINS = st.tuples(
    st.sampled_from(["http", "https"]),
    st.sampled_from(["a.org", "A.org", "b.org"]),
    st.sampled_from(["", ":80", ":443", ":8080"]),
)


@given(ORIGINS, ORIGINS)
def test_only_the_same_scheme_host_and_port_is_the_same_server(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    def of(scheme: str, host: str, port: str) -> tuple[str, str, int]:
        return scheme, host.lower(), int(port[1:] or {"http": 80, "https": 443}[scheme])

    here, there = ("{}://{}{}/x.wav".format(*origin) for origin in (one, other))
    if of(*one) == of(*other):
        remote.check_redirect(here, here, there)
    else:
        with pytest.raises(remote.Redirected):
            remote.check_redirect(here, here, there)
