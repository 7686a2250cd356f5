"""The cluster engine: rows of the local engine, whatever dies; nothing lost, nothing twice.

Ray takes seconds to start and its tests some more: they share one where they can, and skip where Ray is absent.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from urgentmos.audio.samples import Audio, load
from urgentmos.audio.windows import OpenedAudio
from urgentmos.cli import main
from urgentmos.clips.clip import Clip
from urgentmos.clips.journal import Journal, Outcome, Shards, Task
from urgentmos.cluster import run as cluster
from urgentmos.errors import UsageError
from urgentmos.labellers import Settings
from urgentmos.labellers.loop import label

NAMES = ["lsd"]


@dataclass(frozen=True)
class Fake:
    """Listens to nothing; leaves a mark for each clip it measures, and dies where a clip's name asks for it."""

    marks: str
    pause: float = 0.0
    stage: str = "fake 1"
    title: str = "fake"
    gpu: bool = False

    def decode(self, task: Task) -> Any:
        if "deadly-to-hear" in task.audio_path:
            os._exit(1)
        return task.audio_path

    def start(self) -> Any:
        def measure(heard: Any) -> list[Outcome]:
            for path in heard:
                if "deadly-to-measure" in path:
                    os._exit(1)
                time.sleep(self.pause)
                with open(os.path.join(self.marks, os.path.basename(path)), "a") as mark:
                    mark.write("x")
            return [Outcome({"length": float(len(path))}, duration=1.0) for path in heard]

        return measure

    def crash_outcome(self, task: Task) -> Outcome:
        return Outcome(error=f"{task.audio_path}: died")


@dataclass(frozen=True)
class Unready(Fake):
    def start(self) -> Any:
        raise UsageError("no such model here. Copy it.")


@pytest.fixture(scope="module")
def ray_here():
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    # "local": not one that another test runs beside this
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False, logging_level=40)
    yield ray
    ray.shutdown()


@pytest.fixture
def marks(tmp_path) -> Path:
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


def tasks_of(names: list[str]) -> list[Task]:
    return [Task(f"/none/{name}.wav", None) for name in names]


def outcomes_in(folder: Path, stage: str, tasks: list[Task]) -> list[Outcome | None]:
    with Journal.open(folder) as log:
        return [log.get(stage, task) for task in tasks]


def entries(folder: Path) -> list[str]:
    """Keys of all rows of all shards, also those that stand there twice."""
    parquet = pytest.importorskip("pyarrow.parquet")
    return [key for file in sorted(folder.glob("shard-*.parquet")) for key in parquet.read_table(file)["key"].to_pylist()]


# ---- without Ray


def test_shards_are_a_journal(tmp_path):
    pytest.importorskip("pyarrow")
    tasks = tasks_of(["a", "b", "c", "d", "e"])
    with Shards.append(tmp_path, "s", 2, 1e9) as out:
        for i, task in enumerate(tasks[:3]):
            out.add(task, Outcome({"x": i / 3}, {"y": "why"}, None, ["w"], 1.5, 8000))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["shard-000000.parquet", "shard-000001.parquet"]
    with pytest.raises(KeyError), Shards.append(tmp_path, "s", 100, 1e9) as out:
        out.add(tasks[3], Outcome(error="gone"))
        raise KeyError
    (tmp_path / "shard-000007.parquet").write_bytes(b"cut")
    found = outcomes_in(tmp_path, "s", tasks)
    assert found[:3] == [Outcome({"x": i / 3}, {"y": "why"}, None, ["w"], 1.5, 8000) for i in range(3)]
    assert found[3:] == [Outcome(error="gone"), None]
    assert outcomes_in(tmp_path, "t", tasks) == [None] * 5


def test_batches_are_cut_by_what_was_decoded(tmp_path, monkeypatch):
    def heard(seconds: float) -> Audio:
        return Audio(np.zeros(int(seconds * 1000), np.float32), 1000, None)  # type: ignore[arg-type]

    assert cluster._size_of((heard(2.0), heard(3.0))) == (20_000, 3.0)
    assert cluster._size_of(OpenedAudio("x", heard(1.0))) == (4_000, 1.0)
    assert cluster._size_of("cannot be heard") == (0, 0.0)


