import csv
import io
import json
import threading

import numpy as np
import pytest
import soundfile

from urgentmos.commands.serve import LIMITS
from urgentmos.judges.timeline import Timeline
from urgentmos.server import answers
from urgentmos.server.limits import Limits
from urgentmos.server.uploads import Store


def send(client, path, *files, **texts):
    return client.post(path, files=[(field, (name, content)) for field, name, content in files], data=texts)


def test_scores_are_those_of_the_command_line(tiny_model, tmp_path, make_voice, monkeypatch):
    """The same rows, to the last bit for clips scored one by one and within 1e-4 in company."""
    pytest.importorskip("httpx")
    from click.testing import CliRunner
    from starlette.testclient import TestClient

    from urgentmos import load
    from urgentmos.cli import main
    from urgentmos.server import create_app

    monkeypatch.chdir(tmp_path)
    names = [f"v{i}.{end}" for i, end in enumerate(("wav", "flac", "ogg", "wav"))]
    for i, name in enumerate(names):
        soundfile.write(name, make_voice(i, 0.6 + i), 16_000 if i else 44_100)
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    names.append("broken.wav")
    lines = CliRunner().invoke(main, ["score", *names, "-m", str(tiny_model)]).stdout.splitlines()
    wanted = [json.loads(line) for line in lines]
    with TestClient(create_app(load(tiny_model))) as client:
        sent = [("files", (tmp_path / name).read_bytes()) for name in names]
        together = send(client, "/v1/score", *[(field, name, data) for name, (field, data) in zip(names, sent, strict=True)])
        alone = [
            send(client, "/v1/score", ("files", name, data)).json()["clips"][0]
            for name, (_, data) in zip(names, sent, strict=True)
        ]
        compared = send(client, "/v1/compare", ("a", names[0], sent[0][1]), ("b", names[1], sent[1][1])).json()
    assert together.status_code == 200
    for row, lone, line in zip(together.json()["clips"], alone, wanted, strict=True):
        for told in (row, lone):
            values, theirs = told.pop("metrics"), line["metrics"]
            assert values == (theirs if line["error"] else pytest.approx(theirs, abs=1e-4))
            assert told == {k: v for k, v in line.items() if k != "metrics"}
    ours = json.loads(CliRunner().invoke(main, ["compare", names[0], names[1], "-m", str(tiny_model)]).stdout)
    assert compared == ours and ours["verdict"] in ("a", "tie", "b")


def test_a_row_for_each_file_in_order_and_the_reason_where_there_is_no_score(client, serving):
    good, silent = serving.sound(level=0.1), serving.sound(level=0)
    answer = send(client, "/v1/score", ("files", "x/good.wav", good), ("files", "bad.flac", b"no"), ("files", "s.wav", silent))
    rows = answer.json()["clips"]
    assert answer.status_code == 200 and [row["audio_path"] for row in rows] == ["x/good.wav", "bad.flac", "s.wav"]
    assert rows[0]["uid"] == "x/good" and rows[0]["metrics"]["mos_overall"] > 1 and rows[0]["error"] is None
    assert rows[1]["metrics"]["mos_overall"] is None and rows[1]["error"].startswith("bad.flac cannot be decoded")
    assert "silence" in rows[2]["warnings"][0]


def test_no_score_at_all_is_422_with_the_rows(client):
    answer = send(client, "/v1/score", ("files", "a.wav", b"no"), ("files", "b.wav", b""))
    told = answer.json()
    assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"
    assert (
        told["detail"].startswith("No file could be scored. a.wav")
        and [bool(row["error"]) for row in told["clips"]] == [True] * 2
    )
    assert "b.wav is empty" in told["clips"][1]["error"]


def test_csv_is_what_the_command_writes(client, serving):
    answer = send(client, "/v1/score?format=csv", ("files", "a.wav", serving.sound()))
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert answer.headers["content-type"].startswith("text/csv") and rows[0]["audio_path"] == "a.wav"
    assert float(rows[0]["metrics.mos_overall"]) > 1


