"""CHiME-7 UDASE: real dinner-party speech, untreated and from four enhancement systems, rated by P.835 in a laboratory.

128 contents x 5 conditions; scales SIG, BAK and OVRL, of which OVRL is the MOS here. Option scale=all repeats the released
preparation, which averages over all scales. For development and evaluation only.
Licence: CC BY-SA 4.0. Zenodo 10418311, or a mirror.
Cite: Leglaive et al., "Objective and subjective evaluation of speech enhancement methods in the UDASE task of the 7th CHiME
challenge", 2024.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from urgentmos.clips.clip import Clip
from urgentmos.corpora import About, Count, Source, home
from urgentmos.corpora.reading import Rated, Row, clips_of, rows_of, score
from urgentmos.errors import UsageError

_ZIP = "CHiME-7-UDASE-evaluation-data.zip"
ABOUT = About(
    title="CHiME-7 UDASE listening test",
    licence="CC BY-SA 4.0",
    cite="Leglaive et al., 2024",
    page="https://zenodo.org/records/10418311",
    sources=(Source(f"https://zenodo.org/records/10418311/files/{_ZIP}", _ZIP),),
)
SPLITS = ("test",)
COUNTS = {"test": Count(640, 5, source="URGENT 2026 Track 2, table of data")}
OPTIONS = {"scale": "OVRL (default), SIG, BAK, or all: the mean over scales, as the released preparation has it"}
_TABLE = "listening_test/MOS_results_listening_test.csv"
SCALES = ("OVRL", "SIG", "BAK", "all")


def clips(root: Path, split: str, scale: str = "OVRL") -> Iterator[Clip]:
    """Clips of the conditions C0..C4; the clean "ref" is no condition."""
    if scale not in SCALES:
        raise UsageError(f"scale={scale} is not understood. Write one of: {', '.join(f'scale={s}' for s in SCALES)}.")
    folder = home(root, ("CHiME-7-UDASE-evaluation-data", "."), _TABLE)
    return clips_of("chime7_udase", _ratings(folder, scale))


def _ratings(folder: Path, scale: str) -> Iterator[Rated]:
    for row in rows_of(folder / _TABLE, ("sample", "condition", "scale", "MOS")):
        if row["condition"].lower() == "ref" or scale not in ("all", row["scale"].upper()):
            continue
        content, condition = row["sample"].removesuffix(".wav"), row["condition"]
        path = folder / "listening_test/data" / condition / f"{content}.wav"
        for value in _values(row):
            yield Rated(f"{condition}/{content}", path, condition, content, None, value)


def _values(row: Row) -> list[float | None]:
    """The listeners' ratings, a list written as Python writes it; the given mean where there is none."""
    try:
        listed = ast.literal_eval(row.get("rating_list") or "[]")
    except (ValueError, SyntaxError):
        listed = []
    if not isinstance(listed, list | tuple) or not listed:
        return [row.number("MOS")]
    return [score(value, f"{_TABLE}: rating_list of {row['sample']}") for value in listed]
