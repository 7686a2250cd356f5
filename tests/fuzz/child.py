"""The process that runs cases: `python -m fuzz.child KIND FOLDER`. It loads once and forks; who dies is replaced at once.

On standard input a case a line, on standard output a line of JSON for each: a report, or {"dead": status};
and {"started": pid} of each child.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

NO_MORE, RETIRED = 104, 105  # exit statuses
CASES = 500  # after so many the child makes way for a fresh one
ADDRESS_SPACE = 6 << 30  # bytes beyond what was there


def main(kind: str, place: str) -> None:
    folder = Path(place)
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.path[:0] = [str(Path(__file__).resolve().parents[1])]
    from fuzz.targets import prepare

    tempfile.tempdir = str(folder)
    prepare(kind, folder)
    while True:
        pid = os.fork()
        if pid == 0:
            try:
                _serve(kind, folder, answers)
            finally:
                os._exit(3)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == NO_MORE:
            return
        if code != RETIRED:
            _say(answers, {"dead": code})


def _say(answers: int, plain: dict[str, Any]) -> None:
    os.write(answers, json.dumps(plain).encode() + b"\n")


def _serve(kind: str, folder: Path, answers: int) -> None:
    from fuzz import guard

    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    room = _status("VmSize") + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    fault = os.open(folder / "fault.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    faulthandler.enable(fault)
    guard.watch(str(folder))
    _say(answers, {"started": os.getpid()})
    for _ in range(CASES):
        line = _line()
        if not line:
            os._exit(NO_MORE)
        _say(answers, _report(kind, json.loads(line), folder / "case"))
    os._exit(RETIRED)


def _line() -> bytes:
    """One line of standard input, and not a byte more: the next child reads what follows."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return b""
        line += byte
    return line


def _report(kind: str, plain: dict[str, Any], folder: Path) -> dict[str, Any]:
    from fuzz import guard
    from fuzz.cases import Case
    from fuzz.seeds import Missing, bytes_of
    from fuzz.targets import TARGETS

    case = Case.from_plain(plain)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        data = bytes_of(case)
    except Missing as e:
        return {"missing": str(e)}
    (folder / "input").write_bytes(data)
    guard.violations.clear()
    _forget_peak()
    before = _status("VmRSS")
    try:
        report = TARGETS[kind](case, data, folder)
    except BaseException as e:
        frames = traceback.extract_tb(e.__traceback__)
        place = next((f"{Path(f.filename).name}:{f.name}" for f in reversed(frames) if "urgentmos" in f.filename), "")
        report = {"raised": f"{type(e).__name__} in {place}: {e!s:.300}", "rows": [], "refusal": None}
    return {**report, "guard": list(guard.violations), "peak": max(0, _status("VmHWM") - before), "size": len(data)}


def _status(name: str) -> int:
    """Bytes, as /proc says it of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


if __name__ == "__main__":
    main(*sys.argv[1:])