def test_a_timeline_tells_parts_whose_mean_is_the_clip(client, serving):
    quiet_then_loud = np.concatenate([np.full(8000, 0.01), np.full(8000, 0.4)])
    out = io.BytesIO()
    soundfile.write(out, quiet_then_loud, 16_000, format="WAV", subtype="FLOAT")
    files = [("files", "a.wav", out.getvalue()), ("files", "bad.wav", b"no")]
    rows = send(client, "/v1/score?timeline=true", *files).json()["clips"]
    told = rows[0]["timeline"]
    bars = np.array(told["scores"]["mos_overall"])
    assert told["seconds"] == 1.0 and told["edges"][0] == 0 and told["edges"][-1] == 1.0 and len(told["edges"]) == len(bars) + 1
    assert np.all(np.diff(told["edges"]) > 0) and np.allclose(bars[:50], bars[0]) and bars[-1] > bars[0]
    assert bars[0] == pytest.approx(1 + 4 / (1 + np.exp(1 - 0.1)), abs=1e-3)  # the sigmoid of its logit
    assert "timeline" not in rows[1] and "timeline" not in send(client, "/v1/score", files[0]).json()["clips"][0]


def test_a_long_timeline_has_few_bars():
    found = Timeline(90.0, (np.arange(9001) + 0.5) / 100, {"x": np.ones(9001)}, {"x": (-np.inf, np.inf)})
    row = answers.timeline_row(found, ["x", "y"])
    assert 300 < len(row["scores"]["x"]) <= answers.BARS and set(row["scores"]) == {"x"} and set(row["scores"]["x"]) == {1.0}


@pytest.mark.parametrize("ends", [(1.0, 5.0), (0.0, np.inf), (-np.inf, 2.0), (-np.inf, np.inf)])
def test_bending_is_what_the_networks_do(ends):
    torch = pytest.importorskip("torch")
    from urgentmos.nets.layers import bounded

    logits = np.linspace(-6, 6, 13)
    theirs = bounded(*ends)(torch.from_numpy(logits)).numpy()
    assert np.allclose(answers.bent(logits, *ends), theirs, atol=1e-9)


def systems(serving, *names):
    levels = {"loud": 0.3, "quiet": 0.02, "mid": 0.1}
    return [(name, f"c{u}", serving.sound(u, level=levels[name])) for name in names for u in range(4)]


def test_a_ranking_by_file_names_or_by_fields_is_the_same(client, serving):
    made = systems(serving, "quiet", "loud", "mid")
    by_name = send(
        client, "/v1/rank?scoring=soft", *[("files", f"{system}/{content}.wav", data) for system, content, data in made]
    )
    texts = {"system_id": [row[0] for row in made], "reference_id": [row[1] for row in made]}
    by_field = send(client, "/v1/rank?scoring=soft", *[("files", "x.wav", data) for *_, data in made], **texts)
    assert by_name.status_code == 200 and by_name.json() == by_field.json()
    told = by_name.json()
    assert [row["system_id"] for row in told["systems"]] == ["loud", "mid", "quiet"] and told["n_contents"] == 4
    assert told["scoring"] == "soft" and told["failed"] == []


def test_a_clip_that_fails_is_named_in_the_ranking(client, serving):
    made = [("files", f"{system}/{content}.wav", data) for system, content, data in systems(serving, "quiet", "loud")]
    told = send(client, "/v1/rank", *made[:-1], ("files", "loud/c3.wav", b"no")).json()
    assert told["n_contents"] == 3 and told["failed"][0]["uid"] == "loud:c3" and "loud/c3.wav" in told["failed"][0]["error"]


@pytest.mark.parametrize(
    ("path", "files", "texts", "sentence"),
    [
        ("/v1/score", ["other"], {}, "Files belong into the field 'files'"),
        ("/v1/score?metrics=pesq", ["files"], {}, "pesq is not offered"),
        ("/v1/score?format=xml", ["files"], {}, "format"),
        ("/v1/compare", ["a"], {}, "one file 'b'"),
        ("/v1/compare", ["a", "a"], {}, "one file 'a'"),
        ("/v1/rank", ["files"], {}, "does not say its system"),
        ("/v1/rank", ["files"], {"system_id": ["x"]}, "1 files, 1 system_id and 0 reference_id"),
        ("/v1/rank", ["files", "files"], {"system_id": ["x", "x"], "reference_id": ["1", "1"]}, "two clips of 1"),
        ("/v1/rank", ["files"], {"system_id": ["x"], "reference_id": ["1"]}, "system"),
        ("/v1/rank?confidence=2", ["files"], {}, "confidence"),
        ("/v1/rank?samples=1000000", ["files"], {}, "samples"),
    ],
)
def test_what_is_not_understood_is_422_with_a_sentence(client, serving, path, files, texts, sentence):
    answer = send(client, path, *[(field, "x.wav", serving.sound()) for field in files], **texts)
    assert answer.status_code == 422 and sentence in answer.json()["detail"], answer.text
    assert answer.json()["detail"].endswith((".", "'"))


