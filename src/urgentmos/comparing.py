"""Two clips, or two systems content by content: verdicts, and what they add up to; numpy/scipy only."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

Verdict = Literal["a", "tie", "b"]
Side = Literal["a", "b"]


@dataclass(frozen=True)
class Comparison:
    """Which of two clips sounds better: p_a + p_tie + p_b = 1, `cmos` > 0 where a is better.

    Where a clip could not be heard, `error` says why, the numbers are NaN and the verdict is None.
    """

    a: str
    b: str
    p_a: float
    p_tie: float
    p_b: float
    cmos: float
    verdict: Verdict | None
    error: str | None = None
    warnings: tuple[str, ...] = ()  # of the clips, each behind its side: "b: silence: the level is digital zero"
    bandwidths: tuple[float | None, ...] = ()  # Hz, of the recordings; not in the row

    def to_dict(self) -> dict[str, Any]:
        """The row of the file formats; what is not known is None."""
        row = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()}
        del row["bandwidths"]
        return {**row, "warnings": list(self.warnings)}

    def warnings_of(self, side: Side) -> list[str]:
        """The warnings of one of the clips, without the side in front."""
        return [warning.removeprefix(f"{side}: ") for warning in self.warnings if warning.startswith(f"{side}: ")]


def by_side(a: Sequence[str], b: Sequence[str]) -> tuple[str, ...]:
    """The warnings of both clips as `Comparison.warnings` has them."""
    return (*(f"a: {warning}" for warning in a), *(f"b: {warning}" for warning in b))


def comparison(
    a: str, b: str, judged: np.ndarray, warnings: Sequence[str] = (), bandwidths: Sequence[float | None] = ()
) -> Comparison:
    """(4,) p_a, p_tie, p_b, CMOS -> a Comparison. Where neither side is ahead, or a tie is likeliest, it is a tie.

    warnings: of the clips, as `by_side` returns them. bandwidths: of the recordings in Hz, where known.
    """
    p_a, p_tie, p_b, cmos = (float(x) for x in judged)
    verdict: Verdict = "tie"
    if p_a != p_b and max(p_a, p_b) > p_tie:
        verdict = "a" if p_a > p_b else "b"
    return Comparison(a, b, p_a, p_tie, p_b, cmos, verdict, None, tuple(warnings), tuple(bandwidths))


def failed_comparison(a: str, b: str, error: str, warnings: Sequence[str] = ()) -> Comparison:
    """A pair that could not be judged."""
    return Comparison(a, b, np.nan, np.nan, np.nan, np.nan, None, error, tuple(warnings))


@dataclass(frozen=True)
class Summary:
    """Many comparisons of one system with another. cmos_low..cmos_high is an interval for the mean over contents."""

    a: str
    b: str
    n_contents: int
    cmos: float
    cmos_low: float  # -inf if there are too few contents to tell
    cmos_high: float
    confidence: float
    wins: int  # contents on which a is better
    ties: int
    losses: int
    p_value: float  # sign test of "a and b win equally often", ties left out

    def sentence(self) -> str:
        """For a reader."""
        if not self.n_contents:
            return "No content could be judged."
        known = np.isfinite(self.cmos_low)
        interval = f" [{_signed(self.cmos_low)}, {_signed(self.cmos_high)}]" if known else ""
        contents = "content" if self.n_contents == 1 else "contents"
        counts = f"A wins {self.wins}, ties {self.ties}, B wins {self.losses} of {self.n_contents} {contents}"
        return f"CMOS A - B {_signed(self.cmos)}{interval} at {self.confidence:.0%}; {counts}; sign test p = {self.p_value:.3g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what is not known is None."""
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()}


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def summarise(a: str, b: str, rows: Sequence[Comparison], *, confidence: float = 0.95) -> Summary:
    """Comparisons of systems `a` and `b`, one per content -> mean CMOS with its interval, counts, and a sign test.

    The interval is Student's t over contents; the test is the two-sided binomial one.
    """
    from scipy.stats import binomtest  # half a second, which two files need not wait for
    from scipy.stats import t as student

    rows = [row for row in rows if row.error is None]
    cmos = np.array([row.cmos for row in rows])
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("a", "tie", "b")}
    mean, low, high = float(cmos.mean()) if len(rows) else np.nan, -np.inf, np.inf
    if len(rows) > 1:
        reach = float(student.ppf((1 + confidence) / 2, len(rows) - 1) * cmos.std(ddof=1) / np.sqrt(len(rows)))
        low, high = mean - reach, mean + reach
    decided = counts["a"] + counts["b"]
    p_value = float(binomtest(counts["a"], decided).pvalue) if decided else 1.0
    return Summary(a, b, len(rows), mean, low, high, confidence, counts["a"], counts["tie"], counts["b"], p_value)
