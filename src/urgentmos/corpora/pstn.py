"""PSTN: telephone calls over real networks, from the ConferencingSpeech 2022 challenge; English reading, crowdsourced.

58,709 clips with their mean score; neither systems nor contents are published.
Licence: not stated. An archive on Azure, which may vanish.
Cite: Mittag, Cutler, Hosseinkashi, Revow, Srinivasan, Chande, Aichner, "DNN no-reference PSTN speech quality prediction",
Interspeech 2020.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from urgentmos.clips.clip import Clip
from urgentmos.corpora import About, Count, Source, home
from urgentmos.corpora.reading import rows_of

ABOUT = About(
    title="PSTN",
    licence="unknown: nothing is stated",
    cite="Mittag et al., Interspeech 2020",
    page="https://challenge.blob.core.windows.net/pstn/train.zip",
    sources=(Source("https://challenge.blob.core.windows.net/pstn/train.zip", "train.zip"),),
)
SPLITS = ("train",)
COUNTS = {"train": Count(58_709)}


def clips(root: Path, split: str) -> Iterator[Clip]:
    """Clips of pstn_train/. What a file is called before its first "_" is kept in meta: one side of a split for all of it."""
    folder = home(root, ("pstn_train", "."), "pstn_train.csv")
    for row in rows_of(folder / "pstn_train.csv", ("filename", "MOS")):
        stem = row["filename"].removesuffix(".wav")
        kept = {"mos_std": "std", "confidence95": "95%CI", "votes": "votes"}
        meta: dict[str, object] = {key: x for key, column in kept.items() if (x := row.number(column)) is not None}
        meta["sample_id"] = stem.partition("_")[0]
        yield Clip(
            f"pstn:{stem}",
            str(folder / f"{stem}.wav"),
            corpus="pstn",
            metrics={"mos_overall": row.number("MOS")},
            meta=meta,
        )
