"""TTSDS2: 20 text-to-speech systems on four kinds of speech (clean, noisy, wild, children), rated in 2024 and 2025.

460 clips with naturalness ratings (MOS); CMOS and SMOS ratings stand in the same table and are not read.
Licence: MIT. The hub (ttsds/listening_test), or a mirror.
Cite: Minixhofer, Klejch, Bell, "TTSDS2: Resources and benchmark for evaluating human-quality text to speech systems", 2025.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from urgentmos.clips.clip import Clip
from urgentmos.corpora import MIRROR, About, Count, Source, home
from urgentmos.corpora.reading import Rated, clips_of, rows_of

ABOUT = About(
    title="TTSDS2 listening test",
    licence="MIT",
    cite="Minixhofer et al., 2025",
    page="https://huggingface.co/datasets/ttsds/listening_test",
    sources=(Source(f"{MIRROR}/ttsds2.zip", "ttsds2.zip"),),
)
SPLITS = ("train",)
COUNTS = {"train": Count(460, 80)}


def clips(root: Path, split: str) -> Iterator[Clip]:
    """Clips with a rating of type "mos"."""
    folder = home(root, ("ttsds2", "."), "subjective_results.csv")
    return clips_of("ttsds2", _ratings(folder))


def _ratings(folder: Path) -> Iterator[Rated]:
    columns = ("audio", "dataset", "system", "rating_type", "value", "annotator")
    for row in rows_of(folder / "subjective_results.csv", columns):
        if row["rating_type"].lower() == "mos":
            audio = PurePosixPath(row["audio"].removeprefix("./"))
            system = f"{row['dataset']}-{row['system']}"
            sample = str(audio.with_suffix(""))
            yield Rated(sample, folder / audio, system, audio.stem, row["annotator"], row.number("value"))
