"""Verdicts on pairs and their accuracy: Eq. 6 of the UrgentMOS paper and what is built on it; numpy only.

A verdict is the sign of a's advantage: A = 1, TIE = 0, B = -1, NaN where there is none. So the verdict of (b, a) is minus
that of (a, b). P pairs, shapes (P,).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray  # float64

A, TIE, B = 1.0, 0.0, -1.0
NAMES = {A: "a", TIE: "tie", B: "b"}
DELTA = 0.5  # the tie threshold of the UrgentMOS paper, section 5.1

# MOS are means of votes: 4.4 - 3.9 is half a point although floating point makes it 0.5000000000000004. Differences are
# rounded before a threshold looks at them, and pair rows hold the rounded number, so that Eq. 6 on a row is exact.
DECIMALS = 9

PK_BINS = (0.0, 0.4, 0.8, 1.2, 1.6, 2.0)  # of the MOS difference: Table IV of the URGENT-PK paper
THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(41))  # 0 .. 2, which spans the axes of Figs. 4 and 5

_SPELLINGS = {
    A: ("a", "a>b", "first", "a is better", "a is better than b"),
    TIE: ("tie", "t", "a=b", "equal", "same", "similar", "draw", "both"),
    B: ("b", "b>a", "a<b", "second", "b is better", "b is better than a"),
}
_CODES = {spelling: code for code, spellings in _SPELLINGS.items() for spelling in spellings}


def difference(a: Array | float, b: Array | float) -> Array:
    """a - b, rounded so that what is equal on paper is equal here; NaN where either is missing."""
    return np.asarray(np.round(np.subtract(a, b, dtype=float), DECIMALS))


def verdicts(cmos: Array | float, delta: float) -> Array:
    """Eq. 6 of the UrgentMOS paper: A where cmos > delta, B where cmos < -delta, a tie where |cmos| <= delta."""
    gap = np.round(np.asarray(cmos, dtype=float), DECIMALS)
    return np.where(np.isnan(gap), np.nan, np.where(np.abs(gap) <= delta, TIE, np.sign(gap)))


def verdict_code(text: str) -> float:
    """'A', 'tie', 'B is better', ... -> its code. ValueError lists what is understood."""
    try:
        return _CODES[" ".join(text.lower().replace(" > ", ">").split()).rstrip(".")]
    except KeyError:
        raise ValueError(f"{text[:80]!r} is no verdict. Write a, tie or b") from None


@dataclass(frozen=True)
class PairLabels:
    """Listeners' verdicts on P pairs.

    `native` holds verdicts that listeners gave to the pair itself, NaN where there is none: there the label is derived
    from `cmos`, the difference of two MOS, by Eq. 6.
    """

    cmos: Array
    native: Array

    def verdicts(self, delta: float) -> Array:
        """The three-way labels: native verdicts keep their own ties, for any delta."""
        return np.where(np.isnan(self.native), verdicts(self.cmos, delta), self.native)

    def take(self, rows: Array) -> "PairLabels":
        return PairLabels(self.cmos[rows], self.native[rows])


@dataclass(frozen=True)
class Judged:
    """A predictor's verdicts on P pairs.

    A scalar judge has `gap`: its CMOS, or the difference of its two scores; larger means that a is better. A judge that
    classifies has `verdict`, the likeliest of three, and `leaning`, the likelier of a and b (TIE where neither is).
    """

    gap: Array | None = None
    verdict: Array | None = None
    leaning: Array | None = None

    def three_way(self, delta: float) -> Array:
        """Its verdicts; those of a classifier do not depend on delta (appendix E of the UrgentMOS paper)."""
        return verdicts(self._gap(), delta) if self.verdict is None else self.verdict

    def two_way(self) -> Array:
        """A or B; TIE where it cannot decide."""
        if self.verdict is None:
            return verdicts(self._gap(), 0.0)
        return self.verdict if self.leaning is None else self.leaning

    def _gap(self) -> Array:
        assert self.gap is not None
        return self.gap


@dataclass(frozen=True)
class Correct:
    """Pair by pair, 1 right, 0 wrong, NaN not counted."""

    delta: Array  # three-way
    zero: Array  # strict preferences


def correct(judged: Judged, labels: PairLabels, delta: float = DELTA) -> Correct:
    """(P,) each: whether the predictor agrees with the listeners, as the UrgentMOS paper counts it in section 5.1.

    acc_delta: three verdicts. Derived labels and scalar predictors use the same delta; native labels keep the ties that
    listeners gave, so where they gave none, each predicted tie is an error (DNSMOS on SpeechJudge in Table 4).
    acc_0: pairs that listeners call a tie (native), or with equal MOS (derived), are left out; a predictor that cannot
    decide is wrong. A classifier gives the likelier of a and b.
    """
    three, label = judged.three_way(delta), labels.verdicts(delta)
    two, strict = judged.two_way(), labels.verdicts(0.0)
    is_counted = ~(np.isnan(three) | np.isnan(label))
    counted = ~(np.isnan(two) | np.isnan(strict)) & (strict != TIE)
    return Correct(np.where(is_counted, three == label, np.nan), np.where(counted, two == strict, np.nan))


def share(right: Array) -> float:
    """Mean of what is counted; NaN if nothing is."""
    counted = right[~np.isnan(right)]
    return float(counted.mean()) if len(counted) else float("nan")


def sweep(judged: Judged, labels: PairLabels, delta: float = DELTA, thresholds: Sequence[float] = THRESHOLDS) -> Array:
    """(len(thresholds),) three-way accuracy as the predictor's threshold moves and the labels stay (Figs. 4 and 5).

    The label keeps its own ties (native), or those at `delta` (derived). A classifier's accuracy is constant.
    """
    label = labels.verdicts(delta)
    shares = []
    for threshold in thresholds:
        verdicts = judged.three_way(threshold)
        is_counted = ~(np.isnan(verdicts) | np.isnan(label))
        shares.append(share(np.where(is_counted, verdicts == label, np.nan)))
    return np.array(shares)


def ab_accuracy_by_gap(
    preferred: Array, subjective: Array, gap: Array, edges: Sequence[float] = PK_BINS
) -> tuple[list[dict[str, Any]], float]:
    """Accuracy of an A/B decision by the size of the MOS difference: Table IV of the URGENT-PK paper.

    preferred (P,): A or B of the judge, a TIE is wrong. subjective (P,): what listeners of the pair prefer, ties left
    out. gap (P,): difference of MOS, its sign ignored. Bins are [low, high); pairs beyond the last edge are ignored, as
    in the paper. Returns ({low, high, n, accuracy} per bin, mean over the pairs in the bins, the column Avg).
    """
    size = np.abs(np.round(gap, DECIMALS))
    counted = ~(np.isnan(preferred) | np.isnan(subjective) | np.isnan(size)) & (subjective != TIE)
    right = np.where(counted, preferred == subjective, np.nan)
    bins = []
    for low, high in pairwise(edges):
        inside = right[counted & (size >= low) & (size < high)]
        bins.append({"low": low, "high": high, "n": len(inside), "accuracy": float(inside.mean()) if len(inside) else None})
    return bins, share(np.where((size >= edges[0]) & (size < edges[-1]), right, np.nan))


def random_judge(n_pairs: int, seed: int) -> Judged:
    """Guesses for P pairs: three verdicts, and two where a tie is no answer, equally likely (the rows "Random")."""
    rng = np.random.default_rng(seed)
    return Judged(verdict=rng.choice([A, TIE, B], n_pairs), leaning=rng.choice([A, B], n_pairs))
