"""From scores or pairwise verdicts of S systems on U contents to a ranking that says how sure it is; numpy/scipy only.

Scorings: ECS of the URGENT-PK paper (Algorithm 1; binary or soft votes), Bradley-Terry with ties, and the mean score.
Whatever the scoring, uncertainty comes from the contents (`resampling`): intervals of scores by a bootstrap of contents,
and joint sign-flip tests of all pairs of systems, from which both the intervals of ranks and the ties are read.
Systems and contents are sorted by name before anything is computed, so their order never changes a result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.special import expit
from scipy.stats import kendalltau, pearsonr, spearmanr

from urgentmos import bradley_terry, resampling
from urgentmos.errors import UsageError
from urgentmos.ranking_result import Ranking, SystemRank, tie_groups

__all__ = ["Ranking", "SystemRank", "correlations", "ecs_votes", "pairwise_from_scores", "rank"]

Array = np.ndarray  # float64 unless a docstring says otherwise
Better = Literal["higher", "lower"]
Scoring = Literal["binary", "soft", "bradley-terry", "mos"]

EQUAL = 1e-9  # scores closer than this, relative to the largest, differ by rounding only and share a rank


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
) -> Ranking:
    """Rank S systems on U contents.

    scores (S, U): a metric's value per clip, NaN where missing; `better` is its direction. pairs (S, S, U): P(row system
    sounds better than column system) per content, 0.5 a tie, NaN where missing; where both are given, votes and
    Bradley-Terry read the pairs, `mos` the scores. human (S,): MOS of listeners, to correlate with. `prior` is that of
    `bradley_terry.fit`; resamples keep at least the default one, since they can lose what links the systems.

    A score is the accumulated votes ("binary", "soft": they sum to U*S*(S-1)/2), the strength in logits with mean 0
    ("bradley-terry"), or the mean over contents in the metric's own unit ("mos").

    low..high is an interval at `confidence` for one score: `resampling.vote_interval` for votes, `open_interval` for the
    others, with the bootstrap's standard error, which is never taken for less than one vote turned in one more content
    where all verdicts are whole (a system that won everything is not known to win always). From a single content nothing
    can be said: -inf..inf (null in JSON) and ranks 1..S.

    rank_low..rank_high counts the systems that are significantly better or worse (`resampling.sign_flip_p` at
    1 - confidence); it covers the true ranks of all systems at once at `confidence`. Bootstrapped ranks would not:
    among equals they are too narrow (Mogstad, Romano, Shaikh and Wilhelm 2024, "Inference for ranks", Review of Economic
    Studies 91). Votes and Bradley-Terry on complete data test the difference of votes per content, which is the score
    statistic of equal strengths there; `mos` tests the difference of scores.

    Missing values: votes and `mos` use the contents that are complete for all systems; `mos` without any uses the mean
    of what each system has; Bradley-Terry uses every comparison. What was left out is said in `warnings`.

    Raises UsageError, saying what to do, when the input is not understood, or when votes have no complete content.
    """
    _check_request(systems, contents, scores, better, pairs, scoring, confidence, samples, human)
    by_system, by_content = np.argsort(np.array(systems)), np.argsort(np.array(contents))
    names = [systems[i] for i in by_system]
    good = None if scores is None else _goodness(scores, better)[np.ix_(by_system, by_content)]
    votes = _votes(good, pairs, by_system, by_content, "soft" if scoring == "soft" else "binary")
    plan = _Plan(names, confidence, samples, seed, prior)
    if scoring == "mos":
        assert good is not None
        found = _by_mean(good, plan)
    elif scoring == "bradley-terry":
        found = _by_strength(votes, plan)
    else:
        found = _by_votes(votes, scoring, plan)
    order, places = _places(found.score, names)
    p_value, clear = _tested(found, confidence, seed)
    flip = scoring == "mos" and better == "lower"
    mos = None if human is None else np.asarray(human, float)[by_system]
    rows = _rows(found, names, order, places, clear, flip, mos)
    return Ranking(
        model=model,
        scoring=scoring,
        confidence=confidence,
        n_contents=found.n_contents,
        systems=rows,
        win_rate=_table(_win_rate(votes), names),
        ties=tie_groups([names[i] for i in order], clear[np.ix_(order, order)]),
        correlation=None if mos is None else correlations(found.score, mos),
        samples=samples,
        seed=seed,
        warnings=found.warnings + _few_contents(found.n_contents, confidence),
        p_better=_table(resampling.share_better(found.draws), names),
        p_value=_table(p_value, names),
    )


def pairwise_from_scores(scores: Array, better: Better = "higher", link: Literal["binary", "soft"] = "binary") -> Array:
    """(S, S, U) P(i better than j) from scores (S, U); NaN where either score is missing, and on the diagonal.

    binary: 1 better, 0 worse, 0.5 exactly equal. soft: the logistic function of the difference, divided by the root mean
    square of all differences between two systems on one content. That scale is the data's own: votes do not change with
    the metric's unit or offset, no metric needs a constant that somebody tuned, and a typical difference is worth 0.73.
    It is computed once, from all contents, and then held: resampling contents does not recalibrate the judge.
    """
    good = _goodness(scores, better)
    difference = good[:, None, :] - good[None, :, :]
    diagonal = np.arange(len(good))
    difference[diagonal, diagonal] = np.nan
    if link == "binary":
        return np.where(np.isnan(difference), np.nan, (np.sign(difference) + 1) / 2)
    if link != "soft":
        raise UsageError(f"unknown link {link!r}. Choose from: binary, soft.")
    known = ~np.isnan(difference)
    scale = np.sqrt((difference[known] ** 2).mean()) if known.any() else 0.0
    return np.asarray(expit(difference / (scale or 1.0)))


def ecs_votes(pairs: Array, scoring: Literal["binary", "soft"] = "binary") -> Array:
    """(S, U) votes of each system on each content, by Algorithm 1 of the URGENT-PK paper; pairs (S, S, U).

    The accumulated scores of the algorithm are the sums over contents; all together they are U*S*(S-1)/2. Missing pairs
    vote for nobody; the diagonal is not read.

    binary: P > 0.5 votes for i, P < 0.5 for j. The paper's `else` also gives an exact 0.5 to the second system, which
    makes the result depend on the order in which the systems are listed; here either gets half a vote. soft: P for i and
    1 - P for j.
    """
    share = (np.sign(pairs - 0.5) + 1) / 2 if scoring == "binary" else np.array(pairs, float)
    diagonal = np.arange(len(share))
    share[diagonal, diagonal] = np.nan
    return np.asarray(np.nansum(share, axis=1))


def correlations(score: Array, mos: Array) -> dict[str, float | None]:
    """Kendall's tau-b, Spearman's and Pearson's correlation of scores (S,), larger being better, with MOS (S,).

    Systems without MOS (NaN) are left out. None where a side is constant or fewer than two systems are left.
    """
    known = np.isfinite(mos) & np.isfinite(score)
    x, y = score[known], mos[known]
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return {"krcc": None, "srcc": None, "lcc": None}
    measures: dict[str, Callable[[Array, Array], tuple[float, float]]]
    measures = {"krcc": kendalltau, "srcc": spearmanr, "lcc": pearsonr}
    return {name: float(measure(x, y)[0]) for name, measure in measures.items()}


@dataclass(frozen=True)
class _Plan:
    """What every scoring needs to know beside its data."""

    names: list[str]
    confidence: float
    samples: int
    seed: int
    prior: float


@dataclass(frozen=True)
class _Found:
    """What a scoring hands back; scores with larger being better."""

    score: Array  # (S,)
    low: Array  # (S,)
    high: Array  # (S,)
    draws: Array  # (B, S)
    differences: Array  # (P, U) per pair of systems, i < j, how much i is better on a content
    n_contents: int
    warnings: tuple[str, ...] = ()
    paired: bool = True  # every content compares both systems of every pair directly


def _by_votes(pairs: Array, scoring: Literal["binary", "soft"], plan: _Plan) -> _Found:
    complete = ~np.isnan(pairs[_off_diagonal(len(pairs))]).any(0)
    if not complete.any():
        raise UsageError(
            f"no content has a verdict for every pair of the {len(pairs)} systems, which {scoring} votes need. "
            "Use --scoring bradley-terry, or --scoring mos where clips have scores."
        )
    kept = pairs[:, :, complete]
    votes = ecs_votes(kept, scoring)
    n_systems, n_contents = votes.shape
    score = votes.sum(1)
    draws = resampling.content_weights(n_contents, plan.samples, plan.seed) @ votes.T
    counts = np.full(n_systems, n_contents)
    floor = np.sqrt(n_contents / (n_contents + 1)) if scoring == "binary" or _whole(kept) else 0.0
    error = np.maximum(resampling.standard_errors(draws, counts), floor)
    low, high = resampling.vote_interval(score, error, counts, plan.confidence, n_contents * (n_systems - 1))
    return _Found(score, low, high, draws, _pair_differences(votes), n_contents, _dropped(complete))


def _by_mean(good: Array, plan: _Plan) -> _Found:
    known = ~np.isnan(good)
    complete = known.all(0)
    if complete.any():
        good, known, warnings = good[:, complete], known[:, complete], _dropped(complete)
    else:
        empty = [name for name, row in zip(plan.names, known, strict=True) if not row.any()]
        if empty:
            raise UsageError(f"no scores for {', '.join(empty)}. Score these systems first, or leave them out.")
        said = "No content has a score for every system: each system's mean is over the contents it has, which may differ."
        warnings = (said,)
    values = np.where(known, good, 0.0)
    counts = known.sum(1)
    score = values.sum(1) / counts
    weights = resampling.content_weights(good.shape[1], plan.samples, plan.seed)
    with np.errstate(invalid="ignore"):
        draws = (weights @ values.T) / (weights @ known.T.astype(float))
    error = resampling.standard_errors(draws, counts)
    low, high = resampling.open_interval(score, error, counts, plan.confidence)
    n_contents = int(known.any(0).sum())
    paired = bool(known.all())
    return _Found(score, low, high, draws, _mean_differences(values, known), n_contents, warnings, paired)


def _by_strength(pairs: Array, plan: _Plan) -> _Found:
    known = ~np.isnan(pairs) & _off_diagonal(len(pairs))[:, :, None]
    used = known.any((0, 1))
    if not used.any():
        raise UsageError("no two systems have a content in common. Rank on contents that systems share.")
    pairs, known = pairs[:, :, used], known[:, :, used]
    n_systems, _, n_contents = pairs.shape
    # An exact 0.5 is a tie; any other P counts as P wins and 1 - P losses, the expected outcome of the comparison.
    ties = (known & (pairs == 0.5)).astype(float)
    wins = np.where(known, pairs, 0.0) * (1 - ties)
    fitted = bradley_terry.fit(wins.sum(2), ties.sum(2), prior=plan.prior, systems=plan.names)
    prior = max(plan.prior, bradley_terry.PRIOR)
    weights = resampling.content_weights(n_contents, plan.samples, plan.seed)
    draws = _strength_draws(wins, ties, weights, fitted, prior)
    counts = known.any(1).sum(1)
    error = resampling.standard_errors(draws, counts)
    if _whole(pairs):
        games = known.sum(2) + 2 * bradley_terry.prior_wins(n_systems, prior)
        one_vote = np.linalg.inv(bradley_terry.information(games, fitted.theta, fitted.nu)).diagonal()[:-1] - 1 / n_systems
        error = np.maximum(error, one_vote * np.sqrt(counts / (counts + 1)))
    low, high = resampling.open_interval(fitted.theta, error, counts, plan.confidence)
    paired = bool(known.sum() == n_systems * (n_systems - 1) * n_contents)
    if paired:
        differences = _pair_differences(ecs_votes(pairs, "soft"))
    else:
        differences = _strength_differences(wins, ties, known, fitted.theta, prior)
    unused = (f"{_contents((~used).sum())} without any comparison left out.",) if not used.all() else ()
    return _Found(fitted.theta, low, high, draws, differences, n_contents, fitted.warnings + unused, paired)


def _strength_draws(wins: Array, ties: Array, weights: Array, start: bradley_terry.Strengths, prior: float) -> Array:
    """(B, S) strengths of each bootstrap sample, in chunks that keep memory flat."""
    n_systems, _, n_contents = wins.shape
    rows = max(1, resampling.CHUNK // n_systems**2 // 4)
    flat = [games.reshape(-1, n_contents).T for games in (wins, ties)]
    drawn = []
    for first in range(0, len(weights), rows):
        games = [(weights[first : first + rows] @ g).reshape(-1, n_systems, n_systems) for g in flat]
        drawn.append(bradley_terry.fit(games[0], games[1], prior=prior, start=start).theta)
    return np.concatenate(drawn)


def _pair_differences(per_content: Array) -> Array:
    """(P, U) differences between the systems of every pair i < j; per_content (S, U)."""
    first, second = np.triu_indices(len(per_content), 1)
    return np.asarray(per_content[first] - per_content[second])


def _mean_differences(values: Array, known: Array) -> Array:
    """(P, U) what each content adds to the difference of two means; values (S, U) are 0 where not known.

    A content that only one of the two has is measured from the mean of both, their common mean if they are equal.
    """
    first, second = np.triu_indices(len(values), 1)
    counts = known.sum(1)
    total = values.sum(1)
    common = (total[first] + total[second]) / (counts[first] + counts[second])
    part = [np.where(known[side], values[side] - common[:, None], 0.0) / counts[side][:, None] for side in (first, second)]
    return np.asarray(part[0] - part[1])


def _strength_differences(wins: Array, ties: Array, known: Array, theta: Array, prior: float) -> Array:
    """(P, U) what each content adds to the score statistic of "i and j are equally strong", comparisons being missing.

    The one Newton step from the fit in which the two are held equal (`bradley_terry.equal_fits`) is a sum over contents;
    a content in which neither takes part, directly or through others, adds 0. Cluster-robust score tests: Boos 1992,
    "On generalized score tests", The American Statistician 46. Pairs that no chain of comparisons links get 0: only the
    prior orders them. So do those whose step contradicts the strengths.
    """
    n_systems, _, n_contents = wins.shape
    all_first, all_second = np.triu_indices(n_systems, 1)
    balance = ((wins - wins.swapaxes(0, 1)) / 2).sum(1)
    compared = known.reshape(-1, n_contents).astype(float)
    n_ties = ties.sum((0, 1)) / 2
    games = known.sum(2) + 2 * bradley_terry.prior_wins(n_systems, prior)
    parts = []
    rows = max(1, resampling.CHUNK // n_systems**2 // 4)
    for start in range(0, len(all_first), rows):
        first, second = all_first[start : start + rows], all_second[start : start + rows]
        null = bradley_terry.equal_fits(wins.sum(2), ties.sum(2), first, second, prior=prior)
        contrast = np.zeros((len(first), n_systems + 1))
        contrast[np.arange(len(first)), first], contrast[np.arange(len(first)), second] = 1, -1
        step = np.linalg.solve(bradley_terry.information(games, null.theta, null.nu), contrast[..., None])[..., 0]
        mean, _, p_tie = bradley_terry.moments(null.theta, null.nu)
        expected = step[:, :-1, None] * mean + step[:, -1, None, None] * p_tie / 2
        seen = step[:, :-1] @ balance + step[:, [-1]] * n_ties
        parts.append(seen - expected.reshape(len(first), -1) @ compared)
    differences = np.concatenate(parts)
    agrees = differences.sum(1) * (theta[all_first] - theta[all_second]) > 0
    group = bradley_terry.linked(np.asarray(known.any(2)))
    return np.where((agrees & (group[all_first] == group[all_second]))[:, None], differences, 0.0)


def _tested(found: _Found, confidence: float, seed: int) -> tuple[Array, Array]:
    """(S, S) corrected p-values, and (S, S) 1 where i is significantly better than j, -1 where worse, 0 where not."""
    n_systems = len(found.score)
    first, second = np.triu_indices(n_systems, 1)
    p = resampling.sign_flip_p(found.differences, seed)
    if not found.paired:
        # What a content adds has mean 0 then, but no symmetry: many tiny shares of one sign, from contents that hardly
        # speak of the pair, would pass for as many verdicts. The t test weighs them.
        p = np.maximum(p, resampling.t_test_p(found.differences))
    verdict = np.where(p <= 1 - confidence + 1e-12, np.sign(found.differences.sum(1)), 0.0)
    p_value, clear = np.ones((n_systems, n_systems)), np.zeros((n_systems, n_systems))
    p_value[first, second] = p_value[second, first] = p
    clear[first, second], clear[second, first] = verdict, -verdict
    return p_value, clear


def _places(score: Array, names: list[str]) -> tuple[list[int], Array]:
    """The order in which to list systems, best first and equals by name, and each system's rank (S,), equals sharing it."""
    descending = np.argsort(-score, kind="stable")
    step = EQUAL * max(1.0, float(np.abs(score).max()))
    places = np.empty(len(score), int)
    for position, i in enumerate(descending):
        before = descending[position - 1]
        shared = position > 0 and score[before] - score[i] <= step
        places[i] = places[before] if shared else position + 1
    return sorted(range(len(score)), key=lambda i: (places[i], names[i])), places