def test_comparing_what_cannot_be_heard_says_which(client, serving):
    answer = send(client, "/v1/compare", ("a", "good.wav", serving.sound()), ("b", "bad.wav", b"no"))
    assert answer.status_code == 422 and answer.json()["detail"].startswith("bad.wav cannot be decoded")


def test_nothing_of_ours_shows_in_an_answer_and_nothing_stays(client, serving):
    store: Store = client.app.state.service.store
    answers = [
        send(client, "/v1/score", ("files", "bad.wav", b"no")),
        send(client, "/v1/score", ("files", "../../x.wav", serving.sound())),
        send(client, "/v1/compare", ("a", "a.wav", b"no"), ("b", "b.wav", b"no")),
        send(client, "/v1/rank", ("files", "a/1.wav", b"no"), ("files", "b/1.wav", b"no")),
    ]
    assert all(str(store.root) not in answer.text and "0000.wav" not in answer.text for answer in answers)
    assert list(store.root.iterdir()) == [] and store.bytes == 0


def test_the_folder_goes_with_the_service(judge):
    pytest.importorskip("httpx")
    from starlette.testclient import TestClient

    from urgentmos.server import create_app

    app = create_app(judge)
    root = app.state.service.store.root
    assert root.stat().st_mode & 0o077 == 0
    with TestClient(app):
        assert root.exists()
    assert not root.exists()


def test_facts(client, judge):
    told = client.get("/v1/models").json()
    assert told["served"]["name"] == "loudness" and told["served"]["about"]["mos_overall"] == {
        "title": "MOS",
        "range": [1.0, 5.0],
        "better": "higher",
    }
    assert told["limits"]["files"] == Limits().files and any(row["model"] == "dnsmos_ovrl" for row in told["models"])
    assert client.get("/healthz").json()["status"] == "ok"


def test_the_counters_count(client, serving):
    send(client, "/v1/score", ("files", "a.wav", serving.sound()), ("files", "b.wav", b"no"))
    client.get("/nothing/here")
    text = client.get("/metrics").text
    assert 'urgentmos_requests_total{path="/v1/score",status="200"} 1.0' in text
    assert 'urgentmos_clips_total{outcome="scored"} 1.0' in text and 'urgentmos_clips_total{outcome="failed"} 1.0' in text
    assert 'path="other",status="404"' in text and "nothing" not in text
    assert "urgentmos_stored_bytes 0.0" in text


def test_health_ends_with_the_models_thread(client):
    client.app.state.service.worker.stop()
    assert client.get("/healthz").status_code == 503


def test_what_is_not_there_says_so(client):
    for answer, status in ((client.get("/v2"), 404), (client.get("/v1/score"), 405), (client.get("/page/../app.py"), 404)):
        assert answer.status_code == status and answer.json()["status"] == status and answer.json()["detail"]
    assert client.get("/page/nothing.js").status_code == 404


def test_the_page_and_all_that_it_names_come_from_here(client):
    import re

    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    names = set(re.findall(r'(?:src|href)="(page/[^"]+)"', page.text))
    scripts = [client.get(f"/{name}") for name in names if name.endswith(".js")]
    names |= {f"page/{name}" for script in scripts for name in re.findall(r'from "\./([^"]+)"', script.text)}
    assert {"page/main.js", "page/score.js", "page/style.css"} <= names
    for name in names:
        answer = client.get(f"/{name}")
        assert answer.status_code == 200 and not re.search(r"https?://(?!www\.w3\.org/2000/svg)", answer.text), name
    assert not re.search(r"https?://|<script>|<style| style=| on\w+=", page.text)


def test_reports_are_files_to_keep(client, serving):
    pytest.importorskip("jinja2")
    pytest.importorskip("vl_convert")
    root = str(client.app.state.service.store.root)
    evil = "<img src=x onerror=alert(1)>.wav"
    scored = send(client, "/v1/score?format=html", ("files", evil, serving.sound()), ("files", "bad.wav", b"no"))
    made = [("files", f"{system}/{content}.wav", data) for system, content, data in systems(serving, "quiet", "loud")]
    ranked = send(client, "/v1/rank?format=html", *made)
    for answer in (scored, ranked):
        assert answer.status_code == 200 and answer.headers["content-disposition"].startswith("attachment")
        assert root not in answer.text and "<html" in answer.text
    assert "<img src=x" not in scored.text and "bad.wav" in scored.text and "quiet" in ranked.text


def test_without_the_extra_a_report_is_501(client, serving, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "vl_convert", None)
    answer = send(client, "/v1/score?format=html", ("files", "a.wav", serving.sound()))
    assert answer.status_code == 501 and "urgentmos[report]" in answer.json()["detail"]
    assert client.get("/v1/models").json()["report"] is False


