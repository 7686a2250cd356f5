"""NISQA Corpus: speech over simulated and live telephone and internet channels, rated for quality and four dimensions.

14,000 clips of German and English speech in seven databases, crowdsourced (P.808) but for the ITU-style P501 and FOR.
Licence: mixed, by source of the speech (the wiki lists them). Zenodo 4728081 or depositonce 11303.
Cite: Mittag, Naderi, Chehadi, Moeller, "NISQA: A deep CNN-self-attention model ...", Interspeech 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePath

from urgentmos.clips.clip import Clip
from urgentmos.corpora import About, Count, NotOnDisk, Source, home
from urgentmos.corpora.reading import Row, rows_of

ABOUT = About(
    title="NISQA Corpus",
    licence="mixed, https://github.com/gabrielmittag/NISQA/wiki/NISQA-Corpus",
    cite="Mittag et al., Interspeech 2021",
    page="https://zenodo.org/records/4728081",
    sources=(Source("https://zenodo.org/records/4728081/files/NISQA_Corpus.zip", "NISQA_Corpus.zip"),),
)
DATABASES = {
    "train": ("NISQA_TRAIN_SIM", "NISQA_TRAIN_LIVE"),
    "dev": ("NISQA_VAL_SIM", "NISQA_VAL_LIVE"),
    "test_livetalk": ("NISQA_TEST_LIVETALK",),
    "test_for": ("NISQA_TEST_FOR",),
    "test_p501": ("NISQA_TEST_P501",),
}
SPLITS = tuple(DATABASES)
_WIKI = "NISQA wiki"
COUNTS = {
    "train": Count(11_020),
    "dev": Count(2_700, source=_WIKI),
    "test_livetalk": Count(232, source=_WIKI),
    "test_for": Count(240, source=_WIKI),
    "test_p501": Count(240, source=_WIKI),
}
_KEPT = ("noi", "col", "dis", "loud", "mos_std", "noi_std", "col_std", "dis_std", "loud_std", "votes")


def clips(root: Path, split: str) -> Iterator[Clip]:
    """Clips of the databases of a split that are there; `con` of two databases are different systems."""
    files = []
    for database in DATABASES[split]:
        with suppress(NotOnDisk):
            places = (f"NISQA_Corpus/{database}", database)
            files.append((database, home(root, places, f"{database}_file.csv")))
    if not files:
        raise NotOnDisk(f"{root}: none of {', '.join(DATABASES[split])} is there. Name the folder that holds them.")
    for database, folder in files:
        for row in rows_of(folder / f"{database}_file.csv", ("con", "filename_deg", "mos")):
            yield _clip(database, folder, row)


def _clip(database: str, folder: Path, row: Row) -> Clip:
    deg, ref = PurePath(row["filename_deg"]), PurePath(row.get("filename_ref") or "-")
    system, content = _ids(database, deg.stem, ref.stem, row["con"])
    reference = folder / "ref" / ref.name
    meta: dict[str, object] = {name: value for name in _KEPT if (value := row.number(name)) is not None}
    meta["language"] = row.get("lang") or None
    return Clip(
        f"nisqa:{database}/{deg.stem}",
        str(folder / "deg" / deg.name),
        f"{database}:{system}",
        content,
        "nisqa",
        reference_path=str(reference) if reference.is_file() else None,
        metrics={"mos_overall": row.number("mos")},
        meta=meta,
    )


def _ids(database: str, deg: str, ref: str, con: str) -> tuple[str, str]:
    """(system, content). In test sets a prefix cNN_ is the condition; "book*" repeats its conditions' numbers."""
    if deg.startswith("book") and deg.startswith(ref):
        return deg.removeprefix(ref).strip("_-") or con, ref
    system = con.removesuffix(".0")  # "3.0" and "3" are one condition
    return system, deg.partition("_")[2] or deg if "_TEST_" in database else deg
