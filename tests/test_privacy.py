"""Nothing is written under the user's home and nothing is reported to the makers of packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile


@pytest.mark.parametrize("command", [("score", "clip.wav"), ("compare", "clip.wav", "clip.wav"), ("models",)])
def test_a_fresh_home_stays_empty(command: tuple[str, ...], tmp_path: Path, make_voice) -> None:
    soundfile.write(tmp_path / "clip.wav", make_voice(0, 1.0), 16_000)
    home = tmp_path / "home"
    home.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.endswith("_TELEMETRY")}
    env |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    call = [sys.executable, "-c", "from urgentmos.cli import main; main()", *command]
    assert subprocess.run(call, cwd=tmp_path, env=env, capture_output=True, check=False).returncode == 0
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_a_choice_of_the_user_stays(tmp_path: Path) -> None:
    code = "import os, urgentmos; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    env = {**os.environ, "ORT_DISABLE_TELEMETRY": "0"}
    assert (
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout.strip() == "0"
    )