def test_an_answer_that_takes_too_long_is_504_and_its_work_ends(judge, serving):
    pytest.importorskip("httpx")
    from starlette.testclient import TestClient

    from urgentmos.server import create_app

    judge.gate.clear()
    with TestClient(create_app(judge, Limits(answer_seconds=0.2))) as client:
        answer = send(client, "/v1/score", *[("files", f"{i}.wav", serving.sound()) for i in range(3)])
        assert answer.status_code == 504 and "0.2 s" in answer.json()["detail"]
        assert list(client.app.state.service.store.root.iterdir()) == []
        judge.gate.set()
        worker = client.app.state.service.worker
        assert worker.alone(lambda judge, run: "next").future.result(60) == ["next"]  # the thread is free again


def test_clips_of_many_requests_share_a_batch_and_keep_their_own_numbers(client, judge, serving):
    judge.gate.clear()
    found: dict[int, float] = {}

    def one(i):
        row = send(client, "/v1/score", ("files", "a.wav", serving.sound(i, level=0.02 * (i + 1)))).json()["clips"][0]
        found[i] = row["metrics"]["mos_overall"]

    threads = [threading.Thread(target=one, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    serving.until(lambda: client.app.state.service.worker.waiting + sum(judge.batches) >= 8)
    judge.gate.set()
    for thread in threads:
        thread.join(60)
    assert max(judge.batches) > 1 and sorted(found.values()) == [found[i] for i in range(8)] and len(set(found.values())) == 8


def test_the_commands_options_are_the_limits():
    fields = {name: default for _, name, default, _ in LIMITS}
    assert fields == {name: getattr(Limits(), name) for name in Limits.__dataclass_fields__}


# ---- budgets


@pytest.mark.parametrize(("systems", "samples", "status"), [(3, 100, 200), (3, 112, 413), (2, 250, 200), (2, 251, 413)])
def test_a_ranking_has_a_budget_of_arithmetic(judge, serving, systems, samples, status):
    from starlette.testclient import TestClient

    from urgentmos.server import create_app

    files = [("files", f"s{s}/u{u}.wav", serving.sound(u, level=0.05 * (s + 1))) for s in range(systems) for u in range(2)]
    with TestClient(create_app(judge, Limits(draws=1000))) as client:
        answer = send(client, f"/v1/rank?samples={samples}", *files)
        assert answer.status_code == status, answer.text
        most = 1000 // systems**2
        assert status == 200 or f"at most {most} samples" in answer.json()["detail"]
        assert (send(client, f"/v1/rank?samples={max(100, most)}", *files).status_code == 200) == (most >= 100)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_request_has_a_budget_of_audio(judge, serving, count):
    from starlette.testclient import TestClient

    from urgentmos.server import create_app

    with TestClient(create_app(judge, Limits(request_seconds=3.0))) as client:
        files = [("files", f"{i}.wav", serving.sound(i, seconds=1.0)) for i in range(count)]
        answer = send(client, "/v1/score", *files)
        assert answer.status_code == (200 if count <= 3 else 413)
        assert count <= 3 or ("3 s of audio" in answer.json()["detail"] and judge.batches == [])
        for path, fields in (("/v1/compare", "ab"), ("/v1/rank", ["files"] * 4)):
            parts = [(field, f"s{i % 2}/u{i // 2}.wav", serving.sound(i, seconds=1.6)) for i, field in enumerate(fields)]
            assert send(client, path, *parts).status_code == 413


def test_a_client_that_leaves_ends_the_arithmetic_too(judge, serving, monkeypatch):
    """The process of a ranking is killed, not only forgotten."""
    import os
    import time
    from functools import partial
    from types import SimpleNamespace

    from urgentmos.server import app

    monkeypatch.setattr(app, "RankTask", lambda *values: SimpleNamespace(run=partial(time.sleep, 1000)))
    made = [(f"{s}/{u}.wav", serving.sound(u, level=0.1 * (1 + k))) for k, s in enumerate("xy") for u in range(2)]
    body, kind = serving.multipart([("files", name, data) for name, data in made])
    with serving.running(judge) as service:
        calculator = service.service.calculator
        with service.connect() as gone:
            gone.sendall(serving.raw_request(body, kind, "/v1/rank"))
            serving.until(lambda: [child for child in list(calculator._busy) if child.pid])
            pid = next(iter(calculator._busy)).pid
        serving.until(lambda: not calculator._busy and service.service.slots.taken == 0)

        def is_gone():
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return True
            return False

        serving.until(is_gone)
        assert service.folders() == []
