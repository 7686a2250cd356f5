"""Whatever fails under a write: the old file survives, the command says one sentence and ends with exit status 2."""

import ast
import errno
import io
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import urgentmos
from urgentmos import files
from urgentmos.cli import main
from urgentmos.clips.inputs import read_clips
from urgentmos.clips.journal import Journal, Outcome, Shards, Task
from urgentmos.clips.tables import read_records, write_records
from urgentmos.corpora import Source
from urgentmos.corpora import download as fetching
from urgentmos.errors import UsageError

ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EROFS,
    errno.ESTALE,
)
SOURCE = Path(urgentmos.__file__).parent


# ---- one place writes

# Places that write elsewhere, each with what becomes of a failure there.
OTHERS = {
    "server/uploads.py": "the service's own temporary files: a failure is the answer to the request",
    "audio/places/zip.py": "a nameless temporary file: a failure is a sentence of its own",
    "audio/places/compressed.py": "a nameless temporary file: a failure is a sentence of its own",
    "commands/output.py": "mkdtemp for a cluster's shards without -o, which files.replacing fills",
    "commands/ending.py": "the null device in place of a stream that the shell closed",
    "simulation/codecs.py": "av.open of a file in memory",
    "audio/decoder_pool.py": "a temporary file for a decoder: a failure is the reason in the clip's row",
    "judges/export.py": "the file of files.replacing_path, before it takes its place",
    "labellers/ge2e.py": "whether numba's own folder can be written, and a private one if not",
    "audio/decoder_process.py": "a pipe to the process that asks",
    "server/calculator.py": "a pipe to the process that computes",
    "server/health.py": "the clip that the health check scores, in memory or in the service's own folder",
}
WRITERS = frozenset(
    {
        "write_text",
        "write_bytes",
        "to_csv",
        "to_parquet",
        "savez",
        "savez_compressed",
        "save_file",
        "savefig",
        "imwrite",
        "touch",
    }
    | {"copyfile", "copy2", "extractall", "NamedTemporaryFile", "TemporaryFile", "TemporaryDirectory", "mkdtemp", "mkstemp"}
)


