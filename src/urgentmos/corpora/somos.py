"""SOMOS: 200 neural text-to-speech systems that read the same 100 sentences out of 2000 in one voice (LJ Speech).

20,100 clips, 17 or more listeners each, scores 1 to 5. Option subset=clean (default: ratings of reliable listeners) or full.
Licence: CC BY-NC-SA 4.0. Zenodo 7378801, or a mirror; audios.zip lies inside somos.zip.
Cite: Maniati et al., "SOMOS: The Samsung open MOS dataset for the evaluation of neural text-to-speech synthesis",
Interspeech 2022.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from urgentmos.clips.clip import Clip
from urgentmos.corpora import About, Count, Source, home
from urgentmos.corpora.reading import Rated, clips_of, rows_of
from urgentmos.errors import UsageError

ABOUT = About(
    title="SOMOS",
    licence="CC BY-NC-SA 4.0",
    cite="Maniati et al., Interspeech 2022",
    page="https://zenodo.org/records/7378801",
    sources=(Source("https://zenodo.org/records/7378801/files/somos.zip", "somos.zip", inner=("audios.zip",), into="somos"),),
)
SPLITS = ("train", "dev", "test")
COUNTS = {"train": Count(14_100, 181)}
OPTIONS = {"subset": "clean (default) or full: whose ratings count"}
_SETS = {"train": "TRAINSET", "dev": "VALIDSET", "test": "TESTSET"}


def clips(root: Path, split: str, subset: str = "clean") -> Iterator[Clip]:
    """Clips of split1. Ids are text: the system "015" is not 15."""
    if subset not in ("clean", "full"):
        raise UsageError(f"subset={subset} is not understood. Write subset=clean or subset=full.")
    name = f"training_files/split1/{subset}/{_SETS[split]}"
    folder = home(root, ("somos", "."), name)
    return clips_of("somos", _ratings(folder, folder / name))


def _ratings(folder: Path, file: Path) -> Iterator[Rated]:
    for row in rows_of(file, ("systemId", "utteranceId", "choice", "listenerId")):
        stem = row["utteranceId"].removesuffix(".wav")
        content = stem.rpartition("_")[0]
        yield Rated(stem, folder / "audios" / f"{stem}.wav", row["systemId"], content, row["listenerId"], row.number("choice"))
