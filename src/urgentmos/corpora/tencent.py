"""Tencent Corpus: Chinese speech of simulated online meetings, with and without reverberation, from ConferencingSpeech 2022.

11,563 clips with their mean score from crowdsourcing; neither systems nor contents are published.
Licence: "Apache" by the challenge's page; the archive holds no licence file. The original link is dead, a mirror has it.
Cite: Yi et al., "ConferencingSpeech 2022 Challenge: non-intrusive objective speech quality assessment challenge for online
conferencing applications", Interspeech 2022.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from urgentmos.clips.clip import Clip
from urgentmos.corpora import MIRROR, About, Count, NotOnDisk, Source, home
from urgentmos.corpora.reading import rows_of

ABOUT = About(
    title="Tencent Corpus",
    licence="Apache, says the challenge's page; no licence file",
    cite="Yi et al., Interspeech 2022",
    page=f"{MIRROR}/TencentCorpus.zip",
    sources=(Source(f"{MIRROR}/TencentCorpus.zip", "TencentCorpus.zip"),),
)
SPLITS = ("train",)
COUNTS = {"train": Count(11_563)}
_TABLES = ("withoutReverberationTrainDevMOS.csv", "withReverberationTrainDevMOS.csv")
_PLACES = ("TencentCorups", "TencentCorpus", ".")  # the archive's own folder is misspelt


def clips(root: Path, split: str) -> Iterator[Clip]:
    """Clips of both tables; deg_wav begins with "./"."""
    rows_read = []
    for name in _TABLES:
        with suppress(NotOnDisk):
            rows_read.append((home(root, _PLACES, name), name))
    if not rows_read:
        raise NotOnDisk(f"{root}: neither {' nor '.join(_TABLES)} is there. Name the folder that holds them.")
    for folder, name in rows_read:
        for row in rows_of(folder / name, ("deg_wav", "mos")):
            path = row["deg_wav"].removeprefix("./")
            sample = path.removesuffix(".wav").replace("/", "_")
            metrics = {"mos_overall": row.number("mos")}
            yield Clip(f"tencent:{sample}", str(folder / path), corpus="tencent", metrics=metrics)
