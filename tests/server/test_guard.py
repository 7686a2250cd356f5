import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.errors import UsageError
from urgentmos.server.guard import Hosts
from urgentmos.server.limits import Limits
from urgentmos.server.run import hosts_of


@pytest.fixture
def locked(judge):
    pytest.importorskip("httpx")
    from starlette.testclient import TestClient

    from urgentmos.server import create_app

    with TestClient(create_app(judge, token="secret-1"), raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(
    "given", [None, "", "secret-1", "Bearer", "Bearer secret-2", "Bearer secret-11", "Basic secret-1", "Bearer \xe9"]
)
def test_a_wrong_token_is_401_whatever_is_asked(locked, serving, given):
    headers = {} if given is None else {"Authorization": given.encode("latin-1")}
    for answer in (
        locked.post("/v1/score", files={"files": ("a.wav", serving.sound())}, headers=headers),
        locked.get("/v1/models", headers=headers),
        locked.get("/metrics", headers=headers),
        locked.get("/v2/nothing", headers=headers),
    ):
        assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Bearer")
        assert "Authorization: Bearer TOKEN" in answer.json()["detail"]


def test_the_right_token_opens_and_some_things_are_always_open(locked, serving):
    headers = {"Authorization": "bearer  secret-1"}
    assert locked.post("/v1/score", files={"files": ("a.wav", serving.sound())}, headers=headers).status_code == 200
    assert locked.get("/metrics", headers=headers).status_code == 200
    for path in ("/", "/healthz", "/openapi.json", "/page/main.js"):
        assert locked.get(path).status_code == 200


def test_the_document_says_what_needs_a_token(locked, client):
    told = locked.get("/openapi.json").json()
    needs = {path for path, item in told["paths"].items() for operation in item.values() if operation.get("security")}
    assert needs == set(told["paths"]) - {"/healthz"}
    assert [scheme["scheme"] for scheme in told["components"]["securitySchemes"].values()] == ["bearer"]
    assert "securitySchemes" not in client.get("/openapi.json").json().get("components", {})


def test_nothing_of_a_request_without_token_is_read(locked):
    """The wrong type would be 415, if anybody looked."""
    assert locked.post("/v1/score", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 401


@pytest.mark.parametrize(("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)])
def test_pages_of_other_sites_may_not_post(client, serving, site, status):
    answer = client.post("/v1/score", files={"files": ("a.wav", serving.sound())}, headers={"Sec-Fetch-Site": site})
    assert answer.status_code == status
    assert client.get("/healthz", headers={"Sec-Fetch-Site": site}).status_code == 200


def test_every_answer_has_its_headers_and_a_name(client, serving):
    answers = [client.get("/healthz"), client.get("/nothing"), client.post("/v1/score", content=b"")]
    assert all(a.headers["x-content-type-options"] == "nosniff" and a.headers["cache-control"] == "no-store" for a in answers)
    assert len({a.headers["x-request-id"] for a in answers}) == 3


def test_a_bug_is_500_with_a_name_to_look_up_and_no_trace(client, judge, serving, caplog):
    judge.broken = "bad"
    answer = client.post("/v1/score", files={"files": ("bad.wav", serving.sound())})
    assert answer.status_code == 500 and answer.headers["x-request-id"] in answer.json()["detail"]
    assert "a bug" not in answer.text and "Traceback" not in answer.text
    assert client.post("/v1/score", files={"files": ("good.wav", serving.sound())}).status_code == 200


def test_too_many_at_once_are_told_when_to_come_back(judge, serving):
    """On a socket: the others must really wait."""
    httpx = pytest.importorskip("httpx")
    import threading

    judge.gate.clear()
    with serving.running(judge, Limits(requests=2)) as service:
        answers: list[int] = []

        def ask():
            files = {"files": ("a.wav", serving.sound())}
            answers.append(httpx.post(f"{service.url}/v1/score", files=files, timeout=60).status_code)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        gauge = service.service.meters.active
        serving.until(lambda: gauge._value.get() == 2)
        refused = httpx.post(f"{service.url}/v1/score", files={"files": ("a.wav", serving.sound())}, timeout=60)
        assert (
            refused.status_code == 503
            and int(refused.headers["retry-after"]) >= 1
            and "Try again in" in refused.json()["detail"]
        )
        judge.gate.set()
        for thread in threads:
            thread.join(60)
        assert answers == [200, 200]
        assert httpx.post(f"{service.url}/v1/score", files={"files": ("a.wav", serving.sound())}, timeout=60).status_code == 200


# ---- whose page it is


@pytest.fixture
def local(judge):
    """A service that listens on 127.0.0.1:8000, and may be reached as mos.example as well."""
    from starlette.testclient import TestClient

    from urgentmos.server import create_app
    from urgentmos.server.guard import Hosts

    with TestClient(create_app(judge, hosts=Hosts.of("127.0.0.1", 8000, ["mos.example", "other.example:81"]))) as client:
        yield client


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost:8000", 200),
        ("LocalHost:8000", 200),
        ("[::1]:8000", 200),
        ("mos.example", 200),
        ("mos.example:443", 200),
        ("other.example:81", 200),
        ("other.example", 421),
        ("other.example:82", 421),
        ("127.0.0.1", 421),  # that would be port 80
        ("127.0.0.1:8001", 421),
        ("localhost.evil.example:8000", 421),
        ("evil.example:8000", 421),
        ("evil.example", 421),
        ("mos.example.evil.example", 421),
        ("", 421),
    ],
)
def test_a_name_that_was_pointed_here_is_refused(local, host, status):
    for path in ("/healthz", "/", "/page/main.js", "/v1/models", "/nothing"):
        answer = local.get(path, headers={"Host": host})
        assert answer.status_code == (404 if (path, status) == ("/nothing", 200) else status)
        assert status == 200 or "--allowed-host" in answer.json()["detail"]


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
def test_no_other_name_passes(name):
    hosts = Hosts.of("127.0.0.1", 8000, ["mos.example"])
    own = name.lower().rsplit(":", 1)[0] == "mos.example" or name.lower() == "mos.example"
    assert hosts.allow(name) == (name.lower() in {"127.0.0.1:8000", "localhost:8000", "[::1]:8000"} or own)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://127.0.0.1:8000", 200),
        ("http://localhost:8000", 200),
        ("https://mos.example", 200),
        ("http://evil.example", 403),
        ("http://127.0.0.1:9000", 403),
        ("http://localhost", 403),
        ("null", 403),
        ("", 403),
        ("file://", 403),
    ],
)
def test_a_page_of_another_origin_is_refused(local, serving, origin, status):
    headers = {"Host": "127.0.0.1:8000"} | ({} if origin is None else {"Origin": origin})
    answer = local.post("/v1/score", files={"files": ("a.wav", serving.sound())}, headers=headers)
    assert answer.status_code == status and local.get("/v1/models", headers=headers).status_code == status


