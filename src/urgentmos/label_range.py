"""Labels that cannot be values of their metric: error codes such as PESQ -1 or MOS -999, and columns on another scale.

Whatever makes a statistic of labels asks `left_out` first. A metric without bounds in practice (UTMOS, say) has those of its
scale with a generous margin. A prediction may lie a little outside, so `limits` of predictions have that margin, too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf, isfinite
from typing import NamedTuple

from urgentmos.clips import Clip
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
        """Whether most values are outside, and not just by error codes: the column is on another scale."""
        return 2 * len(self.values) > self.total and (len(set(self.values)) > 2 or len(self.values) == self.total)

    def sentence(self) -> str:
        """Count, limits, the first uid with its value, and what to do."""
        low, high = self.limits
        verb = "lies" if self.total == 1 else "lie"
        what = f"{len(self.values)} of {self.total} values of {self.metric} {verb} outside {low:g} .. {high:g}"
        first = f"the first: {self.uids[0]} ({self.values[0]:g})"
        if self.other_scale:
            scale = " (0 .. 100 becomes 1 .. 5 by 1 + x / 25)" if _looks_like_percent(self.values) and _is_opinion(self) else ""
            return (
                f"{what}, {first}. The scale looks wrong. Convert them to that of {self.metric}{scale}, or rename the column."
            )
        return f"{what} and are left out, {first}. Correct them or leave them empty."


def _looks_like_percent(values: Sequence[float]) -> bool:
    return all(0 <= value <= 100 for value in values) and max(values) > 10


def _is_opinion(outside: Outside) -> bool:
    return outside.metric in METRICS and METRICS[outside.metric].range("paper") == (1.0, 5.0)


def limits(metric: str, *, predicted: bool = False) -> tuple[float, float]:
    """(low, high) of the values that a metric can have; infinite for a metric that we do not know.

    predicted: of a model's answers, which need not keep to the scale.
    """
    if metric not in METRICS:
        return -inf, inf
    row = METRICS[metric]
    (low, high), scale = row.range(), row.range("paper")
    low = low if isfinite(low) else scale[0] - MARGIN if isfinite(scale[0]) else _LOW.get(metric, low)
    high = high if isfinite(high) else scale[1] + MARGIN if isfinite(scale[1]) else _FAR.get(metric, high)
    if predicted:
        low, high = min(low, scale[0] - MARGIN), max(high, min(scale[1] + MARGIN, inf))
    return low, high


def is_outside(metric: str, value: float | None, *, predicted: bool = False) -> bool:
    """Whether a value cannot be one of the metric; an infinity never is."""
    low, high = limits(metric, predicted=predicted)
    return value is not None and not (low - ROUNDING <= value <= high + ROUNDING and isfinite(value))


def outside(metric: str, values: Iterable[tuple[str, float | None]], *, predicted: bool = False) -> Outside | None:
    """What lies outside among (uid, value) of a metric; None if nothing does."""
    given = [(uid, value) for uid, value in values if value is not None]
    beyond = [(uid, value) for uid, value in given if is_outside(metric, value, predicted=predicted)]
    if not beyond:
        return None
    uids, bad = zip(*beyond, strict=True)
    return Outside(metric, list(uids), list(bad), len(given), limits(metric, predicted=predicted))


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
    codes = {one.metric for one in beyond}
    return [replace(clip, metrics=_inside(clip.metrics, codes)) for clip in clips], [one.sentence() for one in beyond]


def _inside(values: Mapping[str, float | None], codes: set[str]) -> dict[str, float | None]:
    return {name: None if name in codes and is_outside(name, x) else x for name, x in values.items()}
