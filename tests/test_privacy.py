"""Nothing is written under the user's home, nothing leaves the machine: each command in a process whose sockets are watched."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
import soundfile

from fuzz import guard
from urgentmos.cli import main

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-c", "from urgentmos.cli import main; main()"]
SWITCHES = re.compile(r".*(TELEMETRY|TRACK|USAGE_STATS).*")
FOREIGN_HOMES = ("HF_HOME", "TORCH_HOME", "NUMBA_CACHE_DIR", "MPLCONFIGDIR", "TRANSFORMERS_CACHE", "RAY_TMPDIR")

TRAIN = [
    *("f1c1m5-dref", "size=pocket", "steps=2", "valid_every=2", "batch_seconds=4", "valid_share=0", "device=cpu", "out=run"),
    *("encoder.width=16", "encoder.layers=1", "encoder.channels=4", "encoder.heads=2", "encoder.feedforward=32"),
    *("encoder.bands=20", "net.dim=16", "net.layers=1", "net.heads=2", "net.feedforward=32", "net.preference_heads=2"),
]
NETWORKS = "dnsmos_ovrl,plcmos,distill_mos"
CALLS: Mapping[str, tuple[str, list[str]]] = {  # name -> (package that it needs, arguments)
    "score": ("", ["score", "systems", "-o", "scores.csv"]),
    "score with a page": ("jinja2", ["score", "systems/a", "--report", "page.html", "-o", "scores.jsonl"]),
    "score by ffmpeg": ("av", ["score", "clip.mka"]),
    "score by torch": ("torch", ["score", "systems/a", "-m", "TINY"]),
    "score on a cluster": ("ray", ["score", "systems/a", "--cluster", "local", "-o", "cluster.jsonl"]),
    "compare": ("", ["compare", "systems/a", "systems/b"]),
    "rank": ("jinja2", ["rank", "systems", "--samples", "100", "--report", "ranking.html", "-o", "ranking.json"]),
    "label": ("", ["label", "systems", "--reference-dir", "systems/a", "--metrics", "lsd", "-o", "labels.jsonl"]),
    "label by networks": ("speechmos", ["label", "systems/b/1.wav", "--metrics", NETWORKS, "-o", "networks.jsonl"]),
    "pairs": ("", ["pairs", "rows.jsonl", "--metric", "mos_overall", "-o", "pairs.jsonl"]),
    "evaluate": ("jinja2", ["evaluate", "rows.jsonl", "labels.csv", "--samples", "100", "--report", "evaluation.html"]),
    "models": ("", ["models"]),
    "export": ("onnx", ["export", "TINY", "-o", "tiny.onnx"]),
    "import": ("torch", ["import", "systems/a/1.wav", "-o", "imported"]),
    "prepare": ("", ["prepare", "custom", "corpus", "audio_path=wav", "mos_overall=score", "-o", "prepared"]),
    "train": ("lightning", ["train", *TRAIN, "--data", "rows.jsonl"]),
}
FAILING = {"import"}  # an import that works needs a released file; this one must only be quiet
HELP = [[], *([name] for name in main.commands)]


@pytest.fixture(scope="module")
def place(encode) -> Iterator[Path]:
    """A folder with audio, manifests, and the watch that each interpreter imports when it starts."""
    from conftest import voice

    place = Path(tempfile.mkdtemp(prefix="um", dir="/tmp"))  # short: Ray puts sockets below
    watch = place / "watch"
    watch.mkdir()
    (place / "tmp").mkdir()
    (watch / "guard.py").write_text(Path(guard.__file__).read_text("utf-8"), "utf-8")
    (watch / "sitecustomize.py").write_text(
        "import os\nif os.environ.get('WATCH_LOG'):\n"
        "    import guard\n    guard.record(os.environ['WATCH_LOG'], os.environ['WATCH_FOLDER'])\n"
    )
    rows = []
    for system in "ab":
        (place / "systems" / system).mkdir(parents=True)
        for content in range(1, 4):
            path = place / "systems" / system / f"{content}.wav"
            soundfile.write(path, voice(content, 0.6) * (1.0 if system == "a" else 0.5), 16_000)
            mos = 4.0 + content / 10 - (system == "b")
            rows.append(
                {"uid": f"{system}{content}", "audio_path": str(path), "system_id": system, "reference_id": f"c{content}"}
            )
            rows[-1] |= {"duration": 0.6, "metrics": {"mos_overall": mos}}
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "labels.csv").write_text(
        "uid,mos_overall\n" + "".join(f"{r['uid']},{r['metrics']['mos_overall']}\n" for r in rows)
    )
    (place / "corpus").mkdir()
    soundfile.write(place / "corpus" / "x.wav", voice(0, 0.6), 16_000)
    (place / "corpus" / "scores.csv").write_text("wav,score\nx.wav,3.5\n")
    with suppress(pytest.skip.Exception):  # then the command that reads it is skipped, too
        (place / "clip.mka").write_bytes(encode("av matroska pcm_s16le", voice(0, 0.6), 16_000))
    yield place
    shutil.rmtree(place, ignore_errors=True)


def environment(place: Path, home: Path, log: Path) -> dict[str, str]:
    """A user's, with a fresh home and none of the switches that packages read."""
    env = {name: value for name, value in os.environ.items() if not SWITCHES.match(name) and name not in FOREIGN_HOMES}
    env = {name: value for name, value in env.items() if not name.startswith("XDG_")}
    paths = [str(place / "watch"), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return env | {
        "HOME": str(home),
        "TMPDIR": str(place / "tmp"),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
        "WATCH_LOG": str(log),
        "WATCH_FOLDER": str(place),
    }


def nothing_left_or_stayed(home: Path, log: Path) -> None:
    assert [path.relative_to(home) for path in home.rglob("*")] == []
    violations = sorted(set(log.read_text("utf-8").splitlines())) if log.exists() else []
    assert violations == []


@pytest.mark.parametrize("name", CALLS)
def test_a_command_writes_nothing_at_home_and_calls_nobody(
    name: str, place: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    package, arguments = CALLS[name]
    if package:
        pytest.importorskip(package)
    if "TINY" in arguments:
        tiny = str(request.getfixturevalue("tiny_model"))
        arguments = [tiny if argument == "TINY" else argument for argument in arguments]
    home, log = tmp_path / "home", tmp_path / "watch.log"
    home.mkdir()
    run = subprocess.run([*COMMAND, *arguments], cwd=place, env=environment(place, home, log), capture_output=True, text=True)
    assert (run.returncode in (0, 1)) or name in FAILING, (run.stderr[-2000:], log.read_text() if log.exists() else "")
    nothing_left_or_stayed(home, log)


def test_help_of_all_commands_writes_nothing_at_home(place: Path, tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "watch.log"
    home.mkdir()
    for command in HELP:
        run = subprocess.run([*COMMAND, *command, "--help"], cwd=place, env=environment(place, home, log), capture_output=True)
        assert run.returncode == 0
    nothing_left_or_stayed(home, log)


def test_the_service_writes_nothing_at_home_and_calls_nobody(place: Path, tmp_path: Path) -> None:
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("uvicorn")
    home, log = tmp_path / "home", tmp_path / "watch.log"
    home.mkdir()
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0"], cwd=place, env=environment(place, home, log), stderr=subprocess.PIPE, text=True
    )
    kill = threading.Timer(120, process.kill)
    kill.start()
    try:
        address = next(filter(None, (re.search(r"http://127\.0\.0\.1:\d+", line) for line in process.stderr)))[0]
        sound = (place / "systems" / "a" / "1.wav").read_bytes()
        answer = httpx.post(f"{address}/v1/score", files={"files": ("a.wav", sound)}, timeout=60)
        assert answer.status_code == 200, answer.text
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(60) == 0
    finally:
        kill.cancel()
        process.kill()
    nothing_left_or_stayed(home, log)


@pytest.mark.parametrize(
    ("deed", "noticed"),
    [
        ("import socket; socket.getaddrinfo('example.com', 80)", "a look-up of example.com"),
        ("import socket; socket.create_connection(('192.0.2.1', 9))", "192.0.2.1"),
        ("import os; open(os.path.join(os.environ['HOME'], 'x'), 'w')", "opened for writing"),
        ("import os; open(os.path.join(os.environ['WATCH_FOLDER'], 'x'), 'w')", ""),
        ("import socket; socket.getaddrinfo('127.0.0.1', 80)", ""),
    ],
)
def test_the_watch_notices(deed: str, noticed: str, place: Path, tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "watch.log"
    home.mkdir()
    subprocess.run([sys.executable, "-c", deed], env=environment(place, home, log), capture_output=True)
    assert noticed in log.read_text("utf-8") if noticed else not log.exists()


def test_a_choice_of_the_user_stays(tmp_path: Path) -> None:
    code = "import os, urgentmos; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    env = {**os.environ, "ORT_DISABLE_TELEMETRY": "0"}
    assert (
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout.strip() == "0"
    )
