import pytest

from urgentmos.server.limits import Limits


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