def _rows(
    found: _Found, names: list[str], order: list[int], places: Array, clear: Array, flip: bool, mos: Array | None
) -> tuple[SystemRank, ...]:
    sign = -1.0 if flip else 1.0
    rows = []
    for i in order:
        low, high = sorted((sign * float(found.low[i]), sign * float(found.high[i])))
        place = int(places[i])
        best, worst = 1 + int((clear[i] < 0).sum()), len(names) - int((clear[i] > 0).sum())
        human = None if mos is None or np.isnan(mos[i]) else float(mos[i])
        score = sign * float(found.score[i])
        rows.append(SystemRank(names[i], place, min(best, place), max(worst, place), score, low, high, human))
    return tuple(rows)


def _win_rate(pairs: Array) -> Array:
    """(S, S) share of contents that the row won against the column, a tie being half; NaN where they never met."""
    won = (np.sign(pairs - 0.5) + 1) / 2
    known = ~np.isnan(won)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, won, 0.0).sum(2) / known.sum(2))


def _table(values: Array, names: list[str]) -> dict[str, dict[str, float]]:
    return {a: {b: float(values[i, j]) for j, b in enumerate(names) if i != j} for i, a in enumerate(names)}


def _votes(
    good: Array | None, pairs: Array | None, by_system: Array, by_content: Array, link: Literal["binary", "soft"]
) -> Array:
    """(S, S, U) the judge's verdicts if there are any, else those of the scores; systems and contents sorted."""
    if pairs is None:
        assert good is not None
        return pairwise_from_scores(good, "higher", link)
    # Exactly antisymmetric, whichever of the two was rounded: a copy of float32 sums to 1 within 1e-7 only.
    given = np.asarray(pairs, float)
    both = (given + 1 - given.swapaxes(0, 1)) / 2
    both[np.arange(len(both)), np.arange(len(both))] = np.nan
    return np.asarray(both[np.ix_(by_system, by_system, by_content)])


