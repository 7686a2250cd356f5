"""How sure a ranking is: resampling of contents, intervals, and tests of all pairs of systems; numpy/scipy only.

Contents are what a test set samples; the clips and the pairs of one content share its sentence and its noise. So the
content is the unit that is drawn, reweighted or flipped here, never a clip and never a pair.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student

Array = np.ndarray  # float64 unless a docstring states another type
Step = Callable[[int], None]  # is given how many units of work were just finished

ENUMERATE_UP_TO = 12  # contents; 2 ** 11 sign patterns, a pattern and its mirror image being one
RANDOM_FLIPS = 4999  # beyond that: (1 + 4999 random) patterns, so no p-value is below 0.0002
CHUNK = 2_000_000  # numbers held at once


def content_weights(n_contents: int, samples: int, seed: int) -> Array:
    """(B, U) how often each content is in each bootstrap sample of U contents; every row sums to U."""
    chance = np.full(n_contents, 1 / n_contents)
    return np.random.default_rng(seed).multinomial(n_contents, chance, size=samples).astype(float)


def standard_errors(draws: Array, n_contents: Array) -> Array:
    """(S,) standard error of a score, from its bootstrap draws (B, S) over n_contents (S,) contents each; NaN below two.

    The factor sqrt(n / (n - 1)) undoes the bootstrap's narrowness for few contents (Hesterberg 2015, "What teachers
    should know about the bootstrap", The American Statistician 69). NaN draws are left out.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        correction = np.where(n_contents > 1, np.sqrt(n_contents / (n_contents - 1)), np.nan)
    seen = np.isfinite(draws)
    n_draws = np.maximum(seen.sum(0), 1)
    values = np.where(seen, draws, 0.0)
    centred = np.where(seen, draws - values.sum(0) / n_draws, 0.0)
    spread: Array = correction * np.sqrt((centred**2).sum(0) / np.maximum(n_draws - 1, 1))
    return spread


def open_interval(score: Array, error: Array, n_contents: Array, confidence: float) -> tuple[Array, Array]:
    """(S,), (S,): score -+ t * error with n - 1 degrees of freedom; -inf, inf where the error is NaN.

    Student's t with the bootstrap's standard error. In our simulations (benchmarks/rank_statistics.py) it covers means 94
    to 97 % and Bradley-Terry strengths 92 to 100 % of the time at a nominal 95 %, from 4 contents on. Percentile
    intervals, expanded as Hesterberg proposes or not, covered 70 to 88 % at 4 contents and 89 to 94 % at 8: a handful of
    contents has too few distinct resamples for a tail.
    """
    reach = _reach(error, n_contents, confidence)
    return score - reach, score + reach


def vote_interval(score: Array, error: Array, n_contents: Array, confidence: float, most: float) -> tuple[Array, Array]:
    """(S,), (S,): interval of a sum of votes between 0 and `most`; -inf, inf where the error is NaN.

    Student's t on the log-odds of the share of votes, one vote being added to either side (Laplace's rule), and back. It
    cannot leave 0..most, is longer towards the middle, and keeps its coverage for the first and the last system, where
    the plain t interval of a skewed vote count falls to 70 % at 8 contents in our simulations. One vote rather than the
    usual half: as good a coverage there, and shorter by a fifth where a system won nearly everything.
    """
    won, lost = score + 1, most - score + 1
    reach = _reach(error * (most + 2) / (won * lost), n_contents, confidence)
    centre = np.log(won / lost)
    low, high = (np.clip((most + 2) * expit(centre + sign * reach) - 1, 0.0, most) for sign in (-1, 1))
    is_finite = np.isfinite(error)
    return np.where(is_finite, np.minimum(low, score), -np.inf), np.where(is_finite, np.maximum(high, score), np.inf)


