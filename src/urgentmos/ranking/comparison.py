"""Two clips, or two systems content by content: verdicts, and what they add up to; numpy/scipy only."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from urgentmos.common.clip_warnings import is_silent

Verdict = Literal["a", "tie", "b"]
Side = Literal["a", "b"]
SIDES: tuple[Side, Side] = ("a", "b")

AUDIBLE = 0.5  # CMOS; a smaller difference is a tie in the preference data of the UrgentMOS and URGENT-PK papers
TEST = "two-sided sign-flip test of the CMOS over contents"


@dataclass(frozen=True)
class Comparison:
    """The verdict on two clips: p_a + p_tie + p_b = 1, `cmos` > 0 where a is better.

    Where a clip could not be decoded, `error` is the reason, the numbers are NaN and the verdict is None.
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
        """The row of the file formats; None for a number that is not finite."""
        row = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()}
        del row["bandwidths"]
        return {**row, "warnings": list(self.warnings)}

    def warnings_of(self, side: Side) -> list[str]:
        """The warnings of one of the clips, without the side in front."""
        return on_side(self.warnings, side)

    def at_fault(self, side: Side) -> bool:
        """Whether the error is about the clip on that side."""
        path = self.a if side == "a" else self.b
        return self.error is not None and any(part.startswith(path) for part in self.error.split("; "))


def on_side(warnings: Sequence[str], side: Side) -> list[str]:
    """The warnings of one of the clips, of `by_side`, without the side in front."""
    return [warning.removeprefix(f"{side}: ") for warning in warnings if warning.startswith(f"{side}: ")]


def by_side(a: Sequence[str], b: Sequence[str]) -> tuple[str, ...]:
    """The warnings of both clips as `Comparison.warnings` has them."""
    return (*(f"a: {warning}" for warning in a), *(f"b: {warning}" for warning in b))


def comparison(
    a: str, b: str, judged: np.ndarray, warnings: Sequence[str] = (), bandwidths: Sequence[float | None] = ()
) -> Comparison:
    """(4,) p_a, p_tie, p_b, CMOS -> a Comparison. Where neither side is ahead, or a tie is likeliest, it is a tie.

    A clip without speech, by its warnings, loses to one with speech in any case (`silent_verdict`).
    warnings: of the clips, as `by_side` returns them. bandwidths: of the recordings in Hz, where known.
    """
    a_silent, b_silent = (is_silent(on_side(warnings, side)) for side in SIDES)
    p_a, p_tie, p_b, cmos = (float(x) for x in silent_verdict(a_silent, b_silent, judged))
    verdict: Verdict = "tie"
    if p_a != p_b and max(p_a, p_b) > p_tie:
        verdict = "a" if p_a > p_b else "b"
    return Comparison(a, b, p_a, p_tie, p_b, cmos, verdict, None, tuple(warnings), tuple(bandwidths))


def silent_verdict(a_silent: bool, b_silent: bool, judged: np.ndarray, least: float = AUDIBLE) -> np.ndarray:
    """(4,) p_a, p_tie, p_b, CMOS as in `judged`, except that a clip without speech loses to one with speech for certain.

    The CMOS of such a pair is at least `least` in favour of the clip with speech, more if the judge has more; that of two
    clips without speech is 0, a tie. What the judge could not answer (NaN) does not matter then.
    """
    if a_silent and b_silent:
        return np.array([0.0, 1.0, 0.0, 0.0])
    if a_silent:
        return np.array([0.0, 0.0, 1.0, np.fmin(judged[3], -least)])
    if b_silent:
        return np.array([1.0, 0.0, 0.0, np.fmax(judged[3], least)])
    return judged


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
    cmos_low: float  # -inf if there are too few contents
    cmos_high: float
    confidence: float
    wins: int  # contents on which a is better
    ties: int
    losses: int
    p_value: float  # of "a and b are equally good", by `test`; NaN if nothing could be judged
    test: str = TEST
    n_failed: int = 0  # contents that could not be judged

    def sentence(self, *, gated: bool = False) -> str:
        """As a text; without the part that a gate repeats if one follows (`gated`)."""
        if not self.n_contents:
            return "No content could be judged."
        contents = "content" if self.n_contents == 1 else "contents"
        counts = f"A wins {self.wins}, ties {self.ties}, B wins {self.losses} of {self.n_contents} {contents}"
        if self.n_failed:
            counts += f" ({self.n_failed} more could not be judged)"
        if gated:
            return f"{counts}."
        interval = ""
        if np.isfinite(self.cmos_low):
            interval = f" [{_signed(self.cmos_low)}, {_signed(self.cmos_high)}] at {100 * self.confidence:g} %"
        return f"CMOS A - B {_signed(self.cmos)}{interval}, p = {self.p_value:.3g} (sign-flip test); {counts}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; None for a number that is not finite."""
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()}


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}"  # + 0.0: no "-0.000"


def summarise(a: str, b: str, rows: Sequence[Comparison], *, confidence: float = 0.95, seed: int = 0) -> Summary:
    """Summarise comparisons of two systems: mean CMOS with its interval, a test, and counts.

    Args:
        a: name of the first system.
        b: name of the second system.
        rows: comparisons of `a` with `b`, one per content; those with an error are only counted.
        confidence: of the interval, between 0 and 1.
        seed: of the random sign patterns, with more than 12 contents.

    Returns:
        A `Summary`; without any judged content its numbers are NaN.

    Example:
        >>> rows = [Comparison("a.wav", "b.wav", 0.8, 0.1, 0.1, cmos, "a") for cmos in (0.9, 1.1, 0.7, 0.8, 1.2, 1.0)]
        >>> summary = summarise("old", "new", rows)
        >>> round(summary.cmos, 2), summary.wins, summary.p_value
        (0.95, 6, 0.03125)

    The test is the two-sided sign-flip test of the CMOS (`resampling.sign_flip_p`), and the interval holds the differences
    that it does not reject (`resampling.sign_flip_interval`): 0 is outside exactly where p is at most 1 - confidence, and
    the ends never lie beyond the smallest and the largest CMOS of a content. With fewer contents than a rejection needs, 6 at
    95 %, there is no interval.
    """
    from urgentmos.ranking.resampling import (  # scipy: half a second, which two files need not wait for
        sign_flip_interval,
        sign_flip_p,
    )

    judged = [row for row in rows if row.error is None and np.isfinite(row.cmos)]
    cmos = np.array([row.cmos for row in judged], float)
    counts = {verdict: sum(row.verdict == verdict for row in judged) for verdict in ("a", "tie", "b")}
    mean, p_value = (float(cmos.mean()), float(sign_flip_p(cmos[None], seed)[0])) if judged else (np.nan, np.nan)
    low, high = sign_flip_interval(cmos, confidence, seed)
    return Summary(
        a=a,
        b=b,
        n_contents=len(judged),
        cmos=mean,
        cmos_low=low,
        cmos_high=high,
        confidence=confidence,
        wins=counts["a"],
        ties=counts["tie"],
        losses=counts["b"],
        p_value=p_value,
        n_failed=len(rows) - len(judged),
    )