def _goodness(scores: Array, better: Better) -> Array:
    """(S, U) float64 scores, larger being better."""
    if better not in get_args(Better):
        raise UsageError(f"unknown direction {better!r}. Choose from: higher, lower.")
    values = np.asarray(scores, float)
    return values if better == "higher" else -values


def _off_diagonal(n_systems: int) -> Array:
    """(S, S) bool."""
    return ~np.eye(n_systems, dtype=bool)


def _whole(pairs: Array) -> bool:
    """Whether every verdict is a win, a tie or a loss, nothing between."""
    return bool(np.isin(pairs[~np.isnan(pairs)], (0.0, 0.5, 1.0)).all())


def _contents(n: int) -> str:
    return f"{n} content" if n == 1 else f"{n} contents"


def _dropped(complete: Array) -> tuple[str, ...]:
    if complete.all():
        return ()
    return (f"{_contents((~complete).sum())} of {len(complete)} left out: not every system has a value there.",)


def _few_contents(n_contents: int, confidence: float) -> tuple[str, ...]:
    needed = int(np.ceil(1 - np.log2(1 - confidence) - 1e-9))
    if n_contents >= needed:
        return ()
    without = " and no interval of a score can be given" if n_contents == 1 else ""
    return (
        f"{_contents(n_contents)} cannot tell systems apart at {100 * confidence:g} % confidence{without}. "
        f"Use {needed} or more.",
    )


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
        twice = sorted({i for i in ids if list(ids).count(i) > 1}) if len(set(ids)) < len(ids) else []
        if twice:
            raise UsageError(f"{what} {twice[0]!r} is listed more than once. Give every {what} its own name.")
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


def _check_values(what: str, values: Array, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise UsageError(f"{what} has shape {values.shape}, but the names say {shape}. Pass one value for each of them.")
    if np.isinf(values).any():
        raise UsageError(f"{what} holds an infinite value, which cannot be averaged. Make it missing (NaN) or clip it.")


def _check_pairs(pairs: Array) -> None:
    off = pairs[_off_diagonal(len(pairs))]
    swapped = pairs.swapaxes(0, 1)[_off_diagonal(len(pairs))]
    if (np.isnan(off) != np.isnan(swapped)).any() or (np.abs(off + swapped - 1) > 1e-6).any():
        raise UsageError("pairs[i, j] and pairs[j, i] must sum to 1. Average the judge over both orders of a pair.")
    if (off < 0).any() or (off > 1).any():
        raise UsageError("pairs must be probabilities between 0 and 1. Pass logits through the logistic function first.")
