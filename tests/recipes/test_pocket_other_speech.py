"""Speech out of Debian packages, for the recipe of the shipped model: toy packages of the same make."""

import importlib.util
import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

av = pytest.importorskip("av")
pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")

SCRIPT = Path(__file__).resolve().parents[2] / "recipes" / "pocket" / "other_speech.py"
RATE = 16_000


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("pocket_other_speech", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tone(hertz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def g722(wave: np.ndarray) -> bytes:
    """Without a header, as the prompts are."""
    file = io.BytesIO()
    with av.open(file, "w", format="g722") as container:
        stream = container.add_stream("g722", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((wave * 2**15).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def vorbis(wave: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="OGG", subtype="VORBIS")
    return file.getvalue()


def package(folder: Path, name: str, files: dict[str, bytes]) -> None:
    root = folder / f"{name}.made"
    control = root / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: toy\n")
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    subprocess.run(["dpkg-deb", "--build", "-Znone", root, folder / f"{name}_1_all.deb"], check=True, capture_output=True)
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    sounds = "usr/share/asterisk/sounds/fr"
    package(
        folder,
        "asterisk-core-sounds-fr-g722",
        {
            f"{sounds}/hello.g722": g722(tone(440, RATE)),
            f"{sounds}/click.g722": g722(tone(440, RATE, 0.1)),
            f"{sounds}/silence/1.g722": g722(0 * tone(440, RATE)),
            "usr/share/doc/copyright": b"CC BY-SA",
        },
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as public:
        public.writestr("audio/voice/greek/civ/civ_female_attack_1.ogg", vorbis(tone(500, 44_100), 44_100))
        public.writestr("audio/voice/greek/civ/civ_female_attack.xml", "<SoundGroup/>")
        public.writestr("audio/music/theme.ogg", vorbis(tone(500, 44_100), 44_100))
    package(folder, "0ad-data", {"usr/share/games/0ad/mods/public/public.zip": archive.getvalue()})
    stamps = {f"usr/share/tuxpaint/stamps/{k}_desc_fr.ogg": vorbis(tone(300 + k, 22_050, 0.3), 22_050) for k in range(70)}
    package(folder, "tuxpaint-stamps-default", stamps)
    return folder


def run(packages: Path, out: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPT, packages, out], capture_output=True, text=True)


def test_every_voice_has_a_folder_of_16_khz_recordings(packages, tmp_path):
    done = run(packages, tmp_path)
    assert done.returncode == 0, done.stderr
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.flac")}
    assert {path for path in found if "never" not in path} == {"prompts/fr/000.flac", "voices/greek-female/000.flac"}
    assert len(found) == 2 + 60
    for path, hertz in (("prompts/fr/000.flac", 440), ("voices/greek-female/000.flac", 500)):
        wave, rate = soundfile.read(tmp_path / path)
        assert rate == RATE and len(wave) == pytest.approx(RATE, abs=50)
        spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
        assert spectrum.argmax() * RATE / len(wave) == pytest.approx(hertz, abs=1)
        assert np.sqrt(np.mean(wave**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)
    assert "prompts/it: its package is not in" in done.stdout
    assert not list(packages.glob("*.zip"))


def test_the_same_recordings_are_drawn_whatever_their_order(script):
    paths = [f"{k}.ogg" for k in range(100)]
    assert script.drawn(paths, 60, "fr") == script.drawn(paths[::-1], 60, "fr") != script.drawn(paths, 60, "ru")
    assert len(set(script.drawn(paths, 60, "fr"))) == 60
    assert script.drawn(paths[60:0:-1], 60, "fr") == sorted(paths[1:61])


def test_a_broken_package_is_named(tmp_path):
    (tmp_path / "asterisk-core-sounds-en-g722_1_all.deb").write_bytes(b"no archive")
    done = run(tmp_path, tmp_path / "out")
    assert done.returncode == 1 and "asterisk-core-sounds-en-g722_1_all.deb" in done.stderr and "Traceback" not in done.stderr


def test_without_the_program_that_opens_packages_it_says_so(packages, tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, packages, tmp_path], capture_output=True, text=True, env={"PATH": ""})
    assert done.returncode == 1 and done.stderr.startswith("dpkg-deb") and "Install" in done.stderr
