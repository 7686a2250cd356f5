"""SpeechEval: pairs of clips from public sources and recent systems with judgements in words; here the better one of each pair.

73,123 training pairs, Chinese, English, Japanese and French. It contains clips of other corpora, e.g. BVCC
(en_BVCC_sysa0656-utta5be39c.wav): check overlap before testing on those.
Licence: CC BY-NC-SA 4.0. Hub: Hui519/SpeechEval (sound), vvwangvv/SpeechEval-Preference (a verdict per pair).
Cite: Wang et al., "SpeechLLM-as-Judges: Towards general and interpretable speech quality evaluation", 2025.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from urgentmos.corpora import About, Count, NotOnDisk, Source, home
from urgentmos.corpora.reading import text_of
from urgentmos.errors import UsageError

ABOUT = About(
    title="SpeechEval",
    licence="CC BY-NC-SA 4.0",
    cite="Wang et al., 2025",
    page="https://huggingface.co/datasets/Hui519/SpeechEval",
    sources=(
        Source(hub="Hui519/SpeechEval", into="rawdata"),
        Source(hub="vvwangvv/SpeechEval-Preference", into="preference"),
    ),
)
SPLITS = ("train", "dev", "test")
COUNTS = {"train": Count(pairs=73_123)}
_FILES = {"train": "train.jsonl", "dev": "validation.jsonl", "test": "test.jsonl"}
_VERDICTS = {"A": "a", "B": "b", "TIE": "tie"}


def pairs(root: Path, split: str) -> Iterator[dict[str, Any]]:
    """Pairs of a split; the preference file defines the split, rawdata/data_split/**/multitask.jsonl the two recordings."""
    folder = home(root, (".",), f"preference/{_FILES[split]}")
    paths = _compared(folder / "rawdata")
    for row in _rows(folder / "preference" / _FILES[split]):
        key = str(row["key"])
        yield _pair(folder / "rawdata", key, paths.get(key), str(row.get("preference")))


def _pair(raw: Path, key: str, files: tuple[str, str] | None, preference: str) -> dict[str, Any]:
    meta: dict[str, Any] = {"key": key}
    if files is None:
        meta["unusable"] = "the preference's key is not in the data"
    else:
        meta["sources"] = [_source(file) for file in files]
    return {
        "uids": [f"speecheval:{PurePosixPath(file).with_suffix('')}" for file in files or (f"{key}#a", f"{key}#b")],
        "audio_paths": [str(raw / file) for file in files] if files else ["", ""],
        "durations": [None, None],
        "metrics": {},
        "verdict": _VERDICTS.get(preference.upper()),
        "scope": "native",
        "meta": meta,
    }


def _source(file: str) -> str:
    """The corpus or system that a clip comes from: the second word of its name."""
    words = PurePosixPath(file).name.split("_")
    return words[1] if len(words) > 2 else ""


def _compared(raw: Path) -> dict[str, tuple[str, str]]:
    """key -> the two recordings, relative to rawdata, of every row of the task CompareEval."""
    files = sorted((raw / "data_split").rglob("multitask.jsonl"))
    if not files:
        raise NotOnDisk(f"{raw}: no data_split/**/multitask.jsonl is there. Fetch Hui519/SpeechEval into it.")
    pairs_by_key = {}
    for file in files:
        for row in _rows(file):
            a, b = (row.get("path"), row.get("path_B")) if row.get("path_B") else (row.get("audios") or [None, None])[:2]
            if row.get("task") == "CompareEval" and a and b:
                pairs_by_key[str(row["key"])] = (str(a), str(b))
    return pairs_by_key


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    for count, line in enumerate(text_of(file).split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
                yield {"key": row["key"], **row}
            except (ValueError, KeyError, TypeError):
                raise UsageError(f"{file}, line {count}: is not an object with a key. Fetch it again.") from None
