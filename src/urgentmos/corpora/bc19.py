"""BC19: the Blizzard Challenge 2019 (Chinese text to speech), rated again for the out-of-domain track of VoiceMOS 2022.

One female Mandarin voice, 26 systems; 10 to 17 listeners per clip, scores 1 to 5.
Licence: custom terms of the Blizzard Challenge. The scores are on Zenodo (6572573, ood.tar.gz); the waves have to be
gathered by the scripts 01_get, 02_gather and 03_preprocess in that archive, after accepting the Blizzard terms.
Cite: Cooper, Huang, Toda, Yamagishi, "Generalization ability of MOS prediction networks", ICASSP 2022.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from urgentmos.clips.clip import Clip
from urgentmos.corpora import About, Count, Source, _voicemos2022, home
from urgentmos.corpora.reading import clips_of

ABOUT = About(
    title="BC19 (Blizzard Challenge 2019, VoiceMOS 2022 out-of-domain track)",
    licence="custom, https://www.cstr.ed.ac.uk/projects/blizzard/data.html",
    cite="Cooper et al., ICASSP 2022",
    page="https://zenodo.org/records/6572573",
    sources=(Source("https://zenodo.org/records/6572573/files/ood.tar.gz", "ood.tar.gz"),),
    by_hand="The waves are not in the archive: run 01_get, 02_gather and 03_preprocess of ood/ once, as its README says.",
)
SPLITS = ("train", "dev", "test")
_PHASES = "VoiceMOS 2022: 1352 waves, of which 540 are unlabelled"
COUNTS = {"train": Count(136, 21), "dev": Count(136, source=_PHASES), "test": Count(540, source=_PHASES)}


def clips(root: Path, split: str) -> Iterator[Clip]:
    """Clips of ood/DATA/sets with the mean of their listeners."""
    data = home(root, ("ood/DATA", "DATA", "."), f"sets/{_voicemos2022.SETS[split]}")
    return clips_of("bc19", _voicemos2022.ratings(data, split))
