"""Corpora of human opinions: one module each, which yields clips or pairs from what is on disk and does nothing else.

A corpus module holds

- `ABOUT`: title, licence, how to cite, where it comes from;
- `SPLITS`: the official ones, and `UNLABELLED`, those of them whose labels nobody has published;
- `COUNTS`: what was published about a split, to be compared with what was found;
- `clips(root, split, **options) -> Iterator[Clip]` and/or `pairs(root, split, **options) -> Iterator[dict]`.

Every row of the corpus is yielded, also one whose recording is missing or whose score is empty: `prepare.py` counts
those. A row without any recording has an empty path and says why in `meta["unusable"]`. Sound inside a Parquet file is
named by a locator (`hub.py`). A rating is kept as `meta["mos_overall"] = [[listener or None, rating], ...]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urgentmos.errors import UsageError

if TYPE_CHECKING:
    from urgentmos.clips.clip import Clip

NAMES = (
    "bc19",
    "bvcc",
    "nisqa",
    "pstn",
    "somos",
    "tcd_voip",
    "tencent",
    "tmhint_qi",
    "ttsds2",
    "urgent2024_sqa",
    "urgent2025_sqa",
    "urgent2024_mos",
    "chime7_udase",
    "speecheval",
    "speechjudge",
    "vmc2026_track1",
    "custom",
)
MIRROR = "https://huggingface.co/datasets/urgent-challenge/urgent26_track2_sqa/resolve/main"


class NotOnDisk(UsageError):
    """A split (or the corpus) is not below ROOT."""


@dataclass(frozen=True)
class Source:
    """Something to fetch: an archive at a URL, or (`hub`) the snapshot of a data set on the hub."""

    url: str = ""
    file: str = ""  # the archive's name below ROOT
    sha256: str | None = None  # None where nobody has published one
    inner: tuple[str, ...] = ()  # archives inside the archive
    hub: str = ""  # org/name
    into: str = ""  # folder below ROOT


@dataclass(frozen=True)
class About:
    """The facts to know before using a corpus."""

    title: str
    licence: str
    cite: str
    page: str
    sources: tuple[Source, ...] = ()
    by_hand: str = ""  # what no program can do for the user


@dataclass(frozen=True)
class Count:
    """Published size of a split; None where nothing was published."""

    clips: int | None = None
    systems: int | None = None
    pairs: int | None = None
    source: str = "UrgentMOS paper, Table 2"
    note: str = ""  # why an intact copy may differ


@dataclass(frozen=True)
class Corpus:
    """A corpus module as plain data and functions."""

    name: str
    about: About
    splits: tuple[str, ...]
    counts: dict[str, Count]
    clips: Callable[..., Iterator[Clip]] | None
    pairs: Callable[..., Iterator[dict[str, Any]]] | None
    options: dict[str, str] = field(default_factory=dict)  # KEY -> what it means; of KEY=VALUE on the command line
    any_option: bool = False  # further keys are taken too
    unlabelled: frozenset[str] = frozenset()


def get(name: str) -> Corpus:
    """The corpus called `name`; UsageError with all names if there is none."""
    if name not in NAMES:
        raise UsageError(f"no corpus is called {name!r}. Choose one of: {', '.join(NAMES)}.")
    module = import_module(f"urgentmos.corpora.{name}")
    return Corpus(
        name=name,
        about=module.ABOUT,
        splits=module.SPLITS,
        counts=module.COUNTS,
        clips=getattr(module, "clips", None),
        pairs=getattr(module, "pairs", None),
        options=getattr(module, "OPTIONS", {}),
        any_option=getattr(module, "ANY_OPTION", False),
        unlabelled=frozenset(getattr(module, "UNLABELLED", ())),
    )


def home(root: Path, places: tuple[str, ...], holds: str) -> Path:
    """The first of `places` below root that holds the path `holds`; NotOnDisk names what was searched for."""
    for place in places:
        if (root / place / holds).exists():
            return root / place
    looked = ", ".join(str(root / place / holds) for place in places)
    raise NotOnDisk(f"{root}: {holds} is not there (looked for {looked}). Name the folder that was unpacked.")
