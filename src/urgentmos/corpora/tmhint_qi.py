"""TMHINT-QI: Mandarin sentences (TMHINT) in noise, untreated and treated by speech enhancement, rated for two things.

Quality 1 to 5 and intelligibility by 226 listeners; systems are method, SNR and noise.
Licence: MIT. Google Drive, or a mirror.
Cite: Chen, Tsao, "InQSS: a speech intelligibility and quality assessment model using a multi-task learning network",
Interspeech 2022.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from urgentmos.clips.clip import Clip
from urgentmos.corpora import MIRROR, About, Count, Source, home
from urgentmos.corpora.reading import Rated, Row, clips_of, rows_of

ABOUT = About(
    title="TMHINT-QI",
    licence="MIT",
    cite="Chen and Tsao, Interspeech 2022",
    page="https://drive.google.com/file/d/1TMDiz6dnS76hxyeAcCQxeSqqEOH4UDN0/view",
    sources=(Source(f"{MIRROR}/TMHINTQI.zip", "TMHINTQI.zip"),),
)
SPLITS = ("train", "test")
COUNTS = {"train": Count(12_937, 98)}
_COLUMNS = ("method", "snr", "noise", "quality_score", "intelligibility_score", "file_name")


def clips(root: Path, split: str) -> Iterator[Clip]:
    """Clips of a split: one table lists all, the folder of a wave is its split (neither: train)."""
    folder = home(root, ("TMHINTQI", "."), "raw_data.csv")
    rows = [row for row in rows_of(folder / "raw_data.csv", _COLUMNS) if _split(folder, row["file_name"]) == split]
    intelligibility: dict[str, list[float]] = {}
    for row in rows:
        if (value := row.number("intelligibility_score")) is not None:
            intelligibility.setdefault(f"tmhint_qi:{row['file_name']}", []).append(value)
    for clip in clips_of("tmhint_qi", (_rated(folder / split, row) for row in rows)):
        yield replace(clip, meta=clip.meta | {"intelligibility": intelligibility.get(clip.uid, [])})


def _split(folder: Path, name: str) -> str:
    in_train, in_test = ((folder / part / f"{name}.wav").is_file() for part in ("train", "test"))
    return "test" if in_test and not in_train else "train"


def _rated(folder: Path, row: Row) -> Rated:
    name = row["file_name"]
    _, mark, sentence = name.rpartition("TMHINT")
    system = f"{row['method']}-SNR{row['snr']}-{row['noise']}"
    return Rated(name, folder / f"{name}.wav", system, mark + sentence if mark else None, None, row.number("quality_score"))
