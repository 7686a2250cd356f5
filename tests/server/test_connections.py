"""Every phase of a connection has a deadline, on a real socket; and there is a limit to their number."""

import json
import resource
import socket

import pytest

from urgentmos.server.connections import SPARE_FILES, connection_limit
from urgentmos.server.limits import Limits

GET = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
EARLY = b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\nExpect: x\r\n\r\n"
SHORT = Limits(header_seconds=0.3, idle_seconds=0.3, upload_seconds=0.3, read_seconds=0.5)


def answer_of(connection: socket.socket) -> bytes:
    """The first answer on a connection that stays open."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65_536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    while len(body) < length:
        body += connection.recv(65_536)
    return head


def closes(connection: socket.socket, more: bytes) -> bool:
    """Whether the connection is closed, although a byte of `more` arrives every now and then."""
    connection.settimeout(0.05)
    for k in range(1200):
        try:
            connection.sendall(more[k % len(more) : k % len(more) + 1] if more else b"")
            if connection.recv(65_536) == b"":
                return True
        except TimeoutError:
            pass
        except OSError:
            return True
    return False


@pytest.mark.parametrize(
    ("first", "then"),
    [
        pytest.param(b"", b"", id="nothing at all"),
        pytest.param(b"GET / HTTP/1.1\r\nX: ", b"a", id="headers byte by byte"),
        pytest.param(GET, b"", id="idle"),
        pytest.param(GET, b"a", id="a second request byte by byte"),
        pytest.param(GET + b"G", b"", id="a second request that stops"),
        pytest.param(EARLY, b"a", id="a body that nobody reads"),
    ],
)
def test_no_connection_stays_whatever_the_client_does(judge, serving, first, then):
    with serving.running(judge, SHORT) as service, service.connect() as connection:
        connection.sendall(first)
        if first.startswith((b"GET /openapi", b"POST")):
            answer_of(connection)
        assert closes(connection, then)
        serving.until(lambda: not service.server.server_state.connections)


def test_a_client_that_does_not_read_is_cut_off(judge, serving):
    with serving.running(judge, SHORT) as service, service.connect() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(0.2)
        try:
            for _ in range(5000):
                deaf.sendall(GET)  # answers of megabytes
        except OSError:
            pass
        serving.until(lambda: not service.server.server_state.connections)
        assert not service.server.server_state.tasks


def test_a_connection_too_many_takes_the_place_of_one_that_waits(judge, serving):
    body, kind = serving.multipart([("files", "a.wav", serving.sound())])
    with serving.running(judge, Limits(connections=4)) as service:
        held = [service.connect() for _ in range(12)]
        for connection in held[::2]:
            connection.sendall(b"GET / HT")
        with service.connect() as good:
            good.sendall(serving.raw_request(body, kind))
            assert serving.read_all(good).startswith(b"HTTP/1.1 200")
        assert len(service.server.server_state.connections) <= 4
        for connection in held:
            connection.close()


def test_where_all_connections_are_computed_for_a_further_one_is_refused_at_once(judge, serving):
    judge.gate.clear()
    body, kind = serving.multipart([("files", "a.wav", serving.sound())])
    with serving.running(judge, Limits(connections=2)) as service:
        busy = [service.connect() for _ in range(2)]
        for connection in busy:
            connection.sendall(serving.raw_request(body, kind))
        serving.until(lambda: service.service.meters.active._value.get() == 2 and service.service.slots.taken == 2)
        with service.connect() as further:
            head, _, text = serving.read_all(further).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503") and b"Retry-After" in head and json.loads(text)["status"] == 503
        judge.gate.set()
        for connection in busy:
            assert serving.read_all(connection).startswith(b"HTTP/1.1 200")
            connection.close()


def test_the_limit_is_well_below_what_the_process_may_open(monkeypatch):
    for soft in (256, 1024, 20_000, resource.RLIM_INFINITY):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        limit = connection_limit(Limits(connections=5000))
        assert 1 <= limit <= 5000 and (soft == resource.RLIM_INFINITY or 2 * limit + SPARE_FILES <= soft)


@pytest.mark.parametrize("kind", ["unread", "upload", "second", "computing"])
def test_the_end_does_not_wait_for_a_client_longer_than_the_grace(judge, serving, kind):
    body, form = serving.multipart([("files", "a.wav", serving.sound())])
    if kind == "computing":
        judge.gate.clear()
    with serving.running(judge, Limits(grace_seconds=0.3)) as service, service.connect() as connection:
        if kind == "unread":
            connection.settimeout(0.2)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            try:
                for _ in range(5000):
                    connection.sendall(GET)
            except OSError:
                pass
        elif kind == "upload":
            connection.sendall(serving.raw_request(body[:-100], form, length=len(body)))
        elif kind == "second":
            connection.sendall(GET)
            answer_of(connection)
            connection.sendall(b"G")
        else:
            connection.sendall(serving.raw_request(body, form))
            assert judge.entered.wait(60)
            service.server.should_exit = True
            serving.until(lambda: not service.server.started or service.server.lifespan.shutdown_event.is_set())
            judge.gate.set()
        service.server.should_exit = True
        service.thread.join(60)
        assert not service.thread.is_alive() and not service.service.store.own.exists()
