"""Ctrl-C, once or again and again: no traceback, exit status 130, and what was finished is finished."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from urgentmos import files
from urgentmos.common import interrupts
from urgentmos.common.interrupts import Interrupts, deaf_children

URGENTMOS = [sys.executable, "-c", "from urgentmos.cli import main; main()"]
CLIPS = 120
REFERENCE = ["--reference-dir", "clean"]
COMMANDS = {
    "score": ["score", "systems/a"],
    "label": ["label", "systems/a", "--metrics", "lsd", *REFERENCE, "--jobs", "1"],
    "label in processes": ["label", "systems/a", "--metrics", "lsd", *REFERENCE, "--jobs", "2"],
    "rank": ["rank", "systems"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many names of one long recording: enough work for a signal to come in the middle of it."""
    folder = tmp_path_factory.mktemp("interrupts")
    soundfile.write(folder / "long.wav", 0.1 * np.random.default_rng(0).standard_normal(20 * 16_000), 16_000)
    for name in ("systems/a", "systems/b", "clean"):
        (folder / name).mkdir(parents=True)
        for i in range(CLIPS):
            os.link(folder / "long.wav", folder / name / f"u{i:03}.wav")
    return folder


def lines(journal: Path) -> list[str]:
    return [line for line in journal.read_text().splitlines() if line.strip()] if journal.exists() else []


@pytest.mark.parametrize("presses", [1, 2, 5])
@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_ends_a_command_with_one_sentence(name: str, presses: int, place: Path) -> None:
    output = place / f"{name.replace(' ', '-')}-{presses}.json"
    journal = place / f".{output.name}.partial"
    process = subprocess.Popen(
        [*URGENTMOS, *COMMANDS[name], "-o", str(output)],
        cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while len(lines(journal)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    before = len(lines(journal))
    for _ in range(presses):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the command
        time.sleep(0.02)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert out == "" and err.splitlines()[-1].startswith("Interrupted. Finished work is kept"), err
    assert err.count("Interrupted.") == 1
    assert not any(word in err for word in ("Traceback", "Exception ignored", "KeyboardInterrupt")), err
    kept = lines(journal)
    assert len(kept) >= before >= 3 and all(json.loads(line)["outcome"]["error"] is None for line in kept)
    assert not output.exists() and not list(place.glob(".*.tmp"))


def test_a_run_goes_on_behind_an_interrupt(place: Path) -> None:
    output, journal = place / "on.jsonl", place / ".on.jsonl.partial"
    command = [*URGENTMOS, *COMMANDS["label"], "-o", str(output)]
    process = subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 240
    while len(lines(journal)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=240)
    assert process.returncode == 130
    assert subprocess.run(command, cwd=place, check=False, capture_output=True).returncode == 0
    assert len(lines(output)) == CLIPS and not journal.exists()


def test_children_do_not_see_it() -> None:
    code = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    with deaf_children():
        inside = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    outside = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert (inside, outside) == ("True\n", "False\n")


def test_an_interrupt_comes_behind_the_start_of_a_child_not_never() -> None:
    with pytest.raises(KeyboardInterrupt), deaf_children():
        signal.raise_signal(signal.SIGINT)


def test_the_handler_of_a_caller_is_left_alone() -> None:
    mine = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        ours = signal.getsignal(signal.SIGINT)
        with Interrupts().handled():
            assert signal.getsignal(signal.SIGINT) is ours
    finally:
        signal.signal(signal.SIGINT, mine)
    before = signal.getsignal(signal.SIGINT), sys.unraisablehook
    with Interrupts().handled():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == before


def test_off_the_main_thread_nothing_is_installed() -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with Interrupts().handled():
                pass
        except BaseException as e:
            errors.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not errors


def test_the_second_one_leaves_nothing_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Ended(BaseException):
        pass

    def leave(status: int) -> None:
        assert status == 130
        raise Ended

    monkeypatch.setattr(interrupts.os, "_exit", leave)
    ours = Interrupts()
    ours.sentence = lambda: "Interrupted. A word."
    with pytest.raises(Ended), files.replacing(tmp_path / "x") as out:
        out.write(b"half")
        assert list(tmp_path.iterdir())
        with pytest.raises(KeyboardInterrupt):
            ours._press(signal.SIGINT, None)
        try:
            ours._press(signal.SIGINT, None)
        finally:
            assert not list(tmp_path.iterdir())
    assert capfd.readouterr().err == "Interrupted. A word.\n"
