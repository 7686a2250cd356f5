"""Outcomes of recordings: a network's scores, warnings, and the reason where there are no scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from urgentmos.audio.description import AudioInfo
from urgentmos.audio.windows import OpenedAudio, merge
from urgentmos.clips.journal import Outcome
from urgentmos.common.clip_warnings import is_silent
from urgentmos.metrics import worst_scores


def failed_outcome(heard: OpenedAudio) -> Outcome:
    """The outcome of a recording with an error, with what is known of it if it was decoded."""
    if heard.whole is None:
        return Outcome(error=heard.error)
    info = heard.whole.info
    return Outcome({}, {}, heard.error, list(info.warnings), heard.seconds, info.rate, info.bandwidth)


def outcome_of(heard: OpenedAudio, infos: list[AudioInfo], values: dict[str, float]) -> Outcome:
    """The outcome of a recording whose windows gave `infos`, and which the network gives `values`."""
    info = info_of(heard, infos)
    return checked(Outcome(values, {}, None, list(info.warnings), heard.seconds, info.rate, info.bandwidth))


def info_of(heard: OpenedAudio, infos: list[AudioInfo]) -> AudioInfo:
    """The description of a whole recording, merged from its windows where it is not in memory."""
    return heard.whole.info if heard.whole is not None else merge(infos)


def checked(outcome: Outcome) -> Outcome:
    """The outcome, without scores if one is not a finite number; a clip without speech has the worst of every scale."""
    if is_silent(outcome.warnings):
        outcome = replace(outcome, values={**outcome.values, **worst_scores(outcome.values)})
    bad = [name for name, value in outcome.values.items() if not math.isfinite(value)]
    if not bad:
        return outcome
    return replace(
        outcome, values={}, error=f"the model's answer for {', '.join(bad)} is not a finite number. Use another model"
    )


def mean_values(values: Sequence[dict[str, float]], weights: Sequence[int]) -> dict[str, float]:
    """The mean of each metric over windows, weighted by their lengths."""
    if len(values) == 1:
        return values[0]
    return {name: float(np.average([own[name] for own in values], weights=weights)) for name in values[0]}
