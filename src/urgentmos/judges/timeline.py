"""Timelines: the contribution of each frame of a recording to the clip's logit.

A head that pools by the mean is linear up to its range-constraining activation (UrgentMOS section 3.1, Eqs. 1-3): the logit of
a clip is the mean of its frames' logits, exactly. So a frame's contribution is no estimate, and needs no gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from urgentmos.audio.description import AudioInfo
from urgentmos.common.clip_warnings import is_silent
from urgentmos.common.steps import step
from urgentmos.errors import AudioError

if TYPE_CHECKING:
    from urgentmos.audio.samples import AudioInput
    from urgentmos.audio.windows import AudioReader

DIGITS = 6  # of a time, in decimals of a second


@dataclass(frozen=True)
class Timeline:
    """The contributions of the F frames of one recording.

    times (F,): middles of the frames in seconds, rising. contributions {metric: (F,)}: their mean is the clip's logit, that is
    the score before it is bent into the metric's range; of a recording longer than the model's window, the mean of a window's
    frames is the logit of that window, and the score is the mean of the windows' scores. ranges {metric: (low, high)}: what the
    logits are bent into, +-inf where there is no bound.
    """

    seconds: float
    times: np.ndarray
    contributions: dict[str, np.ndarray]
    ranges: dict[str, tuple[float, float]]
    n_windows: int = 1

    def logits(self) -> dict[str, float]:
        """{metric: the clip's logit}."""
        return {name: float(np.mean(row)) for name, row in self.contributions.items()}


@runtime_checkable
class TimelineBackend(Protocol):
    """A judge whose frames have logits of their own."""

    ranges: Mapping[str, tuple[float, float]]  # of every metric's head

    def frame_logits(self, wave: np.ndarray) -> Mapping[str, np.ndarray] | None:
        """(T,) float32 -> {metric: (F,)} whose mean is the clip's logit; None if the model does not pool by the mean."""


def trace_timeline(
    judge: TimelineBackend, reader: AudioReader, source: AudioInput, metrics: Sequence[str], sample_rate: int | None = None
) -> Timeline | None:
    """The timeline of a recording, None where it has none; AudioError if the recording cannot be read.

    One window is in memory at a time.
    """
    from urgentmos.audio.windows import merge

    heard = reader.open(source, sample_rate)
    if heard.error:
        raise AudioError(heard.error)
    times: list[np.ndarray] = []
    rows: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
    start = 0.0
    infos: list[AudioInfo] = []
    for piece in reader.pieces(heard):
        step()
        infos.append(piece.info)
        logits = judge.frame_logits(piece.wave)
        if logits is None:
            return None
        seconds = len(piece.wave) / piece.rate
        n_frames = len(logits[metrics[0]])
        times.append(start + (np.arange(n_frames) + 0.5) * seconds / n_frames)
        start += seconds
        for name in metrics:
            rows[name].append(np.asarray(logits[name], dtype=np.float64))
    if is_silent((heard.whole.info if heard.whole else merge(infos)).warnings):  # its score is not the network's
        return None
    contributions = {name: np.concatenate(parts) for name, parts in rows.items()}
    ranges = {name: judge.ranges[name] for name in metrics}
    return Timeline(start, np.round(np.concatenate(times), DIGITS), contributions, ranges, len(times))
