"""BVCC: English speech of Blizzard and Voice Conversion Challenges 2008-2020 and of ESPnet-TTS, rated in one listening test.

187 systems, 8 listeners per clip, scores 1 to 5; the main track of the VoiceMOS Challenge 2022.
Licence: custom terms of the challenges. The scores are on Zenodo (6572573, main.tar.gz); the waves have to be gathered by
the scripts 01_get, 02_gather and 03_preprocess in that archive.
Cite: Cooper, Yamagishi, "How do voices from past speech synthesis challenges compare today?", SSW 11, 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from urgentmos.clips.clip import Clip
from urgentmos.corpora import About, Count, Source, _voicemos2022, home
from urgentmos.corpora.reading import clips_of

ABOUT = About(
    title="BVCC (VoiceMOS 2022 main track)",
    licence="custom, https://www.cstr.ed.ac.uk/projects/blizzard/data.html",
    cite="Cooper and Yamagishi, SSW 2021",
    page="https://zenodo.org/records/6572573",
    sources=(Source("https://zenodo.org/records/6572573/files/main.tar.gz", "main.tar.gz"),),
    by_hand="The waves are not in the archive: run 01_get, 02_gather and 03_preprocess of main/ once, as its README says.",
)
SPLITS = ("train", "dev", "test")
_PHASES = "VoiceMOS 2022: 7106 waves"
COUNTS = {
    "train": Count(4973, 175, note="the paper leaves out one of 4974 clips, which is not in the transcripts of UTMOS22"),
    "dev": Count(1066, source=_PHASES),
    "test": Count(1066, source=_PHASES),
}


def clips(root: Path, split: str) -> Iterator[Clip]:
    """Clips of main/DATA/sets with the mean of their listeners; the utterance's hash is the content."""
    data = home(root, ("main/DATA", "DATA", "."), f"sets/{_voicemos2022.SETS[split]}")
    return clips_of("bvcc", _voicemos2022.ratings(data, split))
