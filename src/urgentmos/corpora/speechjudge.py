"""SpeechJudge-Data: pairs of the same text from recent zero-shot text-to-speech systems, judged for naturalness.

About 42,000 training pairs, English and Chinese; `naturalness_annotation` has the raters' grades, `naturalness_label` their
majority. The test split (SpeechJudge-Eval) has full agreement and no ties; "other" holds ties. About 211 GB in Parquet
files, gated: accept the terms on the page and log in (`hf auth login`) before --download.
Licence: CC BY-NC 4.0. https://huggingface.co/datasets/RMSnow/SpeechJudge-Data
Cite: Zhang et al., "SpeechJudge: Towards human-level judgment for speech naturalness", 2025.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from urgentmos.corpora import About, Count, Source, hub

ABOUT = About(
    title="SpeechJudge-Data",
    licence="CC BY-NC 4.0",
    cite="Zhang et al., 2025",
    page="https://huggingface.co/datasets/RMSnow/SpeechJudge-Data",
    sources=(Source(hub="RMSnow/SpeechJudge-Data", into="SpeechJudge-Data"),),
    by_hand="Gated: accept the terms on the page and run `hf auth login` first. About 211 GB.",
)
SPLITS = ("train", "dev", "test", "other")
COUNTS = {"train": Count(pairs=41_755)}
_VERDICTS = {"A": "a", "B": "b", "TIE": "tie"}
_KEPT = ("index", "subset", "language_setting", "chosen", "rater", "naturalness_annotation", "target_text")


def pairs(root: Path, split: str) -> Iterator[dict[str, Any]]:
    """Pairs of a split; the text of both is the content."""
    for file in hub.files_of(root, split):
        for labels, sound in hub.rows_of(file, ("audioA", "audioB")):
            index = labels["index"]
            yield {
                "uids": [f"speechjudge:{split}-{index}-{side}" for side in "AB"],
                "audio_paths": [sound["audioA"], sound["audioB"]],
                "durations": [None, None],
                "metrics": {},
                "verdict": _VERDICTS.get(str(labels["naturalness_label"]).strip().upper()),
                "scope": "native",
                "reference_id": labels.get("target_text") or str(index),
                "meta": {name: labels[name] for name in _KEPT if name in labels},
            }
