"""URGENT2025-SQA: the submissions to the URGENT 2025 speech enhancement challenge with measured metrics and P.808 scores.

Train (validation and non-blind test, 100 systems x 1000 files) has measured metrics and no human scores; the blind test's
scores were released later. Parquet files of the hub, in the schema of URGENT2024-SQA.
Licence: CC BY-NC-SA 4.0. https://huggingface.co/datasets/urgent-challenge/urgent2025-sqa
Cite: Wang et al., "Uni-VERSA-Ext", 2025; Saijo et al., "Interspeech 2025 URGENT challenge", Interspeech 2025.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from urgentmos.clips.clip import Clip
from urgentmos.corpora import About, Count, Source, _urgent_sqa

ABOUT = About(
    title="URGENT2025-SQA",
    licence="CC BY-NC-SA 4.0",
    cite="Wang et al., 2025; Saijo et al., Interspeech 2025",
    page="https://huggingface.co/datasets/urgent-challenge/urgent2025-sqa",
    sources=(Source(hub="urgent-challenge/urgent2025-sqa", into="urgent2025-sqa"),),
)
SPLITS = tuple(_urgent_sqa.PHASES)
UNLABELLED = ("blind_test",)
COUNTS = {"train": Count(100_000, 100)}


def clips(root: Path, split: str) -> Iterator[Clip]:
    """Clips of a split; sound stays in the Parquet files."""
    return _urgent_sqa.clips("urgent2025_sqa", root, split)
