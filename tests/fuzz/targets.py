"""What is done with a case of each kind: the calls that the commands make. A report is plain data for `oracle`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

from fuzz.cases import Case
from fuzz.models import plant
from fuzz.seeds import ok, request_of, seed_named

LONGEST_ADDRESS = 10_000  # bytes; the client makes no longer ones
Report = dict[str, Any]  # rows, refusal, and whatever the oracle of the kind looks at


@cache
def judge() -> Any:
    import urgentmos

    return urgentmos.load()


def _row(score: Any) -> Report:
    return {
        "path": score.clip.audio_path,
        "error": score.error,
        "warnings": list(score.warnings),
        "metrics": dict(score.metrics),
        "duration": score.clip.duration,
    }


def _scored(clips: Any) -> list[Report]:
    return [_row(score) for score in judge().score_clips(clips)]


def _refusable(work: Callable[[], Report]) -> Report:
    """The report of the work; a refusal is a sentence of ours, anything else is a bug and passes through."""
    from urgentmos.errors import UrgentmosError

    try:
        return {"rows": [], "refusal": None, **work()}
    except UrgentmosError as e:
        return {"rows": [], "refusal": str(e)}


def audio(case: Case, data: bytes, folder: Path) -> Report:
    """Twice: as one file, and as a clip among clips. Both must say the same."""
    from urgentmos.clips.clip import Clip

    path = folder / f"clip{seed_named(case.seed).suffix}"
    path.write_bytes(data)

    def work() -> Report:
        (row,) = _scored([Clip("a", str(path))])
        return {"rows": [row], "again": _row(judge().score(path)), "names": [path.name]}

    return _refusable(work)


def _inputs(path: Path) -> Report:
    from urgentmos.clips.inputs import read_inputs

    def work() -> Report:
        clips, notes = read_inputs([str(path)])
        return {"rows": _scored(clips[:50]), "notes": [note.sentence for note in notes], "clips": len(clips)}

    return {"names": [path.name], **_refusable(work)}


def manifest(case: Case, data: bytes, folder: Path) -> Report:
    for name, form in (("ok.wav", "WAV"), ("ok.flac", "FLAC")):
        (folder / name).write_bytes(ok(form))
    path = folder / f"rows{seed_named(case.seed).suffix}"
    path.write_bytes(data)
    return _inputs(path)


def archive(case: Case, data: bytes, folder: Path) -> Report:
    path = folder / f"shard{seed_named(case.seed).suffix}"
    path.write_bytes(data)
    return _inputs(path)


def checkpoint(case: Case, data: bytes, folder: Path) -> Report:
    import urgentmos

    path = plant(case.seed, data, folder / "model")
    clip = folder / "ok.wav"
    clip.write_bytes(ok())

    def work() -> Report:
        model = urgentmos.load(path, device="cpu", allow_download=False)
        row = _row(model.score(clip))
        return {"rows": [row], "model": [model.name, model.version], "pair": model.compare(clip, clip).verdict}

    return {"names": [path.name, "config.json", "model.safetensors", "model"], **_refusable(work)}


def config(case: Case, data: bytes, folder: Path) -> Report:
    from urgentmos.training.config import read_config

    path = folder / f"train{seed_named(case.seed).suffix}"
    path.write_bytes(data)

    def work() -> Report:
        json.dumps(read_config(str(path)).to_dict())
        return {"is_config": True}

    return {"names": [path.name], **_refusable(work)}


@cache
def _client() -> Any:
    from starlette.testclient import TestClient

    from urgentmos.server import Limits, create_app

    client = TestClient(create_app(judge(), Limits(answer_seconds=30.0)), raise_server_exceptions=False)
    client.__enter__()
    return client


def request(case: Case, data: bytes, folder: Path) -> Report:
    address, body = request_of(case.seed, data)
    path, _, query = address[:LONGEST_ADDRESS].partition(b"?")
    url = "/" + quote_from_bytes(path.lstrip(b"/"), safe="/") + "?" + quote_from_bytes(query, safe="&=+;%,")
    answer = _client().post(url, content=body, headers={"content-type": "multipart/form-data; boundary=xyz"})
    plain = answer.json() if "json" in answer.headers.get("content-type", "") else None
    report: Report = {"rows": [], "refusal": None, "status": answer.status_code, "names": []}
    if answer.status_code >= 300:
        report["refusal"] = plain.get("detail") if isinstance(plain, dict) else answer.text[:2000] or "nothing"
    elif plain is not None:
        report["rows"] = [_answered(row) for row in plain.get("clips", [])]
        report["numbers"] = _numbers(plain)
    return report


def _numbers(plain: object) -> list[float]:
    """All numbers of an answer."""
    if isinstance(plain, dict | list):
        return [x for value in (plain.values() if isinstance(plain, dict) else plain) for x in _numbers(value)]
    return [plain] if isinstance(plain, int | float) else []


def _answered(row: Mapping[str, Any]) -> Report:
    metrics = row.get("metrics")
    return {
        "path": row.get("audio_path") or row.get("uid") or "",
        "error": row.get("error"),
        "warnings": row.get("warnings") or [],
        "metrics": metrics if isinstance(metrics, dict) else {},
        "duration": row.get("duration"),
    }


def selftest(case: Case, data: bytes, folder: Path) -> Report:
    """Does on purpose what must be noticed."""
    import os
    import socket

    blocks = []
    match data.decode():
        case "crash":
            os.abort()
        case "hang":
            while True:
                pass
        case "raise":
            raise ValueError("a bug")
        case "memory":
            blocks.append(b"x" * (1100 << 20))
        case "connect":
            with socket.socket() as connection:
                connection.connect(("192.0.2.1", 9))
        case "execute":
            os.system("true")
        case "write":
            Path("/var/tmp/urgentmos-fuzz").touch()
    return {"rows": [], "refusal": "clip.wav is refused. Do something else", "names": ["clip.wav"]}


TARGETS: Mapping[str, Callable[[Case, bytes, Path], Report]] = {
    "audio": audio,
    "manifest": manifest,
    "archive": archive,
    "checkpoint": checkpoint,
    "config": config,
    "request": request,
    "selftest": selftest,
}


def prepare(kind: str, folder: Path) -> None:
    """Imports and loads what the kind needs, so that the time of a case is its own. Starts no process."""
    if kind == "selftest":
        return
    import av  # noqa: F401
    import scipy.fft  # noqa: F401

    if kind == "checkpoint":
        from fuzz.models import folders

        folders()
    if kind == "config":
        import yaml  # noqa: F401

        import urgentmos.training.config  # noqa: F401
    else:
        (folder / "ok.wav").write_bytes(ok())
        score = judge().score(folder / "ok.wav")
        assert all(math.isfinite(x) for x in score.metrics.values() if x is not None), score
