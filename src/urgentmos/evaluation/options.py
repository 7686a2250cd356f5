"""The settings of an evaluation: levels, labels, pairs and intervals."""

from dataclasses import dataclass, field
from typing import Literal

from urgentmos.clips.pairs import CAP, Take
from urgentmos.clips.verdicts import DELTA
from urgentmos.evaluation.agreement import Resampling


@dataclass(frozen=True)
class Options:
    """The request: levels, metrics and intervals."""

    delta: float = DELTA
    label: str | None = None  # the label that every predicted metric is held against; None: its namesake, or human MOS
    resample: Literal["contents", "systems"] = "contents"
    resampling: Resampling = field(default_factory=Resampling)
    limit: int | None = CAP  # pairs that are derived from clips
    take: Take = "sample"
    random: bool = False  # a row of random guesses
    published: bool = False  # the papers' numbers on the same corpora
