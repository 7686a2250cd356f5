"""Speech of other people, languages and microphones than the recipe's DATA has, out of Debian packages.

    apt-get download asterisk-core-sounds-{en,es,fr,it,ru}-g722 gcin-voice 0ad-data \\
        tuxpaint-stamps-default fillets-ng-data-{cs,nl}
    python recipes/pocket/other_speech.py PACKAGES OUT

PACKAGES is the folder of those *.deb (1.7 GB, nearly all of it 0ad-data), and OUT gets folders of clean speech as `simulate.py`
takes them, one subfolder per speaker, 16 kHz mono FLAC: `prompts` (telephone prompts in four languages, coded as G.722: 1.6 h)
and `voices` (eight game voices, and syllables of one Taiwanese voice: 5 minutes) to train on, and `never` (eleven languages: 25
minutes) for tests alone. Needs `dpkg-deb`. A package that is not there is left out.
"""

import argparse
import random
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO

import av
import numpy as np
import soundfile
from tqdm import tqdm

from urgentmos.audio.samples import resample

RATE = 16000
G722_BYTES, GAME_OGG_BYTES = 4000, 12000  # what is smaller is a click or a cry
SYLLABLES, SENTENCES = 330, 60  # of those who speak many
TEST_LANGUAGES = ("fr", "ru", "ro", "ca", "bg", "es", "be", "el", "da")

Files = dict[str, bytes]  # path in the package -> what it holds


def members(package: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, IO[bytes]]]:
    """(path, open file) of the wanted regular files of a Debian package, one after the other; nothing is written anywhere."""
    broken = f"{package} is no Debian package, or is cut off. Download it again"
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as program:
        try:
            with tarfile.open(fileobj=program.stdout, mode="r|") as archive:
                for entry in archive:
                    if entry.isreg() and wanted(entry.name) and (file := archive.extractfile(entry)) is not None:
                        yield entry.name, file
        except tarfile.ReadError as e:
            raise SystemExit(broken) from e
    if program.returncode:
        raise SystemExit(broken)


def files(packages: Path, name: str, suffix: str) -> Files:
    """What a package holds of one kind; {} without the package."""
    found = sorted(packages.glob(f"{name}_*.deb"))
    return {path: file.read() for package in found[-1:] for path, file in members(package, lambda path: path.endswith(suffix))}


def game_voices(packages: Path) -> Files:
    """0 A.D. keeps its recordings in a ZIP archive, which has to lie somewhere to be read."""
    out: Files = {}
    for package in sorted(packages.glob("0ad-data_*.deb"))[-1:]:
        for _, file in members(package, lambda path: path.endswith("/public.zip")):
            with tempfile.TemporaryFile(dir=packages) as kept:
                while block := file.read(1 << 24):
                    kept.write(block)
                with zipfile.ZipFile(kept) as archive:
                    voices = [n for n in archive.namelist() if n.startswith("audio/voice/") and n.endswith(".ogg")]
                    out.update((n, archive.read(n)) for n in voices)
    return out


def drawn(paths: list[str], most: int, seed: str) -> list[str]:
    """The same ones every time."""
    return sorted(random.Random(seed).sample(sorted(paths), min(most, len(paths))))


def g722(coded: bytes) -> np.ndarray:
    """(T,) float32 at RATE."""
    with av.open(BytesIO(coded), "r", format="g722") as container:
        blocks = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    return np.concatenate(blocks).astype(np.float32) / 2**15


def vorbis(coded: bytes) -> np.ndarray:
    """(T,) float32 at RATE."""
    wave, rate = soundfile.read(BytesIO(coded), dtype="float32", always_2d=True)
    return resample(np.ascontiguousarray(wave.mean(axis=1)), rate, RATE)


def prompts(packages: Path, language: str) -> tuple[Files, list[str]]:
    found = files(packages, f"asterisk-core-sounds-{language}-g722", ".g722")
    spoken = [p for p, coded in found.items() if len(coded) > G722_BYTES and "silence" not in p and "beep" not in p]
    return found, sorted(spoken, key=lambda path: PurePosixPath(path).parts)


def speakers(packages: Path) -> Iterator[tuple[str, Files, list[str]]]:
    """(folder of the speaker, files, the paths of those to keep, in order)."""
    for language in ("en", "fr", "it", "ru"):
        yield f"prompts/{language}", *prompts(packages, language)
    spanish, spoken = prompts(packages, "es")
    yield "never/prompts-es", spanish, drawn(spoken, SENTENCES, "prompts-es")

    game = game_voices(packages)
    for people in ("greek", "latin", "napatan", "persian"):
        for who in ("female", "male"):
            yield f"voices/{people}-{who}", game, sorted(p for p in game if f"/{people}/civ/civ_{who}_" in p)
    syllables = files(packages, "gcin-voice", "/5.ogg")  # the voice that may be used under CC BY
    yield "voices/taiwanese", syllables, drawn(list(syllables), SYLLABLES, "taiwanese")

    stamps = files(packages, "tuxpaint-stamps-default", ".ogg")
    for language in TEST_LANGUAGES:
        named = [p for p in stamps if p.endswith(f"_desc_{language}.ogg")]
        yield f"never/{language}", stamps, drawn(named, SENTENCES, language)
    for language in ("cs", "nl"):
        fish = files(packages, f"fillets-ng-data-{language}", ".ogg")
        long = [p for p, coded in fish.items() if len(coded) > GAME_OGG_BYTES]
        yield f"never/{language}", fish, drawn(long, SENTENCES, language)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, help="folder of *.deb files")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    if shutil.which("dpkg-deb") is None:
        raise SystemExit("dpkg-deb, which opens Debian packages, is not there. Install it (apt or brew install dpkg)")
    for folder, found, kept in speakers(args.packages):
        if not kept:
            print(f"{folder}: its package is not in {args.packages}")
            continue
        (args.out / folder).mkdir(parents=True, exist_ok=True)
        seconds = 0.0
        for number, path in enumerate(tqdm(kept, desc=folder, leave=False, disable=None)):
            wave = (g722 if path.endswith(".g722") else vorbis)(found[path])
            soundfile.write(args.out / folder / f"{number:03d}.flac", wave, RATE, subtype="PCM_16")
            seconds += len(wave) / RATE
        print(f"{folder}: {len(kept)} recordings, {seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()
