"""Labels that cannot be values of their metric: error codes such as PESQ -1 or MOS -999, and columns on another scale.

Every statistic of labels calls `left_out` first. A metric without bounds in practice (such as UTMOS) has those of its
scale with a generous margin. A prediction may be any number, and one that is far off counts against its model: of predictions
only the codes are left out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf, isfinite, isnan
from typing import NamedTuple

from urgentmos.clips.clip import Clip
from urgentmos.errors import UsageError
from urgentmos.metrics import METRICS

ROUNDING = 0.005  # a value that was written with two digits may lie so far outside
MARGIN = 0.9  # of what has no bounds in practice, but a scale: an unclamped regression; 0, -1 and 99 stay codes
_FAR = {"lsd": 500.0, "mcd": 500.0}  # metrics whose scale has no end: nothing real is as large
_LOW = {"lps": -50.0, "lps_pocketsphinx": -50.0}


class Outside(NamedTuple):
    """The values of one metric that lie outside its limits, and what is left."""

    metric: str
    uids: list[str]  # in their order
    values: list[float]
    total: int  # values in all
    limits: tuple[float, float]

    @property
    def other_scale(self) -> bool:
        """Whether the column is on another scale: most values lie outside, and are not the usual codes."""
        return 2 * sum(not _is_code(value) for value in self.values) > self.total

    def sentence(self) -> str:
        """Count, limits, the first uid with its value, and what to do."""
        low, high = self.limits
        what = f"{len(self.values)} of {self.total} values of {self.metric} lie outside {low:g} .. {high:g}"
        first = f"the first: {self.uids[0]} ({self.values[0]:g})"
        if not self.other_scale:
            return f"{what} and are left out, {first}. Correct them or leave them empty."
        percent = self.limits[1] < 10 < max(self.values) <= 100 and min(self.values) >= 0
        cure = " (0 .. 100 becomes 1 .. 5 by 1 + x / 25)" if percent else ""
        return f"{what}, {first}: the scale looks wrong. Convert them to that of {self.metric}{cure}, or rename the column."


def _is_code(value: float) -> bool:
    """0, -1, 99, -999, an infinity, ...: what programs write for "no value"."""
    return not isfinite(value) or value in (0, -1) or re.fullmatch("99+", f"{abs(value):g}") is not None


def limits(metric: str) -> tuple[float, float]:
    """(low, high) of the values that a metric can have; infinite for a metric that we do not know."""
    if metric not in METRICS:
        return -inf, inf
    row = METRICS[metric]
    (low, high), scale = row.range(), row.range("paper")
    low = low if isfinite(low) else scale[0] - MARGIN if isfinite(scale[0]) else _LOW.get(metric, low)
    high = high if isfinite(high) else scale[1] + MARGIN if isfinite(scale[1]) else _FAR.get(metric, high)
    return low, high


def gap_limits(metric: str) -> tuple[float, float]:
    """(low, high) of a CMOS, the difference of two values of the metric."""
    low, high = limits(metric)
    return low - high, high - low


def is_outside(metric: str, value: float | None) -> bool:
    """Whether a value cannot be one of the metric; an infinity never is."""
    return value is not None and not within(limits(metric), value)


def within(ends: tuple[float, float], value: float) -> bool:
    """Whether a value lies between the ends, but for rounding; an infinity never does."""
    return isfinite(value) and ends[0] - ROUNDING <= value <= ends[1] + ROUNDING


def outside(metric: str, values: Iterable[tuple[str, float | None]], ends: tuple[float, float] | None = None) -> Outside | None:
    """The (uid, value) outside of `ends` (default: the limits of the metric), summed up; None if there are none."""
    ends = limits(metric) if ends is None else ends
    given = [(uid, value) for uid, value in values if value is not None and not isnan(value)]
    beyond = [(uid, value) for uid, value in given if not within(ends, value)]
    return Outside(metric, [u for u, _ in beyond], [x for _, x in beyond], len(given), ends) if beyond else None


def codes(metric: str, values: Iterable[tuple[str, float | None]], ends: tuple[float, float] | None = None) -> Outside | None:
    """Of what lies `outside` among predictions, the codes: 0, -1, 99, ... and farther off than any other; else as `outside`."""
    values = list(values)
    odd = outside(metric, values, ends)
    if odd is None or odd.other_scale:
        return odd
    usual = [x for _, x in values if x is not None and not isnan(x) and not (_is_code(x) and not within(odd.limits, x))]
    low, high = min(usual, default=inf), max(usual, default=-inf)
    far = [(u, x) for u, x in zip(odd.uids, odd.values, strict=True) if _is_code(x) and not low <= x <= high]
    return odd._replace(uids=[u for u, _ in far], values=[x for _, x in far]) if far else None


def left_out(clips: Sequence[Clip], metrics: Iterable[str] | None = None) -> tuple[list[Clip], list[str]]:
    """(the clips without labels that lie outside the range of their metric, a sentence for each such metric).

    metrics: those that matter; None: all that the clips have. UsageError if a column looks like one of another scale.
    """
    names = dict.fromkeys(name for clip in clips for name in clip.metrics) if metrics is None else dict.fromkeys(metrics)
    beyond = [o for name in names if (o := outside(name, ((clip.uid, clip.metrics.get(name)) for clip in clips)))]
    for one in beyond:
        if one.other_scale:
            raise UsageError(one.sentence())
    if not beyond:
        return list(clips), []
    spoilt = {one.metric for one in beyond}
    return [replace(clip, metrics=_inside(clip.metrics, spoilt)) for clip in clips], [one.sentence() for one in beyond]


def _inside(values: Mapping[str, float | None], spoilt: set[str]) -> dict[str, float | None]:
    return {name: None if name in spoilt and is_outside(name, x) else x for name, x in values.items()}
