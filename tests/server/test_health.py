import io
import threading

import soundfile

from urgentmos.server import health
from urgentmos.server.limits import Limits


def app_of(judge, **limits):
    from starlette.testclient import TestClient

    from urgentmos.server import create_app

    return TestClient(create_app(judge, Limits(**limits)), raise_server_exceptions=False)


def test_health_computes_and_says_why_it_is_not_well(judge, monkeypatch):
    monkeypatch.setattr(health, "FRESH_SECONDS", 0.0)
    with app_of(judge, health_seconds=0.2) as client:
        assert client.get("/healthz").status_code == 200 and judge.batches == [1]
        judge.gate.clear()
        late = client.get("/healthz")
        assert late.status_code == 503 and "not scored within 0.2 s" in late.json()["detail"]
        judge.gate.set()
        judge.broken = "health"
        broken = client.get("/healthz")
        assert broken.status_code == 503 and "could not be scored (RuntimeError)" in broken.json()["detail"]
        judge.broken = ""
        assert client.get("/healthz").status_code == 200
        assert not client.app.state.service.worker._jobs


def test_all_who_ask_share_one_clip(judge):
    with app_of(judge) as client:
        judge.gate.clear()
        answers: list[int] = []
        threads = [threading.Thread(target=lambda: answers.append(client.get("/healthz").status_code)) for _ in range(8)]
        for thread in threads:
            thread.start()
        assert judge.entered.wait(60)
        judge.gate.set()
        for thread in threads:
            thread.join(60)
        assert answers == [200] * 8 and len(judge.batches) <= 2 and client.get("/healthz").status_code == 200


def test_the_clip_of_our_own_has_no_warning():
    from urgentmos.audio.samples import describe

    wave, rate = soundfile.read(io.BytesIO(health.test_clip()), dtype="float32")
    assert (rate, len(wave)) == (health.RATE, health.RATE * health.SECONDS) and not describe(wave, rate).warnings
