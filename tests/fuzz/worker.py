"""A child process from outside: sends it cases, notices when it dies or does not come back."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fuzz.cases import Case
from fuzz.oracle import CPU_SECONDS, WALL_SECONDS

TESTS = Path(__file__).resolve().parents[1]
START_SECONDS = 300.0  # imports on a busy machine
TICKS = os.sysconf("SC_CLK_TCK")


class Worker:
    """Runs cases of one kind, one after the other. A context manager; `folder` is its own."""

    def __init__(self, kind: str, folder: Path, cpu_seconds: float = CPU_SECONDS) -> None:
        self.kind, self.folder, self.cpu_seconds = kind, folder, cpu_seconds
        folder.mkdir(parents=True, exist_ok=True)
        paths = [str(TESTS), str(TESTS.parent / "src"), os.environ.get("PYTHONPATH", "")]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
        self._log = (folder / "stderr.txt").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.child", kind, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=env,
            cwd=folder,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._pid = 0
        self._buffer = b""

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._input.close()
        self._kill()
        self._process.kill()
        self._process.wait()
        self._output.close()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, case: Case) -> dict[str, Any]:
        """The report of a case; `crash` or `hang` says that the process did not survive it."""
        self._await_start()
        self._input.write(case.to_json().encode() + b"\n")
        self._input.flush()
        began, cpu, used, waited = time.monotonic(), _cpu_seconds(self._pid), 0.0, 0.0
        plain: dict[str, Any] | None = None
        while plain is None and used < self.cpu_seconds and waited < WALL_SECONDS:
            plain = self._receive(0.5)
            if plain and "started" in plain:  # the one before made way between two cases
                self._pid, cpu, plain = int(plain["started"]), 0.0, None
            used, waited = max(0.0, _cpu_seconds(self._pid) - cpu), time.monotonic() - began
        if plain is None:
            self._kill()
            self._receive(START_SECONDS)
            return _broken("hang", f"no end after {used:.0f} s of computing, {waited:.0f} s in all")
        if "dead" in plain:
            code = plain["dead"]
            reason = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            return _broken("crash", f"{reason}{self._fault()}")
        if used > self.cpu_seconds:
            return {**plain, "hang": f"{used:.0f} s of computing"}
        return plain

    def _fault(self) -> str:
        lines = (self.folder / "fault.txt").read_text(errors="replace").splitlines()
        frames = [line.strip() for line in lines if line.strip().startswith("File")]
        return f" in {frames[0][:200]}" if frames else ""

    def _await_start(self) -> None:
        while (plain := self._pending()) is not None or self._pid == 0 or not _is_alive(self._pid):
            plain = plain or self._receive(START_SECONDS)
            if plain is None:
                log = (self.folder / "stderr.txt").read_text(errors="replace")
                raise RuntimeError(f"the child for {self.kind} did not start: {log[-2000:]}")
            if "started" in plain:
                self._pid = int(plain["started"])

    def _pending(self) -> dict[str, Any] | None:
        return self._receive(0.0)

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        """The next line, or None if there is none within this time."""
        end = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            if not self._selector.select(max(0.0, end - time.monotonic())):
                return None
            more = os.read(self._output.fileno(), 1 << 16)
            if not more:
                return None
            self._buffer += more
        line, self._buffer = self._buffer.split(b"\n", 1)
        plain: dict[str, Any] = json.loads(line)
        return plain

    def _kill(self) -> None:
        if self._pid:
            try:
                os.killpg(self._pid, signal.SIGKILL)
            except ProcessLookupError:
                return


def _broken(key: str, reason: str) -> dict[str, Any]:
    return {key: reason, "rows": [], "refusal": None}


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _cpu_seconds(leader: int) -> float:
    """What all processes of the session have computed so far, their finished children included."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS
