"""urgent2024_mos: the older release of the URGENT 2024 listening test (blind test, P.808 ACR, 8 ratings per clip).

Licence: CC BY-NC-SA 4.0. https://huggingface.co/datasets/urgent-challenge/urgent2024_mos
Cite: Zhang et al., "URGENT challenge: universality, robustness, and generalizability for speech enhancement",
Interspeech 2024; Sach et al., 2025 (P.808).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from urgentmos.clips.clip import Clip
from urgentmos.corpora import About, Count, Source, hub

ABOUT = About(
    title="urgent2024_mos",
    licence="CC BY-NC-SA 4.0",
    cite="Zhang et al., Interspeech 2024; Sach et al., 2025",
    page="https://huggingface.co/datasets/urgent-challenge/urgent2024_mos",
    sources=(Source(hub="urgent-challenge/urgent2024_mos", into="urgent2024_mos"),),
)
SPLITS = ("test",)
COUNTS = {"test": Count(6_900, 23, source="URGENT 2026 Track 2, table of data")}


def clips(root: Path, split: str) -> Iterator[Clip]:
    """Clips with ids like P426-fileid_184: team, then file."""
    for file in hub.files_of(root, split):
        for labels, sound in hub.rows_of(file, ("audio",)):
            team, _, content = str(labels["id"]).partition("-")
            yield hub.clip_of("urgent2024_mos", str(labels["id"]), sound["audio"], labels, team, content or None)