def scale_interval(
    score: Array, error: Array, n_contents: Array, confidence: float, low: float, high: float
) -> tuple[Array, Array]:
    """(S,), (S,): interval of a mean on a scale from `low` to `high`, which it never leaves; either may be infinite.

    Student's t where the scale has no end; on log(score - end) where it has one; on the logit where it has two. Opinion
    scores near an end of their scale are skewed: in simulations of means of 8 scores of 1.2 or 4.8 in 1..5, the logit-t
    interval covers 96 %, the plain one, cut off at the end, 91 %; in the middle both cover 95 %, and are as long.

    A share p of 0..1 cannot have a larger standard error than sqrt(p (1 - p) / (n - 1)); a score that is closer to an end
    than its error allows (means adjusted for contents can be) is moved off it by as much before it is transformed.
    """
    if not np.isfinite(low) and not np.isfinite(high):
        return open_interval(score, error, n_contents, confidence)
    if not np.isfinite(low):
        lowest, highest = scale_interval(-score, error, n_contents, confidence, -high, -low)
        return -highest, -lowest
    is_usable = np.isfinite(error) & (error > 1e-12 * np.maximum(1.0, np.abs(score)))  # less is rounding
    width = high - low if np.isfinite(high) else 1.0
    part, spread = (score - low) / width, np.where(is_usable, error, 0.0) / width
    if np.isfinite(high):
        edge = 0.5 - np.sqrt(0.25 - np.minimum(0.25, np.maximum(n_contents - 1, 1) * spread**2))
        part = np.clip(part, edge, 1 - edge)
        inside = np.where(is_usable, part, 0.5)
        centre, slope, back = logit(inside), inside * (1 - inside), expit
    else:
        inside = np.where(is_usable, np.maximum(part, spread), 1.0)
        centre, slope, back = np.log(inside), inside, np.exp
    reach = _reach(np.where(is_usable, spread / slope, error), n_contents, confidence)
    reach = np.minimum(reach, 700.0)  # exp of more is infinite
    ends = [np.clip(low + width * back(centre + sign * reach), low, high) for sign in (-1, 1)]
    ends = [np.where(is_usable, end, score) for end in ends]  # no error at all: every resample is alike
    unknown = np.isnan(error)
    lowest, highest = np.minimum(ends[0], score), np.maximum(ends[1], score)
    return np.where(unknown, -np.inf, lowest), np.where(unknown, np.inf, highest)


def _reach(error: Array, n_contents: Array, confidence: float) -> Array:
    """(S,) half-width t * error; inf where the error is unknown."""
    is_finite = np.isfinite(error)
    quantile = student.ppf((1 + confidence) / 2, np.maximum(n_contents - 1, 1))
    return np.where(is_finite, quantile * np.where(is_finite, error, 0.0), np.inf)


def share_better(draws: Array) -> Array:
    """(S, S) share of bootstrap draws (B, S) in which i scores above j, equal draws counting half; larger is better."""
    n_systems = draws.shape[1]
    share = np.empty((n_systems, n_systems))
    for i in range(n_systems):
        gap = draws[:, [i]] - draws
        seen = np.isfinite(gap)
        count = np.maximum(seen.sum(0), 1)
        share[i] = (((gap > 0) + 0.5 * (gap == 0)) * seen).sum(0) / count
    return share