def writes(source: str) -> list[int]:
    """The lines on which a file may be opened for writing other than through `files`."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        modes = [
            a.value for a in (*node.args, *(k.value for k in node.keywords if k.arg == "mode")) if isinstance(a, ast.Constant)
        ]
        opens = name in ("open", "fdopen") and any(
            isinstance(m, str) and set(m) <= set("rwaxbt+") and set(m) & set("wax+") for m in modes
        )
        if opens or name in WRITERS:
            lines.append(node.lineno)
    return lines


def test_nothing_writes_but_files() -> None:
    offenders = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if name != "files.py" and name not in OTHERS and (lines := writes(path.read_text())):
            offenders[name] = lines
    assert not offenders, "write through urgentmos.files: replacing, write_whole or appending"


@pytest.mark.parametrize(
    "line",
    [
        'open(p, "w")',
        'p.open("ab")',
        'open(p, mode="x")',
        "p.write_text(t)",
        "np.savez(p)",
        "frame.to_csv(p)",
        'open(p, "r+b")',
    ],
)
def test_the_look_at_the_sources_sees_a_writer(line: str) -> None:
    assert writes(line) == [1]


# ---- the floor


class Failing(io.RawIOBase):
    """A file that takes `room` bytes, at most three at a time, and then fails."""

    def __init__(self, inner: Any, room: int, error: int) -> None:
        self._inner, self._room, self._error = inner, room, error

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._inner.fileno())

    def write(self, data: Any) -> int:
        if not self._room:
            raise OSError(self._error, os.strerror(self._error))
        taken = self._inner.write(bytes(data[: min(3, self._room)]))
        self._room -= taken
        return int(taken)

    def close(self) -> None:
        self._inner.close()
        super().close()


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """failing(error, room): from now on every file that is opened for writing takes `room` bytes."""

    def start(error: int, room: int) -> None:
        real, real_path = open, Path.open

        def wrapped(file: Any, mode: str, buffering: int) -> Any:
            raw = real(file, mode.replace("t", "").replace("b", "") + "b", buffering=0)
            out = Failing(raw, room, error)
            return out if buffering == 0 else io.BufferedWriter(out, 8)  # type: ignore[arg-type]

        def opened(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
            if isinstance(file, int) or not set(mode) & set("wax"):
                return real(file, mode, buffering, *rest, **more)
            if error in (errno.EMFILE, errno.ENFILE):
                raise OSError(error, os.strerror(error), str(file))
            return wrapped(file, mode, buffering)

        def path_open(self: Path, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
            return opened(self, mode, buffering) if set(mode) & set("wax") else real_path(self, mode, buffering, *rest, **more)

        monkeypatch.setattr("builtins.open", opened)
        monkeypatch.setattr(Path, "open", path_open)

    return start


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("room", [0, 1, 20, 1000])
def test_the_old_file_survives(error: int, room: int, tmp_path: Path, failing: Callable[[int, int], None]) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"old")
    failing(error, room)
    with pytest.raises(UsageError, match=r"x\.csv: cannot be written"):
        files.write_whole(path, b"new" * 1000)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet", ".scp"])
@pytest.mark.parametrize("error", ERRORS)
def test_rows_survive_in_every_format(suffix: str, error: int, tmp_path: Path, failing: Callable[[int, int], None]) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"x{suffix}"
    old = [{"uid": "a", "audio_path": "a.wav"}]
    write_records(old, path)
    before = path.read_bytes()
    failing(error, 30)
    with pytest.raises(UsageError, match="cannot be written"):
        write_records([{"uid": f"u{i}", "audio_path": f"{i}.wav"} for i in range(100)], path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=10), st.integers(0, 200), st.sampled_from(ERRORS[:5]))
def test_an_append_is_whole_or_not_there(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], room: int, error: int
) -> None:
    path = tmp_path_factory.mktemp("append") / "x"
    kept = b""
    out = files.Appended(path)
    out._file = Failing(out._file, room, error)  # type: ignore[assignment]
    for part in parts:
        try:
            out.write(part)
        except UsageError:
            break
        kept += part
    out.close()
    assert path.read_bytes() == kept


def test_files_that_belong_together_change_together(tmp_path: Path, failing: Callable[[int, int], None]) -> None:
    old = {tmp_path / name: name.encode() for name in ("config", "weights", "card")}
    files.write_together(old)
    failing(errno.ENOSPC, 50)
    with pytest.raises(UsageError, match="cannot be written"):
        files.write_together(dict(zip(old, (b"a", b"b" * 100, b"c"), strict=True)))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == old


@pytest.mark.parametrize("error", ERRORS)
def test_a_journal_keeps_its_whole_lines(error: int, tmp_path: Path) -> None:
    path, done = tmp_path / ".x.jsonl.partial", []
    with Journal.open(path) as log:
        assert log._out is not None
        log._out._file = Failing(log._out._file, 700, error)  # type: ignore[assignment]
        with pytest.raises(UsageError, match=r"x\.jsonl: cannot be written"):
            for i in range(100):
                log.append("stage", Task(f"{i}.wav", None), Outcome({"pesq": float(i)}))
                done.append(i)
    with Journal.open(path) as log:
        kept = [i for i in range(100) if log.get("stage", Task(f"{i}.wav", None)) is not None]
    assert done and kept == done


def test_shards_survive(tmp_path: Path, failing: Callable[[int, int], None]) -> None:
    pytest.importorskip("pyarrow")
    with Shards.append(tmp_path, "stage", 1, 1e9) as out:
        out.add(Task("a.wav", None), Outcome({"pesq": 1.0}))
    failing(errno.ENOSPC, 100)
    with pytest.raises(UsageError, match="cannot be written"), Shards.append(tmp_path, "stage", 1, 1e9) as out:
        out.add(Task("b.wav", None), Outcome({"pesq": 1.0}))
    assert [p.name for p in tmp_path.iterdir()] == ["shard-000000.parquet"] and len(Shards.read(tmp_path)) == 1


def test_a_fetch_goes_on_after_a_full_disk(
    tmp_path: Path, failing: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "there.zip"
    import zipfile

    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("a.txt", "x" * 5000)
    source = Source(archive.as_uri(), "there.zip", into="here")
    with monkeypatch.context() as patch:
        patch.setattr(
            files, "Appended", lambda path: (_ for _ in ()).throw(files.unwritable(path, OSError(errno.ENOSPC, "No space")))
        )
        with pytest.raises(UsageError, match="cannot be written"):
            fetching.fetch(source, tmp_path)
    assert not (tmp_path / "here" / "a.txt").exists()
    fetching.fetch(source, tmp_path)
    assert (tmp_path / "here" / "a.txt").read_text() == "x" * 5000


# ---- the commands

COMMANDS = {
    "score": ["score", "clips", "-o", "out.jsonl"],
    "score csv": ["score", "clips", "-o", "out.csv"],
    "label": ["label", "clips", "--metrics", "lsd", "--reference-dir", "clips", "--jobs", "1", "-o", "out.jsonl"],
    "compare": ["compare", "systems/a", "systems/b", "-o", "out.json"],
    "rank": ["rank", "systems", "-m", "lsd", "--reference-dir", "clips", "--jobs", "1", "-o", "out.json"],
    "pairs": ["pairs", "labels.jsonl", "--scope", "any", "-o", "out.jsonl"],
    "evaluate": ["evaluate", "labels.jsonl", "labels.jsonl", "-o", "out.json"],
    "models": ["models", "-o", "out.csv"],
    "report": ["rank", "systems", "-m", "lsd", "--reference-dir", "clips", "--jobs", "1", "--report", "out.html"],
    "prepare": ["prepare", "custom", ".", "file=table.csv", "audio_path=wav", "mos_overall=mos", "-o", "out.prepared"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    wave = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    for name in ("clips", "systems/a", "systems/b"):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            gain = {"clips": 1.0, "systems/a": 0.9, "systems/b": 0.5}[name]
            soundfile.write(folder / name / f"u{i}.flac", gain * np.roll(wave, i), 16_000)
    rows = [{"uid": f"u{i}", "audio_path": f"clips/u{i}.flac", "metrics": {"mos_overall": 1.0 + i}} for i in range(3)]
    write_records(rows, folder / "labels.jsonl")
    (folder / "table.csv").write_text("wav,mos\n" + "".join(f"clips/u{i}.flac,{i + 1}\n" for i in range(3)))
    return folder


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EMFILE])
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("report", "prepare")])
def test_a_command_that_cannot_write_keeps_the_old_result(
    name: str, error: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    args = COMMANDS[name]
    output = Path(args[-1])
    output.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(files.os, "fsync", full)
    result = CliRunner().invoke(main, args)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.exit_code == 2 and len(errors) == 1 and f"{output}: cannot be written" in errors[0], result.output
    assert output.read_bytes() == b"old" and not list(place.glob(".*.tmp"))
    for left in place.glob(f".{output.name}.*"):
        left.unlink()
    output.unlink()


def confined(limit: int) -> Callable[[], None]:
    def confine() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return confine


@pytest.mark.parametrize("name", ["rank", "report", "prepare"])
def test_under_a_limit_of_the_system_too(name: str, place: Path) -> None:
    if name == "report":
        pytest.importorskip("vl_convert")
    output = place / COMMANDS[name][-1]
    if name != "prepare":
        output.write_bytes(b"old")
    code = "from urgentmos.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, *COMMANDS[name]],
        cwd=place, preexec_fn=confined(100), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    assert "cannot be written (File too large)" in result.stderr
    assert name == "prepare" or output.read_bytes() == b"old"


# ---- streams


@pytest.mark.parametrize("args", [("--help",), ("models",), ("evaluate", "labels.jsonl", "labels.jsonl")])
@pytest.mark.parametrize("stream", [">/dev/full", ">&-", "2>/dev/full", "2>&-", "<&-", ">&- 2>&-", "| head -c 1"])
def test_streams_that_are_full_or_closed_end_in_no_traceback(args: tuple[str, ...], stream: str, place: Path) -> None:
    command = " ".join([sys.executable, "-c", "'from urgentmos.cli import main; main()'", *args])
    result = subprocess.run(["bash", "-c", f"{command} {stream}"], cwd=place, capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr and "Exception ignored" not in result.stderr
    if stream in (">/dev/full", ">&-"):
        assert result.returncode == 2 and result.stderr.splitlines()[-1].startswith("Error: standard output: cannot be written")
    elif stream in ("2>/dev/full", "2>&-", "<&-"):
        assert result.returncode == 0 and result.stdout


def test_no_memory_is_one_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)

    def none(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("urgentmos.clips.inputs.read_inputs", none)
    result = CliRunner().invoke(main, ["score", "clips"])
    assert result.exit_code == 2 and result.stderr.startswith("Error: there is no memory left.")


def test_what_is_read_short_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", broken)
    for read in (read_records, read_clips):
        with pytest.raises(UsageError, match="cannot be read"):
            read(place / "labels.jsonl")


# ---- models


@pytest.mark.parametrize("command", ["export", "import"])
def test_a_model_that_cannot_be_written_leaves_the_old_one(command: str, tiny_model: Path, tmp_path: Path) -> None:
    """Under a limit of the system, since the libraries open these files themselves."""
    pytest.importorskip("onnx")
    output = tmp_path / "x.onnx"
    output.write_bytes(b"old")
    save = "from urgentmos.models.folder import load, save; m = load(sys.argv[1]); save(sys.argv[2], m.net, m.info)"
    run = "from urgentmos.cli import main; main()" if command == "export" else f"import sys; {save}"
    args = ["export", str(tiny_model), "-o", str(output)] if command == "export" else [str(tiny_model), str(tmp_path / "model")]
    result = subprocess.run(
        [sys.executable, "-c", run, *args], preexec_fn=confined(2000), capture_output=True, text=True, check=False
    )
    assert "cannot be written (File too large)" in result.stderr, result.stderr
    if command == "export":
        assert result.returncode == 2 and "Traceback" not in result.stderr
    assert output.read_bytes() == b"old" and not [path for path in tmp_path.rglob("*") if path.is_file() and path != output]


def test_the_state_of_a_training_run_survives(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    from types import SimpleNamespace

    from urgentmos.training.checkpointing import STATE, Keeper
    from urgentmos.training.config import make_config

    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / STATE).write_bytes(b"old")
    keeper = Keeper(tmp_path, make_config({}), 1, {}, None, lambda text: None)
    keeper._write = lambda *_: None  # type: ignore[method-assign]
    trainer = SimpleNamespace(global_step=1, is_global_zero=True, save_checkpoint=full)
    with pytest.raises(UsageError, match=r"last\.ckpt: cannot be written \(No space"):
        keeper.validate(trainer, None)  # type: ignore[arg-type]
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(STATE, b"old")]
