"""The service on a real socket: clients that are slow, go away, or send half; its end; its log."""

import json
import socket
import threading

import pytest

from urgentmos.errors import UsageError
from urgentmos.server.limits import Limits
from urgentmos.server.run import listening


def statuses(service) -> dict[str, float]:
    found = service.service.meters.requests.collect()[0].samples
    return {sample.labels["status"]: sample.value for sample in found if sample.name.endswith("_total")}


def test_a_slow_upload_is_408_and_leaves_nothing(judge, serving):
    body, kind = serving.multipart([("files", "a.wav", serving.sound())])
    with serving.running(judge, Limits(upload_seconds=0.3)) as service, service.connect() as slow:
        slow.sendall(serving.raw_request(body[:-500], kind, length=len(body)))
        answer = serving.read_all(slow)
        assert answer.startswith(b"HTTP/1.1 408") and b"0.3 s" in answer and service.folders() == []
        assert service.service.store.bytes == 0


def test_half_a_body_and_a_client_that_goes_leave_nothing_and_disturb_nobody(judge, serving):
    body, kind = serving.multipart([("files", "a.wav", serving.sound())])
    with serving.running(judge) as service:
        for part in (10, len(body) // 2, len(body) - 1):
            with service.connect() as gone:
                gone.sendall(serving.raw_request(body[:part], kind, length=len(body)))
        serving.until(lambda: statuses(service).get("499") == 3)
        with service.connect() as good:
            good.sendall(serving.raw_request(body, kind))
            assert serving.read_all(good).startswith(b"HTTP/1.1 200")
        assert service.folders() == [] and service.service.store.bytes == 0


def test_who_leaves_while_waiting_is_not_computed_for(judge, serving):
    judge.gate.clear()
    body, kind = serving.multipart([("files", "a.wav", serving.sound())])
    with serving.running(judge) as service:
        with service.connect() as first:
            first.sendall(serving.raw_request(body, kind))
            assert judge.entered.wait(60)
            with service.connect() as gone:
                gone.sendall(serving.raw_request(body, kind))
                serving.until(lambda: service.service.worker.waiting == 1)
            serving.until(lambda: statuses(service).get("499") == 1)
            judge.gate.set()
            assert serving.read_all(first).startswith(b"HTTP/1.1 200")
        assert judge.batches == [1]


def test_a_huge_request_is_refused_while_it_is_sent(judge, serving):
    with serving.running(judge, Limits(request_mb=0.1)) as service:
        with service.connect() as announced:
            announced.sendall(serving.raw_request(b"", "multipart/form-data; boundary=xyz", length=10**9))
            assert announced.recv(100).startswith(b"HTTP/1.1 413")
        with service.connect() as chunked:  # nothing is announced
            head = b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=xyz\r\n"
            part = b'--xyz\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n' + b"x" * 200_000
            chunked.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(part), part))
            assert chunked.recv(100).startswith(b"HTTP/1.1 413")
        assert service.folders() == []


def test_a_client_that_sends_all_before_it_reads_gets_its_refusal(judge, serving):
    body, kind = serving.multipart([("files", "a.txt", b"x" * 3_000_000)])
    with serving.running(judge) as service, service.connect() as eager:
        eager.sendall(serving.raw_request(body, kind))  # "Connection: close": a hasty server would reset it
        assert serving.read_all(eager).startswith(b"HTTP/1.1 415")


def test_a_silent_connection_is_closed(judge, serving):
    with serving.running(judge, Limits(header_seconds=0.2)) as service, service.connect() as silent:
        silent.sendall(b"POST /v1/sc")
        assert serving.read_all(silent) == b""


def test_the_end_waits_for_what_was_accepted(judge, serving):
    judge.gate.clear()
    body, kind = serving.multipart([("files", "a.wav", serving.sound())])
    with serving.running(judge) as service:
        with service.connect() as waiting, service.connect() as idle:
            waiting.sendall(serving.raw_request(body, kind))
            assert judge.entered.wait(60)
            service.server.should_exit = True
            assert serving.read_all(idle) == b""  # closed
            with pytest.raises(OSError):
                service.connect()
            assert service.thread.is_alive()
            judge.gate.set()
            assert serving.read_all(waiting).startswith(b"HTTP/1.1 200")
        service.thread.join(60)
        assert not service.thread.is_alive() and not service.service.store.root.exists()


def test_an_address_that_is_taken_is_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match="Choose another --port"):
        listening("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(UsageError, match="cannot be listened on"):
        listening("192.0.2.1", 0)  # an address that no machine has


def test_the_command_serves_logs_json_lines_and_ends_on_a_signal(tmp_path, serving):
    """One process from start to SIGTERM, with the token in the environment."""
    import os
    import signal
    import subprocess
    import sys

    httpx = pytest.importorskip("httpx")
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import conftest, urgentmos.api as p;"
        "p.load = lambda *a, **k: conftest.Loudness(); from urgentmos.cli import main; main()"
    )
    command = [sys.executable, "-c", program, os.path.dirname(__file__), "serve", "--port", "0", "--max-files", "2"]
    env = {**os.environ, "URGENTMOS_TOKEN": "t0ken", "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=env, text=True) as process:
        first = json.loads(process.stderr.readline())
        try:
            assert first["event"] == "listening" and first["token"] is True and first["model"] == "loudness"
            files = [("files", ("geheim.wav", serving.sound()))]
            headers = {"Authorization": "Bearer t0ken"}
            url = f"{first['url']}v1/score"
            serving.until(lambda: reachable(first["url"]))
            assert len(list(tmp_path.glob("urgentmos-*"))) == 1
            assert httpx.post(url, files=files, headers=headers, timeout=60).status_code == 200
            assert httpx.post(url, files=files * 3, headers=headers, timeout=60).status_code == 413
            assert httpx.post(url, files=files, timeout=60).status_code == 401
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
        assert process.wait(60) == 0
    lines = [json.loads(line) for line in rest.splitlines()]
    asked = [line for line in lines if line["event"] == "request" and line["path"] == "/v1/score"]
    assert [line["status"] for line in asked] == [200, 413, 401] and asked[0]["files"] == 1 and asked[0]["bytes"] > 1000
    assert "geheim" not in rest and "t0ken" not in rest and list(tmp_path.iterdir()) == []


def reachable(url: str) -> bool:
    import httpx

    try:
        return httpx.get(f"{url}healthz", timeout=60).status_code == 200
    except httpx.TransportError:
        return False


def test_threads_do_not_stay(judge, serving):
    before = threading.active_count()
    with serving.running(judge):
        pass
    serving.until(lambda: threading.active_count() <= before)
