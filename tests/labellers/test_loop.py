"""The loop: as many results as clips, one bad clip costs itself only, a kill costs nothing that was finished."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from urgentmos import labellers
from urgentmos.clips.clip import Clip
from urgentmos.errors import UsageError
from urgentmos.labellers import LABELLERS, Labeller, Settings, loop
from urgentmos.labellers.loop import Labelled, label, stages
from urgentmos.metrics import METRICS

RATE = 16_000

# A labeller of its own for these tests. It measures the mean of a clip, unless the first sample tells it to misbehave.
# It lies in a file, so that worker processes can import it too; it borrows the name of a metric that needs no reference.
FAKE = """
    import os, time
    from dataclasses import dataclass
    from pathlib import Path
    from urgentmos.errors import MeasureError, UsageError
    from urgentmos.labellers import Labeller

    @dataclass(frozen=True)
    class Fake(Labeller):
        log: str = ""  # a folder: each measurement leaves a file there, named after the process
        seconds: float = 0.0
        loads: bool = True

        def load(self, settings):
            if not self.loads:
                raise UsageError("this one cannot be loaded")
            return self.measure

        def measure(self, signals):
            first = round(float(signals.wave[0]), 3)
            if self.log:
                name = f"{os.getpid()}-{time.monotonic_ns()}-{round(1000 * float(signals.wave[-1]))}"
                (Path(self.log) / name).touch()
            time.sleep(self.seconds)
            if first == 0.9:
                os._exit(3)
            if first == 0.8:
                os.abort()
            if first == 0.7:
                raise ZeroDivisionError("inside")
            if first == 0.6:
                return {self.metrics[0]: float("nan")}
            if first == 0.5:
                raise MeasureError("nothing to measure")
            if first == 0.4:
                return {self.metrics[0]: None}
            if first == 0.3:
                raise MemoryError
            return {self.metrics[0]: float(signals.wave[-1])}
"""


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory):
    """The module with `Fake`, importable here and in worker processes."""
    folder = tmp_path_factory.mktemp("fakes")
    (folder / "fake_labellers_1.py").write_text(textwrap.dedent(FAKE))
    sys.path.insert(0, str(folder))
    import fake_labellers_1

    yield fake_labellers_1
    sys.path.remove(str(folder))


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts labellers before those of the table."""

    def put(*rows: Labeller) -> None:
        table = (*rows, *LABELLERS)
        monkeypatch.setattr(labellers, "LABELLERS", table)
        monkeypatch.setattr(loop, "LABELLERS", table)

    return put


@pytest.fixture
def fake(fakes, register) -> Labeller:
    """A labeller of 'utmos' that returns a clip's last sample."""
    row = fakes.Fake("fake", ("utmos",), ("numpy",), model=True)
    register(row)
    return row


def write(path: Path, last: float = 0.25, first: float = 0.0, seconds: float = 0.2) -> Clip:
    """A file of zeros but for its first sample (what a `Fake` shall do) and its last (what it shall measure)."""
    wave = np.zeros(int(seconds * RATE), np.float32)
    wave[0], wave[-1] = first, last
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    return Clip(path.stem, str(path))


def many(folder: Path, n: int, **how: float) -> list[Clip]:
    return [write(folder / f"{i}.wav", last=i / 64, **how) for i in range(n)]


def run(clips: Sequence[Clip], metrics: Sequence[str] = ("utmos",), **how: object) -> list[Labelled]:
    return list(label(clips, metrics, **how))  # type: ignore[arg-type]


def values(results: Sequence[Labelled], metric: str = "utmos") -> list[float | None]:
    return [r.clip.metrics[metric] for r in results]


# ---- as many results as clips


def test_results_come_in_the_order_of_the_clips(fake, tmp_path: Path) -> None:
    clips = many(tmp_path, 5)[::-1]
    results = run(clips)
    assert [r.clip.uid for r in results] == ["4", "3", "2", "1", "0"]
    assert values(results) == [i / 64 for i in (4, 3, 2, 1, 0)]
    assert all(r.error is None for r in results)


def test_no_clips_give_no_results(fake) -> None:
    assert run([]) == []