def test_neighbours_travel_together_with_the_places_of_their_members(tmp_path, monkeypatch):
    import io
    import tarfile

    from urgentmos.audio.places.tar import At

    monkeypatch.setattr(cluster, "PIECE_CLIPS", 2)
    with tarfile.open(tmp_path / "x.tar", "w") as out:
        for name in ("a.wav", "b.wav"):
            info = tarfile.TarInfo(name)
            info.size = 3
            out.addfile(info, io.BytesIO(b"abc"))
    file = str(tmp_path / "x.tar")
    tasks = [Task(f"{file}#a.wav", None), Task("/x/y.wav", None), Task(f"{file}#b.wav", f"{file}#a.wav")]
    pieces = list(cluster._pieces(tasks, [0, 1, 2]))
    assert [[place for place, _ in piece] for piece, _ in pieces] == [[0, 1], [2]]
    assert pieces[0][1] == {(file, "a.wav"): At(512, 3)}
    assert pieces[1][1].keys() == {(file, "a.wav"), (file, "b.wav")}


def test_a_meter_tells_hours_per_hour_and_shares():
    meter = cluster.Meter(done=10, seconds=7200.0, decoding=1.0, computing=2.0, writing=1.0, began=time.monotonic() - 3600)
    assert meter.sentence() == "10 clips, 2 h of audio in 1 h: 2.0 hours per hour; decoding 25%, computing 50%, writing 25%"


def test_without_ray_the_line_that_installs_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"urgentmos\[cluster\]"):
        cluster.run_on_cluster("local", tasks_of(["a"]), [], tmp_path / "s")


# ---- a stand-in for Ray, in this process: deaths are exceptions, and what died is done again, as Ray does it


class Death(BaseException):
    pass


class Lost(Exception):
    pass


class InProcess:
    """As much of Ray as the engine asks for. `breaks` and `doubles`: what the first streams of a run do wrong."""

    def __init__(self, breaks: int = 0, doubles: bool = False) -> None:
        self.breaks, self.doubles, self.rows = breaks, doubles, []
        self.exceptions, self.data = SimpleNamespace(RayError=Lost), self
        self.ActorPoolStrategy = dict
        placing = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node)
        self.util = SimpleNamespace(scheduling_strategies=placing)

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "this one")

    def cluster_resources(self) -> dict:
        return {"CPU": 2.0}

    def remote(self, **_: Any) -> Any:
        return lambda kind: SimpleNamespace(remote=lambda: Told(kind()))

    def from_items(self, items: list, override_num_blocks: int) -> "InProcess":
        assert override_num_blocks == len(items)
        self.rows = items
        return self

    def flat_map(self, fn: Any, **_: Any) -> "InProcess":
        self.rows = [out for row in self.rows for out in surviving(lambda row=row: list(fn(row)))]
        return self

    def map(self, kind: Any, fn_constructor_args: tuple, **_: Any) -> "InProcess":
        self.rows = [surviving(lambda row=row: kind(*fn_constructor_args)(row)) for row in self.rows]
        return self

    def iter_rows(self) -> Any:
        for place, row in enumerate(self.rows):
            if self.breaks and place == len(self.rows) // 2:
                self.breaks -= 1
                raise Lost("a node is gone")
            yield from [row] * (2 if self.doubles else 1)


