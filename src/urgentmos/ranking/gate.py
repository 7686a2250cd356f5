"""The gate of `compare --fail-if-worse`: a test of whether a new build is worse than the old one; numpy/scipy only."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from urgentmos.common.clip_warnings import is_silent
from urgentmos.errors import UsageError
from urgentmos.ranking.comparison import AUDIBLE, Comparison
from urgentmos.ranking.resampling import ENUMERATE_UP_TO, RANDOM_FLIPS, sign_flip_p

TEST = "one-sided sign-flip test of the CMOS over contents"
EXIT_WORSE = 3  # 1 and 2 are taken: some clips failed, not understood
_ROUNDING = 1e-12  # 1 - 0.99 is a little more than 0.01
_FINEST = 1 / (2 * (RANDOM_FLIPS + 1))  # of the p-values from random sign patterns


@dataclass(frozen=True)
class Gate:
    """The evidence for "B is worse than A" in comparisons of an old build A with a new build B."""

    n_contents: int
    n_different: int  # contents on which A and B differ (by something other than the margin)
    cmos: float  # mean over contents, above 0 where A is better; NaN if nothing could be judged
    margin: float  # what B may be worse by, in the unit of the CMOS
    p_value: float  # one-sided, of "B is not worse by more than the margin"; 1 where it is not, on average
    confidence: float
    needed: int  # contents below which no difference, however clear, could reach the confidence
    n_lost: int = 0  # further contents, on which only A could be judged; they count as worse
    n_silent: int = 0  # contents on which B's clip holds no speech and A's does
    test: str = TEST

    @property
    def worse(self) -> bool:
        """Whether B is worse: silent where A holds speech, or by more than the margin at the given confidence."""
        return self.n_silent > 0 or self.significant

    @property
    def significant(self) -> bool:
        """Whether B is worse by more than the margin, at the given confidence."""
        return self.p_value <= 1 - self.confidence + _ROUNDING

    @property
    def exit_status(self) -> int:
        """3 if B is worse, else 0."""
        return EXIT_WORSE if self.worse else 0

    def sentence(self) -> str:
        """For a reader: the verdict, by how much, and how sure."""
        if not self.n_contents and not self.n_lost:
            return "The gate has nothing to go by: no content could be judged."
        beyond = f" by more than {self.margin:g}" if self.margin else ""
        verdict = f"B is {'worse' if self.worse else 'not shown to be worse'} than A{beyond}"
        facts = [f"CMOS A - B {self.cmos:+.3f} over {_contents(self.n_contents)}"] if self.n_contents else []
        if self.n_lost:
            facts.append(f"only A could be judged on {_contents(self.n_lost)}{' more' if self.n_contents else ''}")
        if self.n_silent:
            silent = f"it is silent on {_contents(self.n_silent)} where A holds speech"
            return f"B is worse than A: {'; '.join([silent, *facts])}."
        test = f"one-sided sign-flip test, fails from {1 - self.confidence:.3g} down"
        return f"{verdict}: {', '.join(facts)}, p = {self.p_value:.3g} ({test})."

    def warning(self) -> str | None:
        """Why this gate could not have failed, if so; None if it could, or if A and B are equal everywhere."""
        n_contents = self.n_contents + self.n_lost
        if self.n_silent:
            return None
        if n_contents < self.needed:
            count, of = n_contents, ""
        elif 0 < self.n_different < self.needed:
            count, of = self.n_different, f" of {n_contents}, the only ones that differ"
        else:
            return None
        return (
            f"this gate cannot fail. {_contents(count)}{of}: p cannot fall below {smallest_p(count):.3g}, and "
            f"{100 * self.confidence:g} % confidence needs {1 - self.confidence:.3g}. Give it at least {self.needed}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with the verdict; None for a number that is not finite."""
        cells = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()}
        return {"worse": self.worse, **cells}


def gate(rows: Sequence[Comparison], *, confidence: float = 0.95, margin: float = 0.0, lost: int = 0, seed: int = 0) -> Gate:
    """Test whether a new build B is worse than an old build A.

    Args:
        rows: comparisons of A with B, one per content; those with an error are left out.
        confidence: at which B must be worse for the gate to fail, between 0 and 1.
        margin: difference that B may be worse by, at least 0, in the unit of the CMOS.
        lost: number of further contents that could be judged for A but not for B, whose clip is broken or missing. Each
            counts as if B were worse by as much as on any other content, and by `AUDIBLE` at least, so that a build gains
            nothing by failing.
        seed: of the random sign patterns.

    Returns:
        A `Gate`; its `worse` is the verdict. A clip of B without speech where A's holds some fails the gate by itself.

    Raises:
        UsageError: if `lost` or `margin` is negative, or if no number of contents can reach the confidence.

    Example:
        >>> rows = [Comparison("a.wav", "b.wav", 0.8, 0.1, 0.1, cmos, "a") for cmos in (0.9, 1.1, 0.7, 0.8, 1.2)]
        >>> evidence = gate(rows)
        >>> evidence.worse, evidence.p_value
        (True, 0.03125)

    If B were as good as A but for the margin, the sign of `cmos - margin` on a content would be a coin flip (Fisher 1935,
    "The design of experiments", section 21). That holds exactly where the two builds draw their outputs from the same
    distribution, whatever its shape: the difference of two such draws is symmetric. p is the share of sign patterns whose
    sum reaches what was seen: half of the two-sided one of `resampling.sign_flip_p`, since every pattern's mirror image
    is a pattern. All patterns are visited up to 12 contents, 5000 (seeded) and their mirror images beyond.
    """
    if lost < 0:
        raise UsageError(f"{lost} lost contents cannot be. Give 0 or more.")
    if not (np.isfinite(margin) and margin >= 0):
        raise UsageError(f"a margin of {margin:g} makes no gate. Give 0 or more, in the unit of the CMOS.")
    needed = contents_needed(confidence)
    cmos = np.array([row.cmos for row in rows if row.error is None and np.isfinite(row.cmos)])
    beyond = cmos - margin
    beyond = np.append(beyond, np.full(lost, max(AUDIBLE, float(np.abs(beyond).max(initial=0.0)))))
    mean = float(cmos.mean()) if len(cmos) else np.nan
    p_value = float(sign_flip_p(beyond[None], seed)[0]) / 2 if beyond.sum() > 0 else 1.0
    silent = sum(is_silent(row.warnings_of("b")) and not is_silent(row.warnings_of("a")) for row in rows)
    return Gate(len(cmos), int(np.count_nonzero(beyond)), mean, margin, p_value, confidence, needed, lost, silent)


def _contents(n: int) -> str:
    return f"{n} content" if n == 1 else f"{n} contents"


def smallest_p(n_contents: int) -> float:
    """The p-value of B being worse on every one of n_contents: the least that a gate can find."""
    return float(2.0**-n_contents) if n_contents <= ENUMERATE_UP_TO else _FINEST


def contents_needed(confidence: float) -> int:
    """How many contents a gate needs to be able to fail. UsageError if no number of them would do."""
    if not 0 < confidence < 1:
        raise UsageError(f"a confidence of {confidence:g} is none. Give a number between 0 and 1, such as 0.95.")
    for n_contents in range(1, ENUMERATE_UP_TO + 2):
        if smallest_p(n_contents) <= 1 - confidence + _ROUNDING:
            return n_contents
    raise UsageError(f"confidence {confidence:g} asks for smaller p-values than a gate computes. Give {1 - _FINEST:g} or less.")
