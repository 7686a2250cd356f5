"""A disk that is full, a quota, and names that are too long end in a sentence with exit status 2; finished work is kept."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

URGENTMOS = [sys.executable, "-c", "from urgentmos.cli import main; main()"]


@pytest.fixture
def clips(tmp_path: Path, make_voice) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for i in range(6):
        soundfile.write(folder / f"utt{i}.flac", make_voice(i, 1.0), 16_000)
    return folder


def run(*args: str, cwd: Path, limit: int | None = None, stdout: str | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, under a limit on the size of files in bytes."""

    def confine() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with open(stdout or os.devnull, "w") as out:
        return subprocess.run(
            [*URGENTMOS, *args], cwd=cwd, preexec_fn=confine, stdout=out, stderr=subprocess.PIPE, text=True, check=False
        )


def test_under_a_quota_finished_work_is_kept_and_the_next_run_is_whole(clips: Path, tmp_path: Path) -> None:
    undisturbed = run("score", "clips", "-o", "whole.jsonl", cwd=tmp_path)
    assert undisturbed.returncode == 0, undisturbed.stderr
    stopped = run("score", "clips", "-o", "out.jsonl", cwd=tmp_path, limit=2048)
    assert stopped.returncode == 2 and "Traceback" not in stopped.stderr
    assert stopped.stderr.startswith("Error: out.jsonl: cannot be written (File too large).")
    assert "Finished work is kept" in stopped.stderr and not (tmp_path / "out.jsonl").exists()
    assert run("score", "clips", "-o", "out.jsonl", cwd=tmp_path).returncode == 0
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("args", [("score", "clips"), ("rank", "systems"), ("compare", "clips", "clips"), ("models",)])
def test_a_full_standard_output_is_one_sentence(args: tuple[str, ...], clips: Path, tmp_path: Path) -> None:
    for system in "ab":
        shutil.copytree(clips, tmp_path / "systems" / system)
    result = run(*args, cwd=tmp_path, stdout="/dev/full")
    errors = [line for line in result.stderr.splitlines() if "Warning" not in line]
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert any(line.startswith("Error: standard output: cannot be written (No space left") for line in errors), errors


def test_the_longest_name_that_a_disk_allows_is_written(clips: Path, tmp_path: Path) -> None:
    name = "x" * 249 + ".jsonl"
    result = run("score", "clips", "-o", name, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len([json.loads(line) for line in (tmp_path / name).read_text().splitlines()]) == 6
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["clips", name])  # nothing is left beside it


def test_a_name_that_is_too_long_is_one_sentence(clips: Path, tmp_path: Path) -> None:
    result = run("score", "clips", "-o", "x" * 251 + ".jsonl", cwd=tmp_path)
    assert result.returncode == 2 and "File name too long" in result.stderr and "Traceback" not in result.stderr