class Told:
    """An actor in this process: x.method.remote(...) answers at once."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._kind, name))


def surviving(work: Any) -> Any:
    for _ in range(30):
        try:
            return work()
        except Death:
            continue
    raise AssertionError("done again for ever")


@pytest.fixture
def stand_in(monkeypatch):
    pytest.importorskip("pyarrow")

    def start(**how: Any) -> InProcess:
        made = InProcess(**how)
        monkeypatch.setattr(cluster, "_ray", lambda address, jobs: nullcontext(made))
        monkeypatch.setattr(cluster, "_guarded", lambda ledger, name: ledger.begin.remote(name))
        monkeypatch.setattr(os, "_exit", lambda status: (_ for _ in ()).throw(Death()))
        monkeypatch.setattr(cluster, "PIECE_CLIPS", 4)
        return made

    return start


@pytest.mark.parametrize("how", [{}, {"breaks": 2}, {"doubles": True}, {"breaks": 1, "doubles": True}])
def test_each_clip_is_written_once_whatever_the_stream_does(stand_in, tmp_path, marks, how, capsys):
    stand_in(**how)
    tasks, shards = tasks_of([f"c{i}" for i in range(30)]), tmp_path / "shards"
    cluster.run_on_cluster("local", [*tasks, tasks[3]], [Fake(str(marks))], shards)
    found = outcomes_in(shards, "fake 1", tasks)
    assert [outcome.values for outcome in found] == [{"length": float(len(task.audio_path))} for task in tasks]
    assert len(entries(shards)) == 30
    assert "fake: 30 clips, 30 s of audio" in capsys.readouterr().err


def test_a_stream_that_breaks_again_and_again_keeps_what_it_gave(stand_in, tmp_path, marks):
    stand_in(breaks=99)
    shards = tmp_path / "shards"
    with pytest.raises(Lost):
        cluster.run_on_cluster("local", tasks_of([f"c{i}" for i in range(30)]), [Fake(str(marks))], shards)
    assert 0 < len(entries(shards)) < 30


def test_deadly_clips_have_rows_and_cost_nobody_else_one(stand_in, tmp_path, marks):
    stand_in()
    names = ["c0", "deadly-to-hear", "c1", "c2", "c3", "deadly-to-measure", "c4", "deadly-to-measure too", "c5"]
    tasks, shards = tasks_of(names), tmp_path / "shards"
    cluster.run_on_cluster("local", tasks, [Fake(str(marks))], shards)
    errors = [outcome.error for outcome in outcomes_in(shards, "fake 1", tasks)]
    assert errors == [f"{task.audio_path}: died" if "deadly" in task.audio_path else None for task in tasks]
    assert len(entries(shards)) == len(tasks)


def test_what_one_pass_cannot_hear_no_other_is_asked_about(stand_in, tmp_path, marks):
    stand_in()
    tasks, shards = tasks_of(["c0", "deadly-to-hear", "c1"]), tmp_path / "shards"
    cluster.run_on_cluster("local", tasks, [Fake(str(marks)), Fake(str(marks), stage="fake 2")], shards)
    assert [outcome is None for outcome in outcomes_in(shards, "fake 2", tasks)] == [False, True, False]


def gone_on(tmp_path: Path, marks: Path) -> tuple[list[Task], Path]:
    """Tasks, and the shards of a run that was killed after seven of ten and went on: the three others alone were done."""
    tasks, shards = tasks_of([f"c{i}" for i in range(10)]), tmp_path / "shards"
    shards.mkdir()
    with Shards.append(shards, "fake 1", 100, 1e9) as out:
        for task in tasks[:7]:
            out.add(task, Outcome({"length": 0.0}))
    cluster.run_on_cluster("local", tasks, [Fake(str(marks))], shards)
    assert sorted(p.name for p in marks.iterdir()) == ["c7.wav", "c8.wav", "c9.wav"]
    return tasks, shards


def test_only_what_is_missing_is_done(stand_in, tmp_path, marks):
    stand_in()
    gone_on(tmp_path, marks)


def test_a_worker_that_cannot_load_the_model_says_so(stand_in, tmp_path, marks):
    stand_in()
    with pytest.raises(UsageError, match="no such model here"):
        cluster.run_on_cluster("local", tasks_of(["a"]), [Unready(str(marks))], tmp_path / "shards")


def test_label_rows_equal_those_of_the_local_engine(stand_in, tmp_path, make_voice, monkeypatch):
    stand_in()
    monkeypatch.setattr(cluster, "BATCH_BYTES", 40_000)  # some recordings are decoded where the model is
    clips = []
    for i in range(9):
        soundfile.write(tmp_path / f"c{i}.wav", make_voice(i, 0.3 + 0.1 * i), 16_000)
        clips.append(Clip(f"c{i}", str(tmp_path / f"c{i}.wav"), reference_path=str(tmp_path / f"c{i}.wav")))
    (tmp_path / "c7.wav").write_bytes(b"no audio")
    clips[5] = Clip("c5", str(tmp_path / "none.wav"))
    clips[4] = Clip("c4", clips[4].audio_path)
    tasks = [Task(clip.audio_path, clip.reference_path) for clip in clips]
    cluster.run_on_cluster("local", tasks, cluster.label_works(NAMES, Settings()), tmp_path / "shards")
    assert len(entries(tmp_path / "shards")) == 9
    assert list(label(clips, NAMES, journal=tmp_path / "shards")) == list(label(clips, NAMES))


# ---- with Ray


def test_rows_equal_those_of_the_local_engine(ray_here, tmp_path, make_voice, capsys):
    clips = []
    for i in range(40):
        path = tmp_path / f"c{i}.wav"
        soundfile.write(path, make_voice(i, 0.3), 16_000)
        clips.append(Clip(f"c{i}", str(path), reference_path=str(tmp_path / f"c{(i + 1) % 40}.wav")))
    (tmp_path / "c7.wav").write_bytes(b"no audio")
    clips[9] = Clip("c9", str(tmp_path / "none.wav"))
    clips[11] = Clip("c11", clips[10].audio_path, reference_path=clips[10].reference_path)
    works = cluster.label_works(NAMES, Settings())
    tasks = [Task(clip.audio_path, clip.reference_path) for clip in clips]
    shards = tmp_path / "shards"
    cluster.run_on_cluster("local", tasks, works, shards)
    assert "hours per hour; decoding" in capsys.readouterr().err
    known = entries(shards)
    assert len(known) == len(set(known)) == len(set(tasks))
    assert list(label(clips, NAMES, journal=shards)) == list(label(clips, NAMES))


def test_a_network_scores_alike(ray_here, tmp_path, make_voice, tiny_model):
    files = tmp_path / "in"
    files.mkdir()
    for i in range(6):
        soundfile.write(files / f"c{i}.wav", make_voice(i, 0.4 + 0.1 * i), 16_000)
    (files / "bad.wav").write_bytes(b"no audio")
    outputs = [tmp_path / "local.jsonl", tmp_path / "spread.jsonl"]
    for output, more in zip(outputs, ([], ["--cluster", "local"]), strict=True):
        ran = CliRunner().invoke(main, ["score", str(files), "-m", str(tiny_model), "-o", str(output), *more])
        assert ran.exit_code == 1, ran.output
    rows = [[json.loads(line) for line in output.read_text().splitlines()] for output in outputs]
    for local, spread in zip(*rows, strict=True):
        assert {k: v for k, v in local.items() if k != "metrics"} == {k: v for k, v in spread.items() if k != "metrics"}
        for name, value in local["metrics"].items():
            assert spread["metrics"][name] == (value if value is None else pytest.approx(value, abs=1e-5))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "local.jsonl", "spread.jsonl"]


def test_a_clip_that_kills_its_process_is_a_row(ray_here, tmp_path, marks, monkeypatch):
    monkeypatch.setattr(cluster, "PIECE_CLIPS", 4)
    names = [f"c{i}" for i in range(8)] + ["deadly-to-hear", "deadly-to-measure"]
    tasks, shards = tasks_of(names), tmp_path / "shards"
    cluster.run_on_cluster("local", tasks, [Fake(str(marks))], shards)
    found = outcomes_in(shards, "fake 1", tasks)
    assert [outcome.error for outcome in found] == [None] * 8 + [f"{task.audio_path}: died" for task in tasks[8:]]
    assert len(entries(shards)) == 10


def test_a_run_goes_on_from_its_shards(ray_here, tmp_path, marks):
    tasks, shards = gone_on(tmp_path, marks)
    assert [outcome.values["length"] > 0 for outcome in outcomes_in(shards, "fake 1", tasks)] == [False] * 7 + [True] * 3


def test_a_model_that_no_worker_can_load_is_said(ray_here, tmp_path, marks):
    with pytest.raises(UsageError, match="no such model here"):
        cluster.run_on_cluster("local", tasks_of(["a"]), [Unready(str(marks))], tmp_path / "shards")


def test_a_node_that_is_killed_costs_no_row_and_doubles_none(tmp_path, marks):
    """Two nodes on this machine; the one that is killed had begun."""
    ray = pytest.importorskip("ray")
    utils = pytest.importorskip("ray.cluster_utils")
    ray.shutdown()
    script = tmp_path / "kill_a_node.py"
    script.write_text(NODE_SCRIPT.format(tests=str(Path(__file__)), marks=str(marks), shards=str(tmp_path / "shards")))
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert utils is not None and "killed" in ran.stdout
    tasks = tasks_of([f"c{i}" for i in range(40)])
    found = outcomes_in(tmp_path / "shards", "fake 1", tasks)
    assert all(outcome is not None and outcome.error is None for outcome in found)
    assert len(entries(tmp_path / "shards")) == 40


NODE_SCRIPT = """
import importlib.util, os, sys, threading, time
spec = importlib.util.spec_from_file_location("fakes", {tests!r})
fakes = importlib.util.module_from_spec(spec); sys.modules["fakes"] = fakes; spec.loader.exec_module(fakes)
import ray
from ray.cluster_utils import Cluster
from urgentmos.cluster import run as cluster
ray.cloudpickle.register_pickle_by_value(fakes)
cluster.PIECE_CLIPS = 2
# a dead node is missed after seconds, not after half a minute
health = dict(health_check_initial_delay_ms=0, health_check_period_ms=500, health_check_failure_threshold=6)
head = dict(num_cpus=1, object_store_memory=80 << 20, include_dashboard=False, _system_config=health)
nodes = Cluster(initialize_head=True, head_node_args=head)
second = nodes.add_node(num_cpus=1, object_store_memory=80 << 20)
ray.init(address=nodes.address, log_to_driver=False, logging_level=40)

