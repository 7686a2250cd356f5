"""URGENT2024-SQA: the submissions to the URGENT 2024 speech enhancement challenge with measured metrics and P.808 scores.

Train (validation and non-blind test, 238 systems x 1000 files) has measured metrics and no human scores; test (the blind
test's rated part, 23 systems x 300 files) has 8 ratings per clip. Parquet files of the hub.
Licence: CC BY-NC-SA 4.0. https://huggingface.co/datasets/urgent-challenge/urgent2024-sqa
Cite: Wang et al., "Uni-VERSA-Ext", 2025; Zhang et al., "URGENT challenge", Interspeech 2024; Sach et al., 2025 (P.808).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from urgentmos.clips.clip import Clip
from urgentmos.corpora import About, Count, Source, _urgent_sqa

ABOUT = About(
    title="URGENT2024-SQA",
    licence="CC BY-NC-SA 4.0",
    cite="Wang et al., 2025; Zhang et al., Interspeech 2024",
    page="https://huggingface.co/datasets/urgent-challenge/urgent2024-sqa",
    sources=(Source(hub="urgent-challenge/urgent2024-sqa", into="urgent2024-sqa"),),
)
SPLITS = tuple(_urgent_sqa.PHASES)
UNLABELLED = ("blind_test",)
COUNTS = {"train": Count(238_000, 238), "test": Count(6_900, 23, source="URGENT 2026 Track 2, table of data")}


def clips(root: Path, split: str) -> Iterator[Clip]:
    """Clips of a split; sound stays in the Parquet files."""
    return _urgent_sqa.clips("urgent2024_sqa", root, split)