def test_without_names_any_host_passes_and_an_origin_is_still_compared(client):
    assert client.get("/v1/models", headers={"Host": "proxy.example"}).status_code == 200
    assert client.get("/v1/models", headers={"Host": "proxy.example", "Origin": "https://proxy.example"}).status_code == 200
    assert client.get("/v1/models", headers={"Host": "proxy.example", "Origin": "https://evil.example"}).status_code == 403


def test_which_services_have_names():
    assert hosts_of("127.0.0.1", 8000) is not None and hosts_of("::1", 8000).allow("[::1]:8000")
    assert hosts_of("0.0.0.0", 8000) is None
    assert hosts_of("0.0.0.0", 8000, ["mos.example"]).allow("127.0.0.1:8000")  # for the health check beside it


@pytest.mark.parametrize("token", ["", " ", "\t"])
def test_an_empty_token_is_an_error_and_not_none(judge, monkeypatch, token):
    from click.testing import CliRunner

    from urgentmos.cli import main
    from urgentmos.server import create_app

    with pytest.raises(UsageError, match="empty"):
        create_app(judge, token=token)
    for arguments, environment in (["serve", "--token", token], {}), (["serve"], {"URGENTMOS_TOKEN": token}):
        result = CliRunner().invoke(main, arguments, env=environment)
        assert result.exit_code == 2 and "empty" in result.stderr, result.stderr


def test_small_requests_pass_beside_large_ones(judge, serving):
    httpx = pytest.importorskip("httpx")
    judge.gate.clear()
    with serving.running(judge, Limits(requests=4)) as service:
        url = f"{service.url}/v1/score"
        many = [("files", (f"{i}.wav", serving.sound())) for i in range(17)]
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda: answers.append(httpx.post(url, files=many, timeout=60).status_code))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        serving.until(lambda: service.service.slots.taken == 2)
        refused = httpx.post(url, files=many, timeout=60)
        assert refused.status_code == 503 and "large" in refused.json()["detail"] and "retry-after" in refused.headers
        small = threading.Thread(target=lambda: answers.append(httpx.post(url, files=many[:1], timeout=60).status_code))
        small.start()
        serving.until(lambda: service.service.slots.taken == 3)
        judge.gate.set()
        for thread in (*threads, small):
            thread.join(60)
        assert answers == [200] * 3