def sign_flip_p(differences: Array, seed: int, step: Step | None = None) -> Array:
    """(P,) p-values, corrected for testing all P pairs of systems at once, of "the two are equally good".

    differences (P, U): per content, how much the first system of the pair is better; 0 where the content is silent on it.

    If two systems are equally good, the sign of their difference on a content is a coin flip (Fisher 1935, "The design
    of experiments", section 21). All pairs are flipped together, content by content, which keeps how they hang together;
    the statistic is |sum D| / sqrt(sum D^2), which orders sign patterns as the t statistic does and needs no variance. A
    pair's p-value is the share of sign patterns in which the largest statistic, among the pairs that are no more
    significant than this one, reaches what was seen: the step-down maxT procedure (Westfall and Young 1993,
    "Resampling-based multiple testing"; Romano and Wolf 2005, "Exact and approximate stepdown methods", JASA 100). Like
    Holm's it bounds the chance of any false claim, but with the dependence of the pairs known instead of assumed to be
    the worst.

    Because the correction happens inside the maximum, the smallest p-value, 2 ** (1 - U), does not shrink with the number
    of pairs: 8 unanimous contents suffice for any number of systems (p = 0.008), 2 never do (p = 0.5), however small
    their variance. All patterns are visited up to 12 contents, 5000 (seeded) beyond. `step` is called with patterns.
    """
    speaks = np.abs(differences).max(0) > 0
    size = np.sqrt((differences**2).sum(1, keepdims=True))
    unit = np.divide(differences, size, out=np.zeros(differences.shape), where=size > 0)[:, speaks]
    seen = np.abs(unit.sum(1))
    order = np.argsort(seen, kind="stable")
    flips = _sign_patterns(unit.shape[1], seed)
    reached = np.zeros(len(unit))
    ordered, goal = np.ascontiguousarray(unit[order].T), seen[order] - 1e-9
    rows = max(1, CHUNK // max(1, len(unit)))
    for start in range(0, len(flips), rows):
        flipped = flips[start : start + rows] @ ordered
        np.abs(flipped, out=flipped)
        np.maximum.accumulate(flipped, axis=1, out=flipped)
        reached += np.count_nonzero(flipped >= goal, axis=0)
        if step is not None:
            step(len(flipped))
    p = np.empty(len(unit))
    p[order] = np.maximum.accumulate((reached / len(flips))[::-1])[::-1]
    return p


def n_sign_patterns(n_contents: int) -> int:
    """How many sign patterns `sign_flip_p` visits."""
    return 2 ** max(0, n_contents - 1) if n_contents <= ENUMERATE_UP_TO else RANDOM_FLIPS + 1


def sign_flip_interval(values: Array, confidence: float, seed: int) -> tuple[float, float]:
    """(low, high): the means that the two-sided sign-flip test of `values` (U,) does not reject at 1 - confidence.

    So 0 is inside exactly where `sign_flip_p` of the values is above 1 - confidence. With fewer contents than a rejection
    needs (6 at 95 %) it is -inf, inf.

    A sign pattern splits the values in two. If the mean m is below that of the values, turning the signs of one part
    reaches the sum that was seen (from m) exactly where the mean of either part is at most m (Hartigan 1969, "Using
    subsample values as typical values", JASA 64). So the ends are order statistics: of the smaller and of the larger of
    each pattern's two means.
    """
    flips = _sign_patterns(len(values), seed)
    turned = (1 - flips) / 2
    n_turned = turned.sum(1)
    split = (n_turned > 0) & (n_turned < len(values))  # else the pattern or its mirror image is what was seen
    turned, n_turned = turned[split], n_turned[split]
    allowed = int(np.floor((1 - confidence) * len(flips) + 1e-9)) - (len(flips) - len(turned))
    if len(values) == 0 or allowed < 0:
        return -np.inf, np.inf
    mean = float(values.mean())
    if allowed >= len(turned):
        return mean, mean
    parts = np.array([turned @ values / n_turned, (1 - turned) @ values / (len(values) - n_turned)])
    low, high = np.sort(parts.min(0))[allowed], np.sort(parts.max(0))[::-1][allowed]
    p, against = sign_flip_p(np.asarray(values)[None], seed)[0], 1 - confidence + 1e-12
    if p > against:  # random patterns of the values that are not 0 are others than those of all values
        low, high = min(low, 0.0), max(high, 0.0)
    elif mean > 0:
        low = max(low, 0.0)
    else:
        high = min(high, 0.0)
    return min(float(low), mean), max(float(high), mean)


def t_test_p(differences: Array) -> Array:
    """(P,) p-values of Student's t test that differences (P, U) have mean 0; 1 where all are 0 or U is 1."""
    n_contents = differences.shape[1]
    if n_contents < 2:
        return np.ones(len(differences))
    mean, error = differences.mean(1), differences.std(1, ddof=1) / np.sqrt(n_contents)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * student.sf(np.abs(mean / error), n_contents - 1)
    return np.where((mean == 0) & (error == 0), 1.0, p)


def uneven_p(differences: Array) -> Array:
    """(P,) the least that p may be where contents speak of a pair (P, U) unequally much, some hardly at all.

    Terms then have mean 0 if the two are equal, but no symmetry, and many tiny ones of one sign would pass for as many
    verdicts. Student's t test weighs them; and n verdicts of one sign allow no p below 2^(1 - n), n being the effective
    number of contents, (sum |D|)^2 / sum D^2.
    """
    squares = (differences**2).sum(1)
    n = np.divide(np.abs(differences).sum(1) ** 2, squares, out=np.ones(len(differences)), where=squares > 0)
    return np.asarray(np.maximum(t_test_p(differences), np.minimum(1.0, 2.0 ** (1 - n))))


def _sign_patterns(n_contents: int, seed: int) -> Array:
    """(N, U) of +1 and -1, the first row all +1: every pattern up to its mirror image, or 4999 random ones after it."""
    if n_contents == 0:
        return np.ones((1, 0))
    if n_contents <= ENUMERATE_UP_TO:
        bits = np.arange(2 ** (n_contents - 1))[:, None] >> np.arange(n_contents)
        return 1.0 - 2.0 * (bits & 1)
    random = np.random.default_rng(seed).integers(0, 2, size=(RANDOM_FLIPS, n_contents), dtype=np.int8)
    return np.vstack([np.ones((1, n_contents)), 1.0 - 2.0 * random])