def test_a_file_that_comes_twice_is_measured_once_and_reported_twice(fakes, register, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    register(fakes.Fake("fake", ("utmos",), ("numpy",), model=True, log=str(tmp_path / "log")))
    clip, other = many(tmp_path, 2)
    again = Clip("again", clip.audio_path, meta={"kept": 1})
    results = run([clip, other, again])
    assert [r.clip.uid for r in results] == ["0", "1", "again"]
    assert values(results) == [0, 1 / 64, 0]
    assert results[2].clip.meta["kept"] == 1
    assert len(list((tmp_path / "log").iterdir())) == 2


@pytest.mark.parametrize("jobs", [1, 2])
def test_bad_files_get_reasons_and_lose_nothing_else(fake, tmp_path: Path, jobs: int) -> None:
    clips = many(tmp_path, 9)
    bad = {1: "does not exist", 3: "is empty", 4: "cannot be decoded", 6: "is a folder", 8: "not finite"}
    Path(clips[1].audio_path).unlink()
    Path(clips[3].audio_path).write_bytes(b"")
    Path(clips[4].audio_path).write_text("dear diary")
    Path(clips[6].audio_path).unlink()
    Path(clips[6].audio_path).mkdir()
    soundfile.write(clips[8].audio_path, np.full(3200, np.nan), RATE, subtype="FLOAT")
    results = run(clips, jobs=jobs)
    assert len(results) == 9
    for i, result in enumerate(results):
        assert result.clip.uid == str(i)
        if i in bad:
            assert result.error is not None and bad[i] in result.error and clips[i].audio_path in result.error
            assert result.clip.metrics == {"utmos": None} and result.clip.duration is None
        else:
            assert result.error is None and result.clip.metrics == {"utmos": i / 64}
            assert result.clip.duration == 0.2


def test_a_clip_keeps_what_it_came_with(fake, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav").audio_path
    clip = Clip("a", path, "sys", "content", "mine", None, None, {"mos_overall": 3.5}, {"x": 1})
    (result,) = run([clip])
    assert (result.clip.system_id, result.clip.reference_id, result.clip.corpus) == ("sys", "content", "mine")
    assert result.clip.metrics == {"mos_overall": 3.5, "utmos": 0.25}
    assert result.clip.meta["x"] == 1 and result.clip.meta["sample_rate"] == RATE


def test_silence_is_measured_with_a_warning(fake, tmp_path: Path) -> None:
    (result,) = run([write(tmp_path / "a.wav", last=0.0)])
    assert result.error is None and result.warnings[0] == "silence: the level is digital zero"


def test_a_short_clip_has_a_reason_with_both_lengths(fake, tmp_path: Path) -> None:
    (result,) = run([write(tmp_path / "a.wav", seconds=0.01)])
    assert result.error == "utmos: 0.01 s is shorter than the 0.1 s that UTMOS needs"
    assert result.clip.metrics == {"utmos": None} and result.clip.duration == 0.01


def test_versions_are_recorded(fake, tmp_path: Path) -> None:
    (result,) = run([write(tmp_path / "a.wav")], settings=Settings(weights={"fake": "here.pt"}))
    said = result.clip.meta["labellers"]["fake"]
    assert f"numpy {np.__version__}" in said and "here.pt" in said


def test_progress_counts_every_clip(fake, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    run(many(tmp_path, 3), progress=lambda *step: seen.append(step))
    assert seen == [("fake", i, 3) for i in range(4)]


# ---- one clip's failure


@pytest.mark.parametrize(
    "first, says",
    [
        (0.7, "fake failed: ZeroDivisionError: inside"),
        (0.6, "came out as nan"),
        (0.5, "nothing to measure"),
        (0.4, "fake failed: TypeError"),
        (0.3, "fake failed: MemoryError"),
    ],
)
def test_what_goes_wrong_inside_a_labeller_costs_one_value(fake, tmp_path: Path, first: float, says: str) -> None:
    clips = [write(tmp_path / "a.wav"), write(tmp_path / "b.wav", first=first), write(tmp_path / "c.wav")]
    results = run(clips)
    assert values(results) == [0.25, None, 0.25]
    assert says in str(results[1].error) and results[0].error is results[2].error is None


@pytest.mark.parametrize("first", [0.9, 0.8])
def test_a_labeller_that_kills_its_process_costs_one_value(fake, tmp_path: Path, first: float) -> None:
    clips = many(tmp_path, 6)
    clips[2] = write(tmp_path / "2.wav", first=first)
    results = run(clips, jobs=2)
    assert values(results) == [None if i == 2 else i / 64 for i in range(6)]
    assert "process that measured fake died" in str(results[2].error)


def test_a_decoder_that_breaks_costs_one_clip(fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = many(tmp_path, 3)
    real = loop.load_audio

    def broken(path: str) -> object:
        if path == clips[1].audio_path:
            raise IndexError("inside the decoder")
        return real(path)

    monkeypatch.setattr(loop, "load_audio", broken)
    results = run(clips)
    assert values(results) == [0, None, 2 / 64]
    assert "inside the decoder" in str(results[1].error)


def test_a_decoder_that_breaks_on_a_reference_signal_costs_its_metrics(tmp_path: Path, voices, monkeypatch) -> None:
    real = loop.load_audio

    def broken(path: str) -> object:
        if "clean" in path:
            raise IndexError("inside the decoder")
        return real(path)

    monkeypatch.setattr(loop, "load_audio", broken)
    results = run(voices[:2], ["lsd"])
    assert values(results, "lsd") == [None, None]
    assert all("reference signal: " in str(r.error) and "inside the decoder" in str(r.error) for r in results)


def test_a_failing_metric_leaves_the_others_alone(fakes, register, tmp_path: Path, make_voice) -> None:
    register(fakes.Fake("fake", ("utmos",), ("numpy",), model=True))
    wave = make_voice(0, 0.5)
    wave[0] = 0.7
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    clip = Clip("a", str(tmp_path / "a.wav"), reference_path=str(tmp_path / "a.wav"))
    (result,) = run([clip], ["utmos", "lsd", "sdr"])
    assert result.clip.metrics["utmos"] is None
    assert result.clip.metrics["lsd"] == pytest.approx(0, abs=1e-3) and result.clip.metrics["sdr"] == pytest.approx(50, abs=0.1)
    assert str(result.error).startswith("utmos: ")


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_cannot_be_loaded_says_so_before_any_work(fakes, register, tmp_path: Path, jobs: int) -> None:
    (tmp_path / "log").mkdir()
    good = fakes.Fake("good", ("utmos",), ("numpy",), model=True, log=str(tmp_path / "log"))
    register(good, fakes.Fake("bad", ("scoreq",), ("numpy",), model=True, loads=False))
    with pytest.raises(UsageError, match="cannot be loaded"):
        run(many(tmp_path, 2), ["utmos", "scoreq"], jobs=jobs)
    assert not list((tmp_path / "log").iterdir())


# ---- reference signals


@pytest.fixture
def voices(tmp_path: Path, make_voice, add_noise) -> list[Clip]:
    """Six clips with reference signals."""
    clips = []
    for i in range(6):
        clean = make_voice(i, 0.6)
        soundfile.write(tmp_path / f"clean{i}.wav", clean, RATE, subtype="FLOAT")
        soundfile.write(tmp_path / f"noisy{i}.wav", add_noise(clean, 5 * i), RATE, subtype="FLOAT")
        clips.append(Clip(str(i), str(tmp_path / f"noisy{i}.wav"), reference_path=str(tmp_path / f"clean{i}.wav")))
    return clips


def _replace_reference(clip: Clip, wave: np.ndarray, rate: int) -> None:
    assert clip.reference_path is not None
    soundfile.write(clip.reference_path, wave, rate, subtype="FLOAT")


def test_reference_signals_that_do_not_fit_are_reasons(voices: list[Clip], make_voice) -> None:
    _replace_reference(voices[0], make_voice(0, 0.6, 8_000), 8_000)
    _replace_reference(voices[1], make_voice(0, 1.6), RATE)
    Path(str(voices[2].reference_path)).unlink()
    _replace_reference(voices[3], np.zeros(int(0.6 * RATE)), RATE)
    voices[4] = Clip("4", voices[4].audio_path)
    results = run(voices, ["lsd", "sdr"])
    reasons = [
        "at 8000 Hz and the clip at 16000 Hz",
        "25600 samples and the clip 9600",
        "does not exist",
        "is silent",
        "no reference",
    ]
    for result, reason in zip(results, reasons, strict=False):
        assert reason in str(result.error) and result.clip.metrics == {"lsd": None, "sdr": None}
        assert str(result.error).startswith("lsd, sdr: ")  # one sentence for both
    assert results[5].error is None


@pytest.mark.parametrize("surplus", [-320, 320])
def test_a_tail_of_some_milliseconds_is_left_out_with_a_warning(voices: list[Clip], make_voice, surplus: int) -> None:
    clean = make_voice(0, 0.7)[: int(0.6 * RATE) + surplus]
    _replace_reference(voices[0], clean, RATE)
    (result,) = run(voices[:1], ["lsd"])
    assert result.error is None and result.clip.metrics["lsd"] is not None
    assert any("unequal lengths: 320 samples" in w for w in result.warnings)
    assert result.clip.duration == 0.6


def test_a_missing_reference_signal_costs_intrusive_metrics_only(fake, voices: list[Clip]) -> None:
    Path(str(voices[0].reference_path)).unlink()
    (result,) = run(voices[:1], ["utmos", "lsd"])
    assert result.clip.metrics["utmos"] is not None and result.clip.metrics["lsd"] is None


def test_two_processes_measure_exactly_what_one_does(voices: list[Clip]) -> None:
    metrics = ["lsd", "sdr", "mcd", "pesq"]
    once, twice = run(voices, metrics, jobs=1), run(voices, metrics, jobs=2)
    assert once == twice
    assert all(v is not None for r in once for v in r.clip.metrics.values())


def test_the_mode_of_pesq_is_recorded(voices: list[Clip]) -> None:
    (result,) = run(voices[:1], ["pesq"])
    assert result.clip.meta["pesq_mode"] == "wb" and "pesq 0" in result.clip.meta["labellers"]["pesq"]


# ---- stages


@given(st.sets(st.sampled_from(labellers.MEASURABLE)))
def test_stages_cover_what_is_asked_and_hold_one_model_each(metrics: set[str]) -> None:
    rows = [row for stage in stages(metrics) for row in stage.labellers]
    assert metrics <= {m for row in rows for m in row.metrics}
    assert all(metrics & set(row.metrics) for row in rows) and len(set(rows)) == len(rows)
    for stage in stages(metrics):
        assert len(stage.labellers) == 1 or not any(row.model for row in stage.labellers)


def test_the_key_of_a_stage_changes_with_versions_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    (stage,) = stages(["utmos"])
    keys = {stage.key(Settings()), stage.key(Settings(weights={"utmos": "a"})), stage.key(Settings(weights={"utmos": "b"}))}
    monkeypatch.setattr(Labeller, "versions", lambda self: {"torch": "0"})
    assert len(keys | {stage.key(Settings())}) == 4
    assert stage.key(Settings(weights={"pesq": "x"})) == stage.key(Settings())


# ---- the journal


def _entries(journal: Path) -> list[dict]:
    return [json.loads(line) for line in journal.read_text().splitlines() if line]


def test_a_second_run_takes_everything_from_the_journal(fakes, register, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    register(fakes.Fake("fake", ("utmos",), ("numpy",), model=True, log=str(log)))
    clips = [*many(tmp_path, 3), write(tmp_path / "bad.wav", first=0.5), Clip("gone", str(tmp_path / "gone.wav"))]
    first = run(clips, journal=tmp_path / "j")
    measured = len(list(log.iterdir()))
    assert run(clips, journal=tmp_path / "j") == first
    assert len(list(log.iterdir())) == measured == 4
    assert len(_entries(tmp_path / "j")) == 5


def test_a_changed_file_is_measured_anew(fake, tmp_path: Path) -> None:
    clips = many(tmp_path, 2)
    run(clips, journal=tmp_path / "j")
    before = os.stat(clips[0].audio_path)
    write(tmp_path / "0.wav", last=0.5)  # of the same size
    os.utime(clips[0].audio_path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert values(run(clips, journal=tmp_path / "j")) == [0.5, 1 / 64]
    write(tmp_path / "1.wav", last=0.125, seconds=0.3)
    os.utime(clips[1].audio_path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert values(run(clips, journal=tmp_path / "j")) == [0.5, 0.125]


def test_a_file_that_appeared_is_measured(fake, tmp_path: Path) -> None:
    clip = Clip("a", str(tmp_path / "a.wav"))
    assert values(run([clip], journal=tmp_path / "j")) == [None]
    write(tmp_path / "a.wav")
    assert values(run([clip], journal=tmp_path / "j")) == [0.25]


def test_other_weights_are_measured_anew(fakes, register, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    register(fakes.Fake("fake", ("utmos",), ("numpy",), model=True, log=str(log)))
    clip = write(tmp_path / "a.wav")
    for weights in ("a", "a", "b"):
        run([clip], settings=Settings({"fake": weights}), journal=tmp_path / "j")
    assert len(list(log.iterdir())) == 2


def test_lines_of_others_are_ignored(fake, tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b'[]\n{"key": 1}\nnull\n{"key": "x", "outcome": {"no": 1}}\n\xff\xfe\n17\n')
    assert values(run(many(tmp_path, 2), journal=tmp_path / "j")) == [0, 1 / 64]


# ---- a kill

DRIVER = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {fakes!r})
    from fake_labellers_1 import Fake
    from urgentmos import labellers
    from urgentmos.clips.clip import Clip
    from urgentmos.labellers import loop

    ROW = Fake("fake", ("utmos",), ("numpy",), model=True, log={log!r}, seconds={seconds})
    labellers.LABELLERS = loop.LABELLERS = (ROW, *labellers.LABELLERS)

    if __name__ == "__main__":
        clips = [Clip(str(i), str(Path({folder!r}) / f"{{i}}.wav")) for i in range({n})]
        for result in loop.label(clips, ["utmos"], jobs=2, journal=Path({journal!r})):
            print(result.clip.uid, result.clip.metrics["utmos"])
"""


def _gone(pid: int) -> bool:
    """True if the process has ended, whether or not somebody has collected it."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True


def _wait_until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")
def test_after_kill_9_the_same_command_finishes_the_work(fakes, tmp_path: Path) -> None:
    n, log, journal = 16, tmp_path / "log", tmp_path / "journal"
    log.mkdir()
    many(tmp_path, n)

    def driver(seconds: float) -> Path:
        path = tmp_path / "driver.py"
        folder = str(Path(fakes.__file__).parent)
        about = {"fakes": folder, "log": str(log), "seconds": seconds, "folder": str(tmp_path), "journal": str(journal), "n": n}
        path.write_text(textwrap.dedent(DRIVER).format(**about))
        return path

    undisturbed = [f"{i} {i / 64}" for i in range(n)]
    first = subprocess.Popen([sys.executable, str(driver(0.1))], stdout=subprocess.DEVNULL)
    assert _wait_until(lambda: journal.exists() and journal.read_bytes().count(b"outcome") >= 4)
    first.send_signal(signal.SIGKILL)
    first.wait()
    workers = {int(f.name.split("-")[0]) for f in log.iterdir()} - {first.pid}
    assert workers
    assert _wait_until(lambda: all(_gone(pid) for pid in workers), 20), "workers outlive their parent"
    finished = len(_entries_of_whole_lines(journal))
    assert 4 <= finished < n
    with journal.open("a") as f:
        f.write('{"key": "torn')
    before = len(list(log.iterdir()))

    second = subprocess.run([sys.executable, str(driver(0.0))], capture_output=True, text=True, check=True, timeout=120)
    assert second.stdout.splitlines() == undisturbed
    assert len(list(log.iterdir())) - before == n - finished  # what was finished is not measured again
    assert len(_entries_of_whole_lines(journal)) == n  # and each clip is there once


def _entries_of_whole_lines(journal: Path) -> list[str]:
    """Keys of the journal's readable lines."""
    keys = []
    for line in journal.read_text().splitlines():
        try:
            keys.append(json.loads(line)["key"])
        except ValueError:
            continue
    assert len(set(keys)) == len(keys)
    return keys


def test_what_is_left_of_a_run_is_measured_as_the_rest_was(fakes, register, tmp_path: Path) -> None:
    """In worker processes, although it is little: libraries with another number of threads round otherwise."""
    log = tmp_path / "log"
    log.mkdir()
    register(fakes.Fake("fake", ("utmos",), ("numpy",), model=True, log=str(log)))
    clips = many(tmp_path, 9)
    run(clips[:8], journal=tmp_path / "j", jobs=2)
    run(clips, journal=tmp_path / "j", jobs=2)
    pids = [f.name.split("-")[0] for f in log.iterdir()]
    assert len(pids) == 9 and str(os.getpid()) not in pids


def test_measuring_here_leaves_torch_its_threads(fakes, register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    seen: list[int] = []
    row = fakes.Fake("fake", ("utmos",), ("numpy",), model=True)
    real = row.measure
    monkeypatch.setattr(fakes.Fake, "measure", lambda self, s: (seen.append(torch.get_num_threads()), real(s))[1])
    register(row)
    before = torch.get_num_threads()
    results = label(many(tmp_path, 2), ["utmos"])
    assert next(results).clip.metrics == {"utmos": 0}
    assert torch.get_num_threads() == before and seen == [1, 1]


def test_labelling_leaves_the_environment_as_it_was(fake, tmp_path: Path) -> None:
    clips = many(tmp_path, 5)
    before = dict(os.environ)
    run(clips, jobs=2)
    assert dict(os.environ) == before


def test_every_value_is_a_finite_number_or_missing(voices: list[Clip]) -> None:
    soundfile.write(voices[0].audio_path, np.zeros(int(0.6 * RATE)), RATE)
    names = ["lsd", "sdr", "mcd", "estoi", "pesq"]
    for result in run(voices, names):
        assert set(result.clip.metrics) == set(names)
        for name, value in result.clip.metrics.items():
            low, high = METRICS[name].range()
            assert value is None or (math.isfinite(value) and low - 1e-3 <= value <= high + 1e-3)
