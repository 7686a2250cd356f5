"""Scorings: from verdicts or values to S scores, the influence of each content on them, and tests of each pair.

With every scoring, every value is used, also on contents that not all systems have; without gaps the formulas reduce to
sums and means. Numpy/scipy only.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from urgentmos.errors import UsageError
from urgentmos.ranking import additive, bradley_terry, equal_strengths, resampling
from urgentmos.ranking.names import Scoring

Array = np.ndarray  # float64 unless a docstring states another type
Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, how much there is

PAIRS = "comparing pairs of systems"
TESTS = "testing differences"
_ROWS = 200_000  # numbers of one kind held at once for a part of the pairs


@dataclass(frozen=True)
class Plan:
    """The settings of a scoring besides its data."""

    names: list[str]
    confidence: float
    samples: int
    seed: int
    prior: float
    bounds: tuple[float, float]  # of the scores' scale, larger being better
    progress: Progress | None = None


@dataclass(frozen=True)
class Scored:
    """The result of a scoring; larger scores are better."""

    score: Array  # (S,)
    low: Array  # (S,)
    high: Array  # (S,)
    draws: Array  # (B, S) bootstrap
    differences: Array  # (P, U) per pair of systems, i < j, how much i is better on a content
    n_contents: int
    warnings: tuple[str, ...] = ()
    paired: bool = True  # every content compares both systems of every pair directly


# ---- votes


def by_votes(pairs: Array, scoring: Literal["binary", "soft"], plan: Plan) -> Scored:
    """Accumulated votes; pairs (S, S, U), NaN where missing.

    Two systems' votes on the contents that compare them count for all U contents: they are multiplied by U / n. So all votes
    add up to U*S*(S-1)/2 whatever is missing. Each pair of systems needs one content in common at least.
    """
    share, pairs, warnings = _shares(pairs, scoring, plan)
    played = ~np.isnan(share)
    n_systems, _, n_contents = share.shape
    met = played.sum(2)
    weight = np.divide(n_contents, met, out=np.zeros(met.shape), where=met > 0)
    rate = np.nansum(share, axis=2) / np.maximum(met, 1)
    votes = (np.where(played, share, 0.0) * weight[:, :, None]).sum(1)
    score = votes.sum(1)
    influence = votes - np.einsum("ij,iju->iu", rate * weight, played)
    # The pair with the fewest contents decides how sure a system's score is.
    counts = np.where(np.eye(n_systems, dtype=bool), n_contents, met).min(1)
    draws = _draws(score, influence, plan)
    turned = n_contents / counts * np.sqrt(counts / (counts + 1))
    floor = turned if scoring == "binary" or _whole(pairs) else 0.0
    error = np.maximum(resampling.standard_errors(draws, counts), floor)
    low, high = resampling.vote_interval(score, error, counts, plan.confidence, n_contents * (n_systems - 1))
    complete = bool((met + np.eye(n_systems) * n_contents == n_contents).all())
    differences = pair_differences(votes) if complete else _vote_differences(share, plan)
    return Scored(score, low, high, draws, differences, n_contents, warnings, complete)


def shares_of(pairs: Array, scoring: Literal["binary", "soft"]) -> Array:
    """(S, S, U) of each verdict what goes to the row system, NaN where missing and on the diagonal."""
    share = (np.sign(pairs - 0.5) + 1) / 2 if scoring == "binary" else np.array(pairs, float)
    diagonal = np.arange(len(share))
    share[diagonal, diagonal] = np.nan
    return np.asarray(share)


def _shares(pairs: Array, scoring: Literal["binary", "soft"], plan: Plan) -> tuple[Array, Array, tuple[str, ...]]:
    """The votes of contents that compare anyone, their pairs, and sentences about the rest. UsageError as `by_votes` needs."""
    share = shares_of(pairs, scoring)
    played = ~np.isnan(share)
    used = played.any((0, 1))
    unmet = np.argwhere(~(played.any(2) | np.eye(len(pairs), dtype=bool)))
    if len(unmet):
        first, second = (plan.names[k] for k in unmet[0])
        verb = "has" if len(unmet) == 2 else "have"
        raise UsageError(
            f"{_count(len(unmet) // 2, 'pair')} of systems {verb} no content in common, which {scoring} votes need. The first: "
            f"{first} and {second}. Use --scoring bradley-terry, or --scoring mos where clips have scores."
        )
    gaps = int((~played[:, :, used]).sum() - len(pairs) * used.sum()) // 2
    warnings = _unused(used, "compares no two systems")
    if gaps:
        total = len(pairs) * (len(pairs) - 1) // 2 * int(used.sum())
        warnings += (
            f"{gaps} of {total} comparisons are missing: a pair of systems counts by the contents that it has, "
            f"{int(played.sum(2)[_off_diagonal(len(pairs))].min())} of {used.sum()} at least.",
        )
    return share[:, :, used], pairs[:, :, used], warnings


def _vote_differences(share: Array, plan: Plan) -> Array:
    """(P, U) what each content adds to the difference of two systems' votes, as if they were equally good.

    Against a third system, both are held to what they reach together; so a content that only one of them has adds a term of
    mean 0. Divided by U: the sums are differences of votes per content.
    """
    n_systems = len(share)
    played = (~np.isnan(share)).astype(float)
    won = np.where(played > 0, share, 0.0)
    met = played.sum(2)
    per = np.divide(1.0, met, out=np.zeros(met.shape), where=met > 0)
    scaled = won * per[:, :, None]
    total, wins = scaled.sum(1), won.sum(2)
    chunks = []
    for i in range(n_systems - 1):
        j = np.arange(i + 1, n_systems)
        together = np.divide(wins[i] + wins[j], met[i] + met[j], out=np.zeros((len(j), n_systems)), where=met[i] + met[j] > 0)
        together[np.arange(len(j)), j] = together[:, i] = 0.0
        own = (total[i] - scaled[i, j]) - (together * per[i]) @ played[i]
        other = (total[j] - scaled[j, i]) - np.einsum("jk,jku->ju", together * per[j], played[j])
        chunks.append(2 * (won[i, j] - 0.5 * played[i, j]) * per[i, j][:, None] + own - other)
        _tell(plan, PAIRS, i + 1, n_systems - 1)
    differences = np.concatenate(chunks)
    return np.where(np.abs(differences) < 1e-12, 0.0, differences)


# ---- means


def by_mean(good: Array, plan: Plan) -> Scored:
    """Means over contents; good (S, U), larger being better, NaN where missing."""
    is_known = ~np.isnan(good)
    empty = [name for name, row in zip(plan.names, is_known, strict=True) if not row.any()]
    if empty:
        raise UsageError(f"no scores for {', '.join(empty)}. Score these systems first, or leave them out.")
    used = is_known.any(0)
    good, is_known = good[:, used], is_known[:, used]
    fitted = additive.fit(good)
    low_end, high_end = min(plan.bounds[0], float(np.nanmin(good))), max(plan.bounds[1], float(np.nanmax(good)))
    score = np.clip(fitted.mean, low_end, high_end)
    counts = is_known.sum(1)
    draws = _draws(score, fitted.influence, plan)
    error = resampling.standard_errors(draws, counts)
    low, high = resampling.scale_interval(score, error, counts, plan.confidence, low_end, high_end)
    complete = bool(is_known.all())
    differences = pair_differences(good) / good.shape[1] if complete else _all_pairs(fitted.differences, len(good), plan)
    warnings = _unused(used, "has no score") + _mean_warnings(fitted, score, plan)
    return Scored(score, low, high, draws, differences, good.shape[1], warnings, complete)


def _mean_warnings(fitted: additive.Additive, score: Array, plan: Plan) -> tuple[str, ...]:
    is_known = fitted.present
    missing = int(is_known.size - is_known.sum())
    if not missing:
        return ()
    gaps = int((is_known == 0).any(0).sum())
    sentence = f"{missing} of {is_known.size} scores are missing, on {gaps} of {_count(is_known.shape[1], 'content')}"
    warnings = [f"{sentence}: means are adjusted for the contents that each system has."]
    groups = [[n for n, g in zip(plan.names, fitted.group, strict=True) if g == k] for k in np.unique(fitted.group)]
    if len(groups) > 1:
        shown = "; ".join(f"({', '.join(group)})" for group in groups)
        warnings.append(
            f"{len(groups)} groups of systems share no content: {shown}. Each group's means are over its own contents, "
            "and no two systems of different groups can be told apart."
        )
    moved = [n for n, a, b in zip(plan.names, fitted.mean, score, strict=True) if abs(a - b) > 1e-9 * (1 + abs(b))]
    if moved:
        names = f"{', '.join(moved[:3])}{' and others' if len(moved) > 3 else ''}"
        warnings.append(f"The adjusted mean of {names} would lie beyond the scale and is set to its end.")
    return tuple(warnings)


# ---- strengths


def by_strength(pairs: Array, plan: Plan) -> Scored:
    """Bradley-Terry strengths with ties; pairs (S, S, U), NaN where missing."""
    played = ~np.isnan(pairs) & _off_diagonal(len(pairs))[:, :, None]
    used = played.any((0, 1))
    if not used.any():
        raise UsageError("no two systems have a content in common. Rank on contents that systems share.")
    pairs, played = pairs[:, :, used], played[:, :, used]
    n_systems, _, n_contents = pairs.shape
    # An exact 0.5 is a tie; any other P counts as P wins and 1 - P losses, the expected outcome of the comparison.
    ties = (played & (pairs == 0.5)).astype(float)
    games = bradley_terry.Games(np.where(played, pairs, 0.0) * (1 - ties), ties, played)
    wins, tied = games.wins.sum(2), games.ties.sum(2)
    fitted = bradley_terry.fit(wins, tied, prior=plan.prior, systems=plan.names)
    prior = max(plan.prior, bradley_terry.PRIOR)
    counts = games.total + 2 * bradley_terry.prior_wins(n_systems, prior)
    inverse = np.linalg.inv(bradley_terry.information(counts, fitted.theta, fitted.nu))
    influence = (inverse @ games.gradient(fitted.theta, fitted.nu))[:-1]
    draws = _draws(fitted.theta, influence, plan)
    n_played = played.any(1).sum(1)
    error = resampling.standard_errors(draws, n_played)
    if _whole(pairs):
        one_vote = inverse.diagonal()[:-1] - 1 / n_systems
        error = np.maximum(error, one_vote * np.sqrt(n_played / (n_played + 1)))
    low, high = resampling.open_interval(fitted.theta, error, n_played, plan.confidence)
    if games.complete:
        differences = pair_differences(np.nansum(shares_of(pairs, "soft"), axis=1))
    else:
        differences = _strength_differences(games, bradley_terry.fit(wins, tied, prior=prior), prior, plan)
    warnings = fitted.warnings + _unused(used, "compares no two systems")
    gaps = int(_off_diagonal(n_systems).sum() * n_contents - played.sum()) // 2
    if gaps:
        total = n_systems * (n_systems - 1) // 2 * n_contents
        warnings += (f"{gaps} of {total} comparisons are missing: strengths rest on the others.",)
    return Scored(fitted.theta, low, high, draws, differences, n_contents, warnings, games.complete)


def _strength_differences(games: bradley_terry.Games, fitted: bradley_terry.Strengths, prior: float, plan: Plan) -> Array:
    """(P, U), see `equal_strengths`; 0 for pairs that no chain of comparisons links, or that speak against the strengths."""
    first, second = np.triu_indices(len(games.wins), 1)

    def chunks(i: Array, j: Array, rows: int) -> Iterator[Array]:
        return equal_strengths.differences(games, fitted, prior, i, j, rows)

    differences = _all_pairs(chunks, len(games.wins), plan)
    agrees = differences.sum(1) * (fitted.theta[first] - fitted.theta[second]) > 0
    group = bradley_terry.linked(games.total > 0)
    kept = np.where((agrees & (group[first] == group[second]))[:, None], differences, 0.0)
    return np.where(np.abs(kept) < 1e-12, 0.0, kept)


# ---- shared


def _mean_of_scores(good: Array | None, votes: Array, plan: Plan) -> Scored:
    assert good is not None  # `rank` has checked it
    return by_mean(good, plan)


# From (good (S, U) or None, votes (S, S, U), plan) to scores. A further scoring is a row here and one in `names`.
SCORERS: dict[Scoring, Callable[[Array | None, Array, Plan], Scored]] = {
    "binary": lambda good, votes, plan: by_votes(votes, "binary", plan),
    "soft": lambda good, votes, plan: by_votes(votes, "soft", plan),
    "bradley-terry": lambda good, votes, plan: by_strength(votes, plan),
    "mos": _mean_of_scores,
}


def pair_differences(per_content: Array) -> Array:
    """(P, U) differences between the systems of every pair i < j; per_content (S, U)."""
    first, second = np.triu_indices(len(per_content), 1)
    return np.asarray(per_content[first] - per_content[second])


def _all_pairs(chunks: Callable[[Array, Array, int], Iterator[Array]], n_systems: int, plan: Plan) -> Array:
    """(P, U) of every pair i < j, from a function that yields them in chunks."""
    first, second = np.triu_indices(n_systems, 1)
    parts, done = [], 0
    for part in chunks(first, second, max(1, _ROWS // n_systems)):
        parts.append(part)
        done += len(part)
        _tell(plan, PAIRS, done, len(first))
    return np.concatenate(parts)


def _draws(score: Array, influence: Array, plan: Plan) -> Array:
    """(B, S) scores of bootstrap samples of contents, to the first order in the contents' weights; influence (S, U).

    For votes and means without gaps that is exact.
    """
    weights = resampling.content_weights(influence.shape[1], plan.samples, plan.seed)
    return np.asarray(score + (weights - 1) @ influence.T)


def tested(scored: Scored, order: Array, plan: Plan) -> tuple[Array, Array]:
    """(S, S) corrected p-values, and (S, S) 1 where i is significantly better than j, -1 where worse, 0 where not.

    order (S,): places of the systems; a difference that is not in their order is none.
    """
    n_systems = len(scored.score)
    first, second = np.triu_indices(n_systems, 1)
    done = [0]
    total = resampling.n_sign_patterns(scored.differences.shape[1])

    def step(n: int) -> None:
        done[0] += n
        _tell(plan, TESTS, min(done[0], total), total)

    p = resampling.sign_flip_p(scored.differences, plan.seed, step)
    if not scored.paired:
        p = np.maximum(p, resampling.uneven_p(scored.differences))
    against = np.sign(scored.differences.sum(1)) != np.sign(order[second] - order[first])
    p = np.where(against, 1.0, p)
    verdict = np.where(p <= 1 - plan.confidence + 1e-12, np.sign(order[second] - order[first]), 0.0)
    p_value, clear = np.ones((n_systems, n_systems)), np.zeros((n_systems, n_systems))
    p_value[first, second] = p_value[second, first] = p
    clear[first, second], clear[second, first] = verdict, -verdict
    return p_value, clear


def last(scored: Scored, behind: Array) -> Scored:
    """The same with the systems `behind` (S,) bool not above any other, in their scores and in every draw."""
    if not behind.any() or behind.all():
        return scored
    score = np.where(behind, np.minimum(scored.score, scored.score[~behind].min()), scored.score)
    draws = np.where(behind, np.minimum(scored.draws, scored.draws[:, ~behind].min(1, keepdims=True)), scored.draws)
    low, high = np.minimum(scored.low, score), np.maximum(scored.high, score)
    return replace(scored, score=score, low=low, high=high, draws=draws)


def _tell(plan: Plan, title: str, done: int, total: int) -> None:
    if plan.progress is not None:
        plan.progress(title, done, total)


def _unused(used: Array, why: str) -> tuple[str, ...]:
    left = int((~used).sum())
    return (f"{_count(left, 'content')} of {len(used)} left out: {'it' if left == 1 else 'each'} {why}.",) if left else ()


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _off_diagonal(n_systems: int) -> Array:
    """(S, S) bool."""
    return ~np.eye(n_systems, dtype=bool)


def _whole(pairs: Array) -> bool:
    """Whether every verdict is a win, a tie or a loss, nothing between."""
    return bool(np.isin(pairs[~np.isnan(pairs)], (0.0, 0.5, 1.0)).all())