def kill():
    while len(os.listdir({marks!r})) < 8:
        time.sleep(0.05)
    nodes.remove_node(second, allow_graceful=False)
    print("killed", flush=True)

threading.Thread(target=kill, daemon=True).start()
tasks = [fakes.Task(f"/none/c{{i}}.wav", None) for i in range(40)]
from pathlib import Path
cluster.run_on_cluster("auto", tasks, [fakes.Fake({marks!r}, 0.15)], Path({shards!r}))
ray.shutdown()
nodes.shutdown()
"""


def test_a_killed_driver_goes_on_where_it_stopped(tmp_path, make_voice):
    pytest.importorskip("ray")
    for i in range(24):
        soundfile.write(tmp_path / f"c{i}.wav", make_voice(i, 0.3), 16_000)
    rows = [{"audio_path": f"c{i}.wav", "reference_path": f"c{(i + 1) % 24}.wav"} for i in range(24)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "out.jsonl"
    shards = tmp_path / ".out.jsonl.shards"
    small = "cluster.SHARD_CLIPS = cluster.PIECE_CLIPS = 2"
    code = f"from urgentmos import cluster; {small}; from urgentmos.cli import main; main()"
    asked = [sys.executable, "-c", code, "label", str(tmp_path / "m.jsonl"), "--metrics", "lsd", "-o", str(output)]
    run = subprocess.Popen([*asked, "--cluster", "local"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not list(shards.glob("shard-*.parquet")) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    kept = len(entries(shards))
    assert kept > 0 and not output.exists()
    again = subprocess.run([*asked, "--cluster", "local"], capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stderr[-3000:]
    assert kept == 24 or f"lsd: {24 - kept} clips" in again.stderr
    local = tmp_path / "local.jsonl"
    assert subprocess.run([*asked[:-1], str(local)], capture_output=True).returncode == 0
    assert output.read_text() == local.read_text() and not shards.exists()


def test_what_a_worker_decodes_is_what_is_decoded_here(tmp_path, make_voice):
    path = tmp_path / "x.wav"
    soundfile.write(path, make_voice(0, 0.3), 16_000)
    (work,) = cluster.label_works(NAMES, Settings())
    heard, reference = work.decode(Task(str(path), None))
    assert np.array_equal(heard.wave, load(path).wave) and reference is None


def test_a_folder_that_has_the_name_of_a_packaged_model_by_chance_is_not_taken_for_it(tmp_path, monkeypatch) -> None:
    from urgentmos.api import load as load_judge

    (tmp_path / "pocket").mkdir()
    monkeypatch.chdir(tmp_path)
    (work,) = cluster.works_of(load_judge("pocket"), "pocket", "auto", Settings({}, "cpu"))
    assert isinstance(work, cluster.NetworkWork) and work.model == "pocket"


# ---- who can reach it

LISTENING = """
import glob, json, os, sys
from urgentmos.cluster.session import ray_session

