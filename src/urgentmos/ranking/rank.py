"""From scores or pairwise verdicts of S systems on U contents to a ranking with its uncertainty; numpy/scipy only.

Scorings: ECS of the URGENT-PK paper (Algorithm 1; binary or soft votes), Bradley-Terry with ties, and the mean score
(`scorings`). With every scoring, uncertainty comes from the contents (`resampling`): intervals of scores by a bootstrap of
contents, and joint sign-flip tests of all pairs of systems, from which the intervals of ranks and what cannot be told apart
are read. Systems and contents are sorted by name before anything is computed, so their order never changes a result.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, get_args
from unicodedata import normalize

import numpy as np
from scipy.special import expit
from scipy.stats import kendalltau, pearsonr, spearmanr

from urgentmos.common.untrusted import shown
from urgentmos.errors import UsageError
from urgentmos.ranking import bradley_terry, resampling, scorings
from urgentmos.ranking.names import Scoring
from urgentmos.ranking.result import Ranking, SystemRank

__all__ = ["Ranking", "SystemRank", "correlations", "ecs_votes", "pairwise_from_scores", "rank"]

Array = np.ndarray  # float64 unless a docstring states another type
Better = Literal["higher", "lower"]

EQUAL = 1e-9  # scores closer than this, relative to the largest, differ by rounding only: a tie, and a shared rank
LARGEST = 1e100  # no scale reaches as far, and squares of more overflow
FEWEST_SYSTEMS = 3  # for a correlation: that of two is always 1 or -1


def rank(
    systems: Sequence[str],
    contents: Sequence[str],
    *,
    scores: Array | None = None,
    better: Better = "higher",
    pairs: Array | None = None,
    scoring: Scoring = "binary",
    confidence: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
    model: str = "",
    human: Array | Sequence[float] | None = None,
    prior: float = bradley_terry.PRIOR,
    bounds: tuple[float, float] | None = None,
    silent: Array | None = None,
    progress: scorings.Progress | None = None,
) -> Ranking:
    """Rank S systems on U contents, with intervals and ties.

    Args:
        systems: S names.
        contents: U names.
        scores: (S, U) value of a metric per clip, NaN where missing.
        better: the better end of `scores`, "higher" or "lower".
        pairs: (S, S, U) P(row system sounds better than column system) per content, 0 to 1; 0.5 is a tie, NaN is missing.
            With both `scores` and `pairs`, "mos" reads the scores and every other scoring the pairs.
        scoring: "binary" or "soft" votes, "bradley-terry" strengths, or "mos" means.
        confidence: of intervals and tests, between 0 and 1.
        samples: bootstrap samples, at least 2.
        seed: of the bootstrap and of random sign patterns.
        model: name of the judge, copied into the result.
        human: (S,) MOS of listeners to correlate with, NaN where missing.
        prior: that of `bradley_terry.fit`; intervals and tests use at least the default one.
        bounds: both ends of the metric's scale, infinite where it has none.
        silent: (S, U) bool, True for clips without speech. Regardless of scores and pairs, they lose to every clip with
            speech and tie with each other; under "mos" they count as the worst end of the scale, or as the worst clip with
            speech if it has none. A system without a single clip with speech comes after all others.
        progress: called as progress(title, done, total) during long steps with hundreds of systems.

    Returns:
        A `Ranking`, best system first.

    Raises:
        UsageError: if an argument is out of range or of another shape, or if votes have no content for some pair.

    Example:
        >>> scores = np.array([[4.1, 3.9, 4.3, 4.0, 4.2, 4.4], [2.0, 2.2, 1.9, 2.5, 2.1, 2.3]])
        >>> ranking = rank(["clear", "noisy"], list("uvwxyz"), scores=scores, scoring="mos")
        >>> [(row.rank, row.system_id, round(row.score, 2)) for row in ranking.systems]
        [(1, 'clear', 4.15), (2, 'noisy', 2.17)]
        >>> ranking.ties
        ()

    Source: ECS is Algorithm 1 of the URGENT-PK paper; the strengths are Davidson's (1970), see `bradley_terry`.

    A score is the accumulated votes ("binary", "soft": they sum to U*S*(S-1)/2), the strength in logits with mean 0
    ("bradley-terry"), or the mean over contents in the metric's own unit ("mos").

    low..high is an interval at `confidence` for one score: `resampling.vote_interval` for votes, `scale_interval` for means,
    `open_interval` for strengths, with the bootstrap's standard error, which is never taken for less than one vote turned in
    one more content where all verdicts are whole (a system that won everything is not known to win always). From a single
    content nothing is known: -inf..inf (null in JSON) and ranks 1..S.

    rank_low..rank_high counts the systems that are significantly better or worse (`resampling.sign_flip_p` at
    1 - confidence); it covers the true ranks of all systems at once at `confidence`. Bootstrapped ranks would not:
    among equals they are too narrow (Mogstad, Romano, Shaikh and Wilhelm 2024, "Inference for ranks", Review of Economic
    Studies 91). Votes and Bradley-Terry on complete data test the difference of votes per content, which is the score
    statistic of equal strengths there; `mos` tests the difference of scores.

    Missing values: every value is used. Votes of a pair of systems are those of the contents that it has, scaled to all
    contents; means have an effect for each content (`additive`); Bradley-Terry uses every comparison. `warnings` say how much
    is missing.
    """
    _check_request(systems, contents, scores, better, pairs, scoring, confidence, samples, human, bounds, silent)
    names = sorted(systems)
    by_system, by_content = _places_of(names, systems), _places_of(sorted(contents), contents)
    grid = np.ix_(by_system, by_content)
    good = None if scores is None else _goodness(scores, better)[grid]
    verdicts = None if pairs is None else _antisymmetric(pairs)[np.ix_(by_system, by_system, by_content)]
    low, high = bounds or (-np.inf, np.inf)
    scale = (low, high) if better == "higher" else (-high, -low)
    quiet = np.zeros((len(systems), len(contents)), bool) if silent is None else np.asarray(silent, bool)[grid]
    good, votes, behind = _without_speech(good, verdicts, quiet, "soft" if scoring == "soft" else "binary", scale[0])
    plan = scorings.Plan(names, confidence, samples, seed, prior, scale, progress)
    scored = scorings.last(scorings.SCORERS[scoring](good, votes, plan), behind)
    order, places = _places(scored.score, names, behind)
    p_value, clear = scorings.tested(scored, places, plan)
    mos = None if human is None else np.asarray(human, float)[by_system]
    return Ranking(
        model=model,
        scoring=scoring,
        confidence=confidence,
        n_contents=scored.n_contents,
        systems=_rows(scored, names, order, places, clear, scoring == "mos" and better == "lower", mos),
        win_rate=_table(_win_rate(votes), names),
        correlation=None if mos is None else correlations(scored.score, mos),
        samples=samples,
        seed=seed,
        warnings=scored.warnings + _remarks(scored.n_contents, confidence, mos, behind),
        p_better=_table(resampling.share_better(scored.draws), names),
        p_value=_table(p_value, names),
    )


def pairwise_from_scores(scores: Array, better: Better = "higher", link: Literal["binary", "soft"] = "binary") -> Array:
    """(S, S, U) P(i better than j) from scores (S, U); NaN where either score is missing, and on the diagonal.

    binary: 1 better, 0 worse, 0.5 equal but for rounding. soft: the logistic function of the difference, divided by the root
    mean square of all differences between two systems on one content. That scale is the data's own: votes do not change with
    the metric's unit or offset, no metric needs a constant that somebody tuned, and a typical difference is worth 0.73.
    It is computed once, from all contents, and then held: resampling contents does not recalibrate the judge.
    """
    good = _goodness(scores, better)
    difference = good[:, None, :] - good[None, :, :]
    noise = EQUAL * float(np.abs(good[~np.isnan(good)]).max(initial=0.0))
    difference[np.abs(difference) <= noise] = 0.0
    diagonal = np.arange(len(good))
    difference[diagonal, diagonal] = np.nan
    if link == "binary":
        return np.where(np.isnan(difference), np.nan, (np.sign(difference) + 1) / 2)
    if link != "soft":
        raise UsageError(f"unknown link {link!r}. Choose from: binary, soft.")
    is_known = ~np.isnan(difference)
    scale = np.sqrt((difference[is_known] ** 2).mean()) if is_known.any() else 0.0
    return np.asarray(expit(difference / (scale or 1.0)))


def ecs_votes(pairs: Array, scoring: Literal["binary", "soft"] = "binary") -> Array:
    """(S, U) votes of each system on each content, by Algorithm 1 of the URGENT-PK paper; pairs (S, S, U).

    The accumulated scores of the algorithm are the sums over contents; all together they are U*S*(S-1)/2. Missing pairs
    vote for nobody; the diagonal is not read.

    binary: P > 0.5 votes for i, P < 0.5 for j. The paper's `else` also gives an exact 0.5 to the second system, which
    makes the result depend on the order in which the systems are listed; here either gets half a vote. soft: P for i and
    1 - P for j.
    """
    return np.asarray(np.nansum(scorings.shares_of(pairs, scoring), axis=1))


def correlations(score: Array, mos: Array) -> dict[str, float | None]:
    """Kendall's tau-b, Spearman's and Pearson's correlation of scores (S,), larger being better, with MOS (S,).

    Systems without MOS (NaN) are left out. None where a side is constant or fewer than three systems are left.
    """
    both = np.isfinite(mos) & np.isfinite(score)
    x, y = score[both], mos[both]
    if len(x) < FEWEST_SYSTEMS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return {"krcc": None, "srcc": None, "lcc": None}
    measures: dict[str, Callable[[Array, Array], tuple[float, float]]]
    measures = {"krcc": kendalltau, "srcc": spearmanr, "lcc": pearsonr}
    return {name: float(measure(x, y)[0]) for name, measure in measures.items()}


def _without_speech(
    good: Array | None, pairs: Array | None, silent: Array, link: Literal["binary", "soft"], worst: float
) -> tuple[Array | None, Array, Array]:
    """Scores (S, U) and verdicts (S, S, U) with what silent clips deserve, and (S,) bool of systems that are nothing else.

    good (S, U), pairs (S, S, U): values of the judge, larger being better; worst: that end of the scale. This is the one
    place where silence counts.
    """
    spoken = None if good is None else np.where(silent, np.nan, good)
    if pairs is not None:
        votes = np.array(pairs)
    else:
        assert spoken is not None
        votes = pairwise_from_scores(spoken, "higher", link)
    if not silent.any():
        return good, votes, np.zeros(len(silent), bool)
    speech = ~silent & _present(spoken, pairs)
    votes[silent[:, None] & speech[None]] = 0.0
    votes[speech[:, None] & silent[None]] = 1.0
    votes[silent[:, None] & silent[None]] = 0.5
    diagonal = np.arange(len(votes))
    votes[diagonal, diagonal] = np.nan
    if spoken is not None:
        floor = min([x for x in (worst, *spoken[speech & ~np.isnan(spoken)]) if np.isfinite(x)], default=0.0)
        good = np.where(silent, floor, spoken)
    return good, votes, silent.any(1) & ~speech.any(1)


def _present(good: Array | None, pairs: Array | None) -> Array:
    """(S, U) bool: clips that the judge has an answer for."""
    scored = False if good is None else ~np.isnan(good)
    if pairs is None:
        return np.asarray(scored)
    is_known = ~np.isnan(pairs)
    diagonal = np.arange(len(is_known))
    is_known[diagonal, diagonal] = False
    return np.asarray(scored | is_known.any(1))


def _places_of(ordered: Sequence[str], names: Sequence[str]) -> Array:
    """(N,) int where each of `ordered` is in `names`."""
    place = {name: k for k, name in enumerate(names)}
    return np.array([place[name] for name in ordered])


def _places(score: Array, names: list[str], behind: Array) -> tuple[list[int], Array]:
    """The order in which to list systems, best first and equals by name, and each system's rank (S,), equals sharing it.

    Systems that are `behind` (S,) bool come after all others, at any score.
    """
    descending = np.lexsort((-score, behind))
    step = EQUAL * max(1.0, float(np.abs(score).max()))
    places = np.empty(len(score), int)
    for position, i in enumerate(descending):
        before = descending[position - 1]
        shared = position > 0 and score[before] - score[i] <= step and behind[before] == behind[i]
        places[i] = places[before] if shared else position + 1
    return sorted(range(len(score)), key=lambda i: (places[i], names[i])), places


def _rows(
    scored: scorings.Scored, names: list[str], order: list[int], places: Array, clear: Array, flip: bool, mos: Array | None
) -> tuple[SystemRank, ...]:
    sign = -1.0 if flip else 1.0
    rows = []
    for i in order:
        low, high = sorted((sign * float(scored.low[i]), sign * float(scored.high[i])))
        row = SystemRank(
            system_id=names[i],
            rank=int(places[i]),
            rank_low=1 + int((clear[i] < 0).sum()),
            rank_high=len(names) - int((clear[i] > 0).sum()),
            score=sign * float(scored.score[i]),
            low=low,
            high=high,
            mos=None if mos is None or np.isnan(mos[i]) else float(mos[i]),
            not_distinguishable_from=tuple(names[j] for j in order if j != i and clear[i, j] == 0),
        )
        rows.append(row)
    return tuple(rows)


def _win_rate(pairs: Array) -> Array:
    """(S, S) share of contents that the row won against the column, a tie being half; NaN where they never met."""
    won = (np.sign(pairs - 0.5) + 1) / 2
    is_known = ~np.isnan(won)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(is_known, won, 0.0).sum(2) / is_known.sum(2))


def _table(values: Array, names: list[str]) -> dict[str, dict[str, float]]:
    return {a: {b: float(values[i, j]) for j, b in enumerate(names) if i != j} for i, a in enumerate(names)}


def _antisymmetric(pairs: Array) -> Array:
    """(S, S, U) exactly antisymmetric, whichever of the two was rounded: a copy of float32 sums to 1 within 1e-7 only."""
    given = np.asarray(pairs, float)
    both = (given + 1 - given.swapaxes(0, 1)) / 2
    both[np.arange(len(both)), np.arange(len(both))] = np.nan
    return np.asarray(both)


def _goodness(scores: Array, better: Better) -> Array:
    """(S, U) float64 scores, larger being better."""
    if better not in get_args(Better):
        raise UsageError(f"unknown direction {better!r}. Choose from: higher, lower.")
    values = np.asarray(scores, float)
    return values if better == "higher" else -values


def _off_diagonal(n_systems: int) -> Array:
    """(S, S) bool."""
    return ~np.eye(n_systems, dtype=bool)


def _remarks(n_contents: int, confidence: float, mos: Array | None, behind: Array) -> tuple[str, ...]:
    """Warnings besides those of the scoring."""
    remarks = _few_contents(n_contents, confidence)
    if behind.all():
        remarks = ("No clip holds speech: all systems are equal. Check what they wrote.", *remarks)
    without = 0 if mos is None else int(np.isnan(mos).sum())
    if mos is not None and 0 < without < len(mos):
        verb = "has" if without == 1 else "have"
        remarks += (f"{without} of {len(mos)} systems {verb} no MOS of listeners. The correlation is that of the others.",)
    return remarks


def _few_contents(n_contents: int, confidence: float) -> tuple[str, ...]:
    needed = int(np.ceil(1 - np.log2(1 - confidence) - 1e-9))
    if n_contents >= needed:
        return ()
    without = " and no interval of a score can be given" if n_contents == 1 else ""
    contents = "1 content" if n_contents == 1 else f"{n_contents} contents"
    return (f"{contents} cannot tell systems apart at {100 * confidence:g} % confidence{without}. Use {needed} or more.",)


def _check_request(
    systems: Sequence[str],
    contents: Sequence[str],
    scores: Array | None,
    better: str,
    pairs: Array | None,
    scoring: str,
    confidence: float,
    samples: int,
    human: Array | Sequence[float] | None,
    bounds: tuple[float, float] | None,
    silent: Array | None,
) -> None:
    """UsageError if `rank` cannot work with this."""
    if scoring not in get_args(Scoring):
        raise UsageError(f"unknown scoring {scoring!r}. Choose from: {', '.join(get_args(Scoring))}.")
    if better not in get_args(Better):
        raise UsageError(f"unknown direction {better!r}. Choose from: higher, lower.")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence {confidence:g} is not between 0 and 1. Use for example --confidence 0.95.")
    if samples < 2:
        raise UsageError(f"{samples} bootstrap samples are too few. Use 2 or more; 1000 is the default.")
    for what, ids in (("system", systems), ("content", contents)):
        _check_names(what, ids)
    n_systems, n_contents = len(systems), len(contents)
    if n_systems < 2:
        raise UsageError(f"a ranking needs at least 2 systems, found {n_systems}. Add a system to compare with.")
    if n_contents == 0:
        raise UsageError("the systems have no content in common. Name files alike in each system's folder.")
    if scores is None and pairs is None:
        raise UsageError("nothing to rank by. Pass scores (systems, contents) or pairs (systems, systems, contents).")
    if scores is None and scoring == "mos":
        raise UsageError("mos needs a score per clip, and this model only compares pairs. Use --scoring binary or soft.")
    if scores is not None:
        _check_values("scores", np.asarray(scores, float), (n_systems, n_contents))
    if pairs is not None:
        _check_values("pairs", np.asarray(pairs, float), (n_systems, n_systems, n_contents))
        _check_pairs(np.asarray(pairs, float))
    if human is not None:
        _check_values("human", np.asarray(human, float), (n_systems,))

    if bounds is not None and not bounds[0] < bounds[1]:
        raise UsageError(f"a scale from {bounds[0]:g} to {bounds[1]:g} has no room. Give its lower end first.")
    if silent is not None and np.shape(silent) != (n_systems, n_contents):
        raise UsageError(
            f"silent has shape {np.shape(silent)}, but the names say {(n_systems, n_contents)}. Pass a bool per clip."
        )


def _check_names(what: str, names: Sequence[str]) -> None:
    """UsageError if two names are one, be it in two Unicode spellings of a letter with an accent."""
    spelt = [normalize("NFC", name) for name in names]
    twice = sorted(name for name, n in Counter(spelt).items() if n > 1)
    if not twice:
        return
    spellings = {name for name, form in zip(names, spelt, strict=True) if form == twice[0]}
    why = " in two Unicode spellings" if len(spellings) > 1 else ""
    raise UsageError(f"{what} {shown(twice[0], 200)} is listed more than once{why}. Give every {what} its own name.")


def _check_values(what: str, values: Array, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise UsageError(f"{what} has shape {values.shape}, but the names say {shape}. Pass one value for each of them.")
    if (np.abs(values) > LARGEST).any():
        kind = "an infinite value" if np.isinf(values).any() else f"a value beyond {LARGEST:g}"
        raise UsageError(f"{what} holds {kind}, which cannot be averaged. Make it missing (NaN) or clip it.")


def _check_pairs(pairs: Array) -> None:
    off = pairs[_off_diagonal(len(pairs))]
    swapped = pairs.swapaxes(0, 1)[_off_diagonal(len(pairs))]
    if (np.isnan(off) != np.isnan(swapped)).any() or (np.abs(off + swapped - 1) > 1e-6).any():
        raise UsageError("pairs[i, j] and pairs[j, i] must sum to 1. Average the judge over both orders of a pair.")
    if (off < 0).any() or (off > 1).any():
        raise UsageError("pairs must be probabilities between 0 and 1. Pass logits through the logistic function first.")
