"""The schema that URGENT2024-SQA and URGENT2025-SQA share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from urgentmos.clips.clip import Clip
from urgentmos.corpora import NotOnDisk, hub

PHASES = {"train": ("validation", "nonblind_test"), "test": ("blind_test_mos",), "blind_test": ("blind_test",)}


def clips(corpus: str, root: Path, split: str) -> Iterator[Clip]:
    """Clips of the phases of a split. A phase is part of the content's id: validation and test restart their numbers."""
    groups: list[tuple[str, list[Path]]] = []
    for phase in PHASES[split]:
        try:
            groups.append((phase, hub.files_of(root, phase)))
        except NotOnDisk:
            if phase == PHASES[split][-1] and not groups:
                raise
    for phase, files in groups:
        rows = [row for file in files for row in hub.rows_of(file, ("audio",))]
        unique = len({labels["sample_id"] for labels, _ in rows}) == len(rows)
        for labels, sound in rows:
            system = str(labels["system_id"])
            content = f"{phase}/{content_of(str(labels['sample_id']), system, unique)}"
            yield hub.clip_of(corpus, f"{system}:{content}", sound["audio"], labels, system, content)


def content_of(sample: str, system: str, unique: bool) -> str:
    """The content in a sample_id.

    The schema changed: systems share a sample_id, or (`unique`) it is made of the submission (the last word of system_id)
    and the file, as in ..._SUBMISSION_fileid_12. Then the submission is taken out.
    """
    submission = re.escape(system.rpartition("_")[2])
    match = re.fullmatch(rf"(?:(?P<before>.*)_)?{submission}_(?P<file>fileid_.+)", sample) if unique else None
    if match is None:
        return sample
    before: Any = match["before"]
    return f"{before}_{match['file']}" if before else match["file"]