def sockets():
    # {inode: address in hexadecimal} of all that listen
    rows = [line.split() for family in ("tcp", "tcp6") for line in open(f"/proc/net/{family}").read().splitlines()[1:]]
    return {row[9]: row[1].split(":")[0] for row in rows if row[3] == "0A"}

def family(root):
    parents = {}
    for place in glob.glob("/proc/[0-9]*/stat"):
        try:
            text = open(place).read()
        except OSError:
            continue
        parents[int(place.split("/")[2])] = int(text.rpartition(")")[2].split()[1])
    members = {root}
    while more := {pid for pid, parent in parents.items() if parent in members} - members:
        members |= more
    return members

def addresses(pids):
    listening = sockets()
    for pid in pids:
        for place in glob.glob(f"/proc/{pid}/fd/*"):
            try:
                target = os.readlink(place)
            except OSError:
                continue
            if target.startswith("socket:[") and target[8:-1] in listening:
                yield listening[target[8:-1]]

with ray_session("local", 1) as ray:
    assert ray.get(ray.remote(lambda: 1).remote()) == 1
    print(json.dumps(sorted(addresses(family(os.getpid())))))
"""
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}  # IPv4, mapped, IPv6


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="reads the sockets of Linux")
def test_ray_on_this_machine_listens_on_loopback_alone():
    pytest.importorskip("ray.data")
    result = subprocess.run([sys.executable, "-c", LISTENING], capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert len(found) >= 3 and set(found) <= LOOPBACK
