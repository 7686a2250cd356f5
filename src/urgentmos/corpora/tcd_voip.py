"""TCD-VoIP: 384 clips of English speech with five degradations of internet calls, 24 listeners, P.800 ACR.

CHOP 96, CLIP 56, COMPSPKR 56, ECHO 80, NOISE 96 clips; ConditionID starts again in each degradation, so a system is named
TYPE-ID here. The paper's "24 systems" merges unrelated conditions that carry one number.
Licence: CC BY-NC-SA 4.0. The original site, or a mirror.
Cite: Harte, Gillen, Hines, "TCD-VoIP, a research database of degraded speech for assessing quality in VoIP applications",
QoMEX 2015.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from urgentmos.clips.clip import Clip
from urgentmos.corpora import MIRROR, About, Count, Source, home
from urgentmos.corpora.reading import mean_rating, score
from urgentmos.errors import UsageError, need

ABOUT = About(
    title="TCD-VoIP",
    licence="CC BY-NC-SA 4.0",
    cite="Harte et al., QoMEX 2015",
    page="https://drive.usercontent.google.com/download?id=1rHJN34vP-W8SJtjpNUnx5RIks3o5L5he&export=download",
    sources=(Source(f"{MIRROR}/TCD-VOIP.zip", "TCD-VOIP.zip"),),
)
SPLITS = ("train",)
COUNTS = {"train": Count(384, 96, source="UrgentMOS paper, Table 2, and 4 clips per condition", note="24 merged condition ids")}
WORKBOOK = "TCD VOIP - Test Set Conditions and MOS Results.xlsx"
SHEET = "Subjective Test Scores"


def clips(root: Path, split: str) -> Iterator[Clip]:
    """Clips of "Test Set" with the mean of their listeners, or else the "sample MOS" of the sheet."""
    folder = home(root, ("TCD-VOIP/Test Set", "Test Set", "."), WORKBOOK)
    for row in _sheet(folder / WORKBOOK):
        name = str(row["Filename"]).strip()
        name = name if name.lower().endswith(".wav") else f"{name}.wav"
        kind, content = name.split("_")[2].upper(), name[5:-4]
        ratings = [
            (str(int(head)), score(value, f"{WORKBOOK}: {name}, listener {head}"))
            for head, value in row.items()
            if _is_listener(head)
        ]
        mos, meta = mean_rating(ratings)
        references = (folder / "ref" / f"R{name[1:]}", folder / "ref" / f"R_{content}.wav")
        reference = next((str(path) for path in references if path.is_file()), None)
        yield Clip(
            f"tcd_voip:{name[:-4]}",
            str(folder / kind.lower() / name),
            f"{kind}-{int(row['ConditionID']):02d}",
            content,
            "tcd_voip",
            reference_path=reference,
            metrics={
                "mos_overall": mos if mos is not None else score(row.get("sample MOS"), f"{WORKBOOK}: {name}, sample MOS")
            },
            meta=meta,
        )


def _is_listener(head: Any) -> bool:
    """Listeners' columns are headed by whole numbers, not by text."""
    return isinstance(head, int | float) and not isinstance(head, bool) and float(head).is_integer()


def _sheet(path: Path) -> Iterator[dict[Any, Any]]:
    openpyxl = need("openpyxl", "corpora")
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (BadZipFile, KeyError, OSError) as e:
        raise UsageError(f"{path}: is not a workbook that can be read ({e}). Fetch it again.") from None
    if SHEET not in book.sheetnames:
        raise UsageError(f"{path}: has no sheet {SHEET!r}, but {', '.join(book.sheetnames)}. Fetch it again.")
    head: tuple[Any, ...] = ()
    for cells in book[SHEET].iter_rows(values_only=True):
        if not head and "Filename" in cells and "ConditionID" in cells:
            head = cells
        elif head and cells[head.index("Filename")]:
            yield dict(zip(head, cells, strict=False))
    if not head:
        raise UsageError(f"{path}: the sheet {SHEET!r} has no columns Filename and ConditionID. Fetch it again.")
