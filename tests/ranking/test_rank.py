"""Ranking: votes, invariances, missing values, and whether intervals and tests keep their word on simulated data."""

import json
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from urgentmos.errors import UsageError
from urgentmos.ranking import bradley_terry
from urgentmos.ranking.rank import correlations, ecs_votes, pairwise_from_scores, rank

SCORINGS = ["binary", "soft", "bradley-terry", "mos"]


def ids(prefix: str, n: int) -> list[str]:
    return [f"{prefix}{i:02}" for i in range(n)]


def grid(n_systems: int, n_contents: int):
    """Scores with many equal values."""
    return arrays(float, (n_systems, n_contents), elements=st.integers(2, 10).map(lambda k: k / 2))


def rows(found):
    return {s.system_id: s for s in found.systems}


def numbers(found):
    """Everything numeric about each system, by name."""
    return {name: [s.rank, s.rank_low, s.rank_high, s.score, s.low, s.high] for name, s in rows(found).items()}


# ---- votes


def test_algorithm_1_on_a_worked_example():
    """Three systems, two contents, by hand; the tie on the first content is half a vote each."""
    scores = np.array([[3.0, 4.0], [3.0, 2.0], [1.0, 5.0]])
    pairs = pairwise_from_scores(scores)
    assert_array_equal(pairs[0, 1], [0.5, 1.0])
    assert_array_equal(ecs_votes(pairs, "binary"), [[1.5, 1.0], [1.5, 0.0], [0.0, 2.0]])
    judge = np.full((3, 3, 1), np.nan)
    for i, j, p in ((0, 1, 0.8), (0, 2, 0.4), (1, 2, 0.9)):
        judge[i, j], judge[j, i] = p, 1 - p
    assert_allclose(ecs_votes(judge, "soft")[:, 0], [1.2, 1.1, 0.7])
    assert_array_equal(ecs_votes(judge, "binary")[:, 0], [1, 1, 1])


@given(grid(4, 5), st.sampled_from(["binary", "soft"]))
def test_votes_sum_to_the_number_of_comparisons(scores, link):
    pairs = pairwise_from_scores(scores, link=link)
    assert_allclose(pairs + pairs.swapaxes(0, 1), np.broadcast_to(np.where(np.eye(4), np.nan, 1.0)[:, :, None], pairs.shape))
    assert ecs_votes(pairs, link).sum() == pytest.approx(5 * 4 * 3 / 2)


@given(grid(3, 4), st.floats(0.1, 50), st.floats(-20, 20))
def test_soft_votes_ignore_the_unit_of_the_metric(scores, unit, offset):
    assert_allclose(
        pairwise_from_scores(unit * scores + offset, link="soft"), pairwise_from_scores(scores, link="soft"), atol=1e-6
    )


def test_soft_and_binary_verdicts_agree_on_the_winner_and_keep_what_is_missing():
    scores = np.array([[1.0, np.nan], [2.0, 2.0], [2.0, 3.0]])
    soft, binary = pairwise_from_scores(scores, link="soft"), pairwise_from_scores(scores)
    assert_array_equal(np.isnan(soft), np.isnan(binary))
    assert np.isnan(soft[0, 1, 1]) and not np.isnan(soft[1, 2, 1])
    assert_array_equal(np.sign(soft - 0.5)[~np.isnan(soft)], np.sign(binary - 0.5)[~np.isnan(soft)])


def test_votes_of_the_released_model_are_reproduced(shared):
    """Every pair's output of the released URGENT-PK ranking, in the order it used, gives its accumulated scores."""
    released = json.loads((shared / "parity" / "rank" / "results_mel.json").read_text())
    for scoring, key in (("binary", "logit_binary_vote"), ("soft", "logit_non_binary_vote")):
        expected = released[key]["team_scores"]
        systems = list(expected)
        contents = sorted({call[0].split("/")[1] for call in released[key]["calls"]})
        pairs = np.full((len(systems), len(systems), len(contents)), np.nan)
        for a, b, _, p, *_ in released[key]["calls"]:
            (system_a, content), (system_b, _) = a.split("/"), b.split("/")
            i, j, u = systems.index(system_a), systems.index(system_b), contents.index(content)
            pairs[i, j, u], pairs[j, i, u] = p, 1 - p
        human = [released["team_mos"][s] for s in systems]
        # The released soft outputs are unbounded regressions; votes do not mind, the entry point asks for probabilities.
        votes = ecs_votes(pairs, scoring).sum(1)
        assert_allclose(votes, list(expected.values()), atol=1e-6)
        for name, value in correlations(votes, np.array(human)).items():
            assert value == pytest.approx(released[key][name])


# ---- invariances


@pytest.mark.parametrize("scoring", SCORINGS)
@given(scores=grid(4, 7), data=st.data())
@settings(max_examples=15)
def test_the_order_of_systems_and_contents_changes_nothing(scoring, scores, data):
    systems, contents = ids("s", 4), ids("u", 7)
    by_system = data.draw(st.permutations(range(4)))
    by_content = data.draw(st.permutations(range(7)))
    one = rank(systems, contents, scores=scores, scoring=scoring, samples=20)
    shuffled = scores[np.ix_(by_system, by_content)]
    names = [systems[i] for i in by_system], [contents[i] for i in by_content]
    two = rank(*names, scores=shuffled, scoring=scoring, samples=20)
    assert one == two


@pytest.mark.parametrize("scoring", SCORINGS)
@given(scores=grid(3, 6))
@settings(max_examples=15)
def test_lower_is_better_is_the_negated_metric(scoring, scores):
    names = ids("s", 3), ids("u", 6)
    lower = rank(*names, scores=scores, better="lower", scoring=scoring, samples=20, human=[1, 2, 3])
    negated = rank(*names, scores=-scores, scoring=scoring, samples=20, human=[1, 2, 3])
    assert [s.system_id for s in lower.systems] == [s.system_id for s in negated.systems]
    assert lower.ties == negated.ties and lower.correlation == negated.correlation
    for a, b in zip(lower.systems, negated.systems, strict=True):
        assert (a.rank, a.rank_low, a.rank_high) == (b.rank, b.rank_low, b.rank_high)
        if scoring == "mos":
            assert_allclose([a.score, a.low, a.high], [-b.score, -b.high, -b.low])
        else:
            assert_allclose([a.score, a.low, a.high], [b.score, b.low, b.high])


@pytest.mark.parametrize("scoring", ["binary", "soft", "bradley-terry"])
@given(scores=grid(3, 6))
@settings(max_examples=15)
def test_a_judge_turned_round_turns_the_ranking_round(scoring, scores):
    names = ids("s", 3), ids("u", 6)
    pairs = pairwise_from_scores(scores, link="soft")
    one = numbers(rank(*names, pairs=pairs, scoring=scoring, samples=20))
    two = numbers(rank(*names, pairs=1 - pairs, scoring=scoring, samples=20))
    total = {"bradley-terry": 0.0}.get(scoring, 12.0)
    for name, (_, best, worst, score, low, high) in one.items():
        _, other_best, other_worst, other_score, other_low, other_high = two[name]
        assert_allclose([score, low, high], [total - other_score, total - other_high, total - other_low], atol=1e-6)
        assert best == 4 - other_worst and worst == 4 - other_best


@pytest.mark.parametrize("scoring", SCORINGS)
@given(scores=grid(4, 3), missing=arrays(bool, (4, 3)))
@settings(max_examples=30)
def test_promises_of_the_result(scoring, scores, missing):
    """Whatever is missing: bounds in order, ranks that fit the scores, JSON without NaN; or a reason."""
    scores = np.where(missing, np.nan, scores)
    try:
        found = rank(ids("s", 4), ids("u", 3), scores=scores, scoring=scoring, samples=10)
    except UsageError as error:
        assert missing.any() and str(error).rstrip().endswith(".")
        return
    scored = [s.score for s in found.systems]
    assert scored == sorted(scored, reverse=True) or np.ptp(np.diff(scored).clip(0)) < 1e-6
    for s in found.systems:
        assert 1 <= s.rank_low <= s.rank <= s.rank_high <= 4
        assert s.low <= s.score <= s.high
        assert s.rank == 1 + sum(other.score > s.score + 1e-8 for other in found.systems)
    json.dumps(found.to_dict(), allow_nan=False)
    assert found.systems[0].system_id in found.table()


def test_equal_scores_share_a_rank_and_are_listed_by_name():
    scores = np.array([[1.0, 2, 1], [2, 1, 1], [3, 3, 3]])
    for scoring in SCORINGS:
        found = rank(["b", "a", "c"], ids("u", 3), scores=scores, scoring=scoring, samples=5)
        assert [(s.system_id, s.rank) for s in found.systems] == [("c", 1), ("a", 2), ("b", 2)], scoring


def test_bradley_terry_is_the_fit_of_the_wins():
    pairs = pairwise_from_scores(np.random.default_rng(0).normal(size=(4, 9)))
    found = rows(rank(ids("s", 4), ids("u", 9), pairs=pairs, scoring="bradley-terry", samples=5))
    assert_allclose([found[n].score for n in ids("s", 4)], bradley_terry.fit(np.nansum(pairs, 2)).theta)
    plain = rows(rank(ids("s", 4), ids("u", 9), pairs=pairs, scoring="bradley-terry", samples=5, prior=0))
    assert_allclose([plain[n].score for n in ids("s", 4)], bradley_terry.fit(np.nansum(pairs, 2), prior=0).theta)


def test_mos_is_the_mean_in_the_metrics_own_unit():
    scores = np.array([[1.0, 2.0], [5.0, 4.5]])
    found = rows(rank(["x", "y"], ["u", "v"], scores=scores, scoring="mos", better="lower", samples=5))
    assert (found["x"].score, found["x"].rank) == (1.5, 1)
    assert (found["y"].score, found["y"].rank) == (4.75, 2)


def test_win_rate_counts_contents():
    scores = np.array([[1.0, 2.0, 3.0, np.nan], [1.0, 1.0, 4.0, 2.0], [np.nan, np.nan, np.nan, 1.0]])
    found = rank(["a", "b", "c"], ids("u", 4), scores=scores, scoring="bradley-terry", samples=5)
    assert found.win_rate["a"]["b"] == found.win_rate["b"]["a"] == 0.5
    assert found.win_rate["b"]["c"] == 1.0
    assert found.to_dict()["win_rate"]["a"]["c"] is None


# ---- how sure


def test_unanimous_order_is_seen_on_eight_contents():
    offset = np.random.default_rng(0).normal(size=(1, 8))
    scores = np.arange(5.0)[:, None] + offset
    for scoring in SCORINGS:
        found = rank(ids("s", 5), ids("u", 8), scores=scores, scoring=scoring)
        assert found.ties == (), scoring
        assert all(s.rank_low == s.rank == s.rank_high for s in found.systems), scoring


@pytest.mark.parametrize("scoring", SCORINGS)
def test_two_contents_tell_nothing_apart_however_clear_they_look(scoring):
    scores = np.repeat(np.arange(3.0)[:, None], 2, axis=1)
    found = rank(ids("s", 3), ids("u", 2), scores=scores, scoring=scoring)
    assert found.ties == (("s02", "s01", "s00"),)
    assert all((s.rank_low, s.rank_high) == (1, 3) for s in found.systems)
    assert any("2 contents cannot tell" in w and "Use 6 or more" in w for w in found.warnings)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_one_content_has_no_intervals(scoring):
    found = rank(ids("s", 3), ["u"], scores=np.array([[1.0], [2.0], [3.0]]), scoring=scoring)
    assert [s.rank for s in found.systems] == [1, 2, 3]
    for row in found.to_dict()["systems"]:
        assert (row["low"], row["high"], row["rank_low"], row["rank_high"]) == (None, None, 1, 3)


def test_a_perfect_record_is_not_certainty():
    """8 of 8 contents won: the next may be lost."""
    found = rank(["a", "b"], ids("u", 8), scores=np.array([[2.0], [1.0]]) * np.ones((2, 8)))
    best = found.systems[0]
    assert best.score == best.high == 8
    assert 2 < best.low < 7


def simulated(rng, quality, n_contents):
    """(S, U) scores with a difficulty that a content's clips share."""
    return quality[:, None] + rng.standard_normal((1, n_contents)) + rng.standard_normal((len(quality), n_contents))


def limit(quality, scoring):
    """(S,) score per content (votes), mean, or strength of a very long test."""
    scores = simulated(np.random.default_rng(99), quality, 30_000)
    if scoring == "mos":
        return quality
    pairs = pairwise_from_scores(scores, link="soft" if scoring == "soft" else "binary")
    if scoring == "bradley-terry":
        return bradley_terry.fit(np.nansum(pairs, 2)).theta
    return ecs_votes(pairs, scoring).mean(1)


@pytest.mark.parametrize("n_contents", [20, 60])
@pytest.mark.parametrize("scoring", SCORINGS)
def test_intervals_hold_the_truth_about_95_times_in_100(scoring, n_contents):
    """200 data sets x 4 systems; the tolerance is 95 % +- 3 %, about four standard errors of the simulation."""
    rng, quality = np.random.default_rng(5), np.linspace(0, 1, 4)
    truth = limit(quality, scoring) * (n_contents if scoring in ("binary", "soft") else 1)
    hits = []
    for _ in range(200):
        found = rows(
            rank(ids("s", 4), ids("u", n_contents), scores=simulated(rng, quality, n_contents), scoring=scoring, samples=150)
        )
        hits += [found[name].low <= t <= found[name].high for name, t in zip(ids("s", 4), truth, strict=True)]
    assert 0.92 <= np.mean(hits) <= 0.98


@pytest.mark.parametrize(("scoring", "missing"), [(s, m) for s in SCORINGS for m in (0, 0.3)])
def test_false_claims_are_rarer_than_five_percent_and_rank_intervals_hold(scoring, missing):
    """Two groups of equals, 200 data sets; the tolerance is two standard errors above 5 %."""
    rng, quality = np.random.default_rng(6), np.array([0, 0, 0, 2.5, 2.5])
    false = outside = 0
    for _ in range(200):
        scores = simulated(rng, quality, 12)
        scores[:, 1:][rng.random((5, 11)) < missing] = np.nan
        found = rank(ids("s", 5), ids("u", 12), scores=scores, scoring=scoring, samples=2)
        equal = [("s00", "s01"), ("s00", "s02"), ("s01", "s02"), ("s03", "s04")]
        false += any(found.p_value[a][b] <= 0.05 for a, b in equal)
        true = {"s00": (3, 5), "s01": (3, 5), "s02": (3, 5), "s03": (1, 2), "s04": (1, 2)}
        outside += any(s.rank_low > true[s.system_id][0] or s.rank_high < true[s.system_id][1] for s in found.systems)
    assert false / 200 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)
    assert outside / 200 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


def test_the_seed_and_nothing_else_decides():
    scores = simulated(np.random.default_rng(7), np.arange(3.0), 20)
    names = ids("s", 3), ids("u", 20)
    state = np.random.get_state()[1].copy()
    assert rank(*names, scores=scores, seed=1) == rank(*names, scores=scores, seed=1)
    assert rank(*names, scores=scores, seed=1) != rank(*names, scores=scores, seed=2)
    assert_array_equal(np.random.get_state()[1], state)


def test_bootstrap_shares_favour_the_better_system():
    scores = simulated(np.random.default_rng(8), np.array([0, 0.5, 3.0]), 20)
    better = rank(ids("s", 3), ids("u", 20), scores=scores, scoring="mos").p_better
    assert better["s02"]["s00"] == 1.0
    assert better["s01"]["s00"] + better["s00"]["s01"] == pytest.approx(1)


# ---- missing values


def test_votes_of_a_pair_are_scaled_to_all_contents_and_what_is_missing_is_said():
    """By hand: s0-s1 on three contents 2:1, s0-s2 on three 1:2, s1-s2 on four 1:3; each pair has 4 votes to give."""
    scores = np.array([[2.0, 3, 1, np.nan], [1, 1, 2, 5], [3, 2, 3, 1]])
    found = rank(ids("s", 3), ids("u", 4), scores=scores, samples=5)
    assert {name: s.score for name, s in rows(found).items()} == pytest.approx(
        {"s00": 4 * (2 / 3 + 1 / 3), "s01": 4 * (1 / 3 + 1 / 4), "s02": 4 * (2 / 3 + 3 / 4)}
    )
    assert found.n_contents == 4
    assert found.warnings[0] == (
        "2 of 12 comparisons are missing: a pair of systems counts by the contents that it has, 3 of 4 at least."
    )


@given(grid(4, 6), arrays(bool, (4, 6)), st.sampled_from(["binary", "soft"]))
def test_votes_with_holes_sum_to_the_number_of_comparisons(scores, missing, scoring):
    scores = np.where(missing, np.nan, scores)
    try:
        found = rank(ids("s", 4), ids("u", 6), scores=scores, scoring=scoring, samples=5)
    except UsageError as error:
        assert "have no content in common" in str(error) or "has no content in common" in str(error)
        return
    assert sum(s.score for s in found.systems) == pytest.approx(found.n_contents * 6)
    together = np.isfinite(scores).sum(0) >= 2
    assert found.n_contents == together.sum()
    left = sum(int(w.split()[0]) for w in found.warnings if "left out" in w)
    assert left == (~together).sum()


def test_without_a_common_content_of_a_pair_votes_say_what_to_type_and_the_others_go_on():
    scores = np.array([[2.0, 3, 1, np.nan], [1, 1, np.nan, 5], [np.nan, np.nan, np.nan, 1]])
    for scoring in ("binary", "soft"):
        with pytest.raises(
            UsageError, match=r"1 pair of systems has no content in common.* s00 and s02.*--scoring bradley-terry"
        ):
            rank(ids("s", 3), ids("u", 4), scores=scores, scoring=scoring)
    means = rank(ids("s", 3), ids("u", 4), scores=scores, scoring="mos", samples=50)
    assert {s.system_id: s.rank for s in means.systems} == {"s00": 1, "s01": 2, "s02": 3}
    assert "5 of 12 scores are missing, on 4 of 4 contents" in means.warnings[0]
    strengths = rank(ids("s", 3), ids("u", 4), scores=scores, scoring="bradley-terry", samples=5)
    assert strengths.n_contents == 3 and any("1 content of 4 left out" in w for w in strengths.warnings)
    assert sum(s.score for s in strengths.systems) == pytest.approx(0)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_one_hole_in_each_content_hardly_changes_a_ranking(scoring):
    """Ten systems, 30 contents, each content lacks one system: as many are told apart as without holes, within a tenth."""
    scores = simulated(np.random.default_rng(3), np.linspace(0, 4, 10), 30)
    holes = scores.copy()
    holes[np.arange(30) % 10, np.arange(30)] = np.nan
    whole, part = (rank(ids("s", 10), ids("u", 30), scores=x, scoring=scoring) for x in (scores, holes))
    assert part.n_contents == 30
    clear = [sum(9 - len(s.not_distinguishable_from) for s in found.systems) for found in (whole, part)]
    assert clear[1] > 0.9 * clear[0]
    width = [np.mean([s.high - s.low for s in found.systems]) for found in (whole, part)]
    assert width[1] < 1.15 * width[0]


def test_a_system_that_has_the_easy_contents_is_not_favoured():
    rng = np.random.default_rng(4)
    ease = np.repeat([0.0, 2.0], 10)
    scores = np.array([[1.5], [2.0]]) + ease + 0.1 * rng.standard_normal((2, 20))
    scores[0, :8] = np.nan  # the worse one lacks the hard ones: its plain mean is the better one
    assert np.nanmean(scores[0]) > np.nanmean(scores[1])
    for scoring in SCORINGS:
        found = rank(["worse", "better"], ids("u", 20), scores=scores, scoring=scoring)
        assert found.systems[0].system_id == "better", scoring
        assert found.systems[0].not_distinguishable_from == (), scoring


@given(grid(4, 6))
def test_means_of_complete_data_are_plain_means_to_the_last_bit(scores):
    found = rows(rank(ids("s", 4), ids("u", 6), scores=scores, scoring="mos", samples=5))
    for name, row in zip(ids("s", 4), scores, strict=True):
        assert found[name].score == row.mean()


opinions = arrays(float, (4, 6), elements=st.sampled_from([1.0, 1.5, 3.0, 4.5, 5.0]))


@given(opinions, arrays(bool, (4, 6)), st.sampled_from(["higher", "lower"]), st.booleans())
@settings(max_examples=200)
def test_means_and_their_intervals_stay_inside_the_scale(scores, missing, better, open_above):
    scores = np.where(missing, np.nan, scores)
    bounds = (1.0, np.inf if open_above else 5.0)
    try:
        found = rank(ids("s", 4), ids("u", 6), scores=scores, scoring="mos", better=better, bounds=bounds, samples=20)
    except UsageError as error:
        assert "no scores for" in str(error)
        return
    for row in found.systems:
        assert bounds[0] <= row.score <= bounds[1]
        assert row.low == -np.inf or bounds[0] <= row.low
        assert row.low <= row.score <= row.high and (row.high <= bounds[1] or row.high == np.inf)


def test_scores_beyond_the_scale_still_have_intervals_around_them():
    scores = 20 * simulated(np.random.default_rng(1), np.array([1.0, 2.0]), 8) + 50
    found = rank(["a", "b"], ids("u", 8), scores=scores, scoring="mos", bounds=(1, 5))
    assert all(np.isfinite([s.low, s.high]).all() and s.low < s.score < s.high for s in found.systems)


def test_groups_that_share_no_content_are_said_and_not_told_apart():
    scores = np.full((4, 40), np.nan)
    scores[:2, :20] = [[4.0], [3.0]]
    scores[2:, 20:] = [[2.0], [1.0]]
    found = rank(list("abcd"), ids("u", 40), scores=scores, scoring="mos", samples=20)
    assert any("2 groups of systems share no content: (a, b); (c, d)" in w for w in found.warnings)
    assert [s.score for s in found.systems] == [4, 3, 2, 1]
    assert rows(found)["a"].not_distinguishable_from == ("c", "d")


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("missing", [0.1, 0.5])
def test_intervals_with_holes_hold_the_truth_about_95_times_in_100(scoring, missing):
    rng, quality = np.random.default_rng(5), np.linspace(0, 1, 4)
    truth = limit(quality, scoring) * (30 if scoring in ("binary", "soft") else 1)
    hits = []
    for _ in range(200):
        scores = simulated(rng, quality, 30)
        scores[rng.random(scores.shape) < missing] = np.nan
        found = rows(rank(ids("s", 4), ids("u", 30), scores=scores, scoring=scoring, samples=150))
        scale = 30 / rank(ids("s", 4), ids("u", 30), scores=scores, scoring=scoring, samples=2).n_contents
        scale = scale if scoring in ("binary", "soft") else 1
        hits += [scale * found[n].low <= t <= scale * found[n].high for n, t in zip(ids("s", 4), truth, strict=True)]
    assert np.mean(hits) >= 0.91


def test_systems_that_never_met_cannot_be_told_apart():
    scores = np.full((4, 40), np.nan)
    scores[:2, :20] = [[2.0], [1.0]]
    scores[2:, 20:] = [[2.0], [1.0]]
    found = rank(list("abcd"), ids("u", 40), scores=scores, scoring="bradley-terry", samples=5)
    assert "(a, b); (c, d)" in found.warnings[0]
    assert found.p_value["a"]["b"] < 0.05
    assert found.p_value["a"]["d"] == 1.0


def test_contents_that_say_nothing_on_a_pair_lend_it_no_weight():
    """Two of 40 contents compare c with anyone: clear as they look, they settle nothing."""
    scores = np.full((3, 40), np.nan)
    scores[:2] = [[2.0], [1.0]]
    scores[2, :2] = 9.0
    for scoring in ("mos", "bradley-terry"):
        kept = scores.copy()
        kept[0, 0] = kept[1, 1] = np.nan
        found = rank(list("abc"), ids("u", 40), scores=kept, scoring=scoring, samples=50)
        assert found.p_value["a"]["b"] < 0.05, scoring
        assert found.p_value["c"]["b"] > 0.05, scoring
        assert found.systems[0].system_id == "c"


# ---- correlation with listeners


def test_correlations_are_those_of_scipy_and_none_without_a_warning_when_undefined():
    found = correlations(np.array([1.0, 2, 3, 3]), np.array([1.0, 3, 2, 4]))
    assert found["krcc"] == pytest.approx(3 / np.sqrt(5 * 6))
    assert found["lcc"] == pytest.approx(np.corrcoef([1, 2, 3, 3], [1, 3, 2, 4])[0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert correlations(np.ones(3), np.arange(3.0)) == {"krcc": None, "srcc": None, "lcc": None}
        assert correlations(np.arange(3.0), np.array([1, np.nan, np.nan]))["lcc"] is None


def test_mos_of_listeners_is_reported_beside_the_system():
    found = rank(["b", "a"], ids("u", 3), scores=np.array([[1.0, 1, 1], [2, 2, 2]]), human=[4.0, np.nan], samples=5)
    assert {s.system_id: s.mos for s in found.systems} == {"a": None, "b": 4.0}
    assert found.correlation == {"krcc": None, "srcc": None, "lcc": None}
    assert "1 of 2 systems has no MOS of listeners. The correlation is that of the others." in found.warnings


def test_two_systems_have_no_correlation_since_it_could_only_be_1_or_minus_1():
    assert set(correlations(np.array([1.0, 2.0]), np.array([1.0, 3.0])).values()) == {None}
    assert set(correlations(np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, np.nan])).values()) == {None}
    assert correlations(np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 7.0]))["lcc"] is not None


def test_differences_of_rounding_are_ties():
    scores = np.array([[3.0, 2.0, 4.0]]) * np.array([[1.0], [1 + 1e-13]])
    for scoring in SCORINGS:
        found = rank(["a", "b"], ids("u", 3), scores=scores, scoring=scoring, samples=5)
        assert [s.rank for s in found.systems] == [1, 1], scoring
    assert_array_equal(pairwise_from_scores(scores, link="soft")[0, 1], 0.5)


# ---- silence

cells = arrays(float, (4, 5), elements=st.sampled_from([1.0, 2.0, 3.5, 5.0, np.nan]))


@pytest.mark.parametrize("by_pairs", [False, True])
@pytest.mark.parametrize("scoring", SCORINGS)
@given(
    scores=cells,
    better=st.sampled_from(["higher", "lower"]),
    silent=arrays(bool, (4, 5)),
    data=st.data(),
    bounds=st.sampled_from([None, (1.0, 5.0), (0.0, np.inf), (-np.inf, 4.0)]),
)
@settings(max_examples=60)
def test_silence_never_wins(by_pairs, scoring, scores, better, silent, data, bounds):
    """Systems 0 (all silent) and 1 (all speech), whatever the others are, whatever the judge says and misses."""
    silent[0], silent[1] = True, False
    pairs = None
    if by_pairs:
        upper = data.draw(arrays(float, (4, 4, 5), elements=st.sampled_from([0.0, 0.3, 0.5, 1.0, np.nan])))
        pairs = np.where(np.tri(4, k=-1, dtype=bool)[:, :, None], 1 - upper.swapaxes(0, 1), upper)
    how = {"scores": scores, "pairs": pairs, "better": better, "scoring": scoring, "samples": 10}
    try:
        found = rank(["a", "b", "c", "d"], ids("u", 5), silent=silent, bounds=bounds, **how)
    except UsageError as error:
        assert "no scores for" in str(error) or "no content in common" in str(error) or "share" in str(error)
        return
    at = rows(found)
    has_speech = [(~silent[k] & ~np.isnan(scores[k])).any() or (by_pairs and (~silent[k]).any()) for k in range(4)]
    if has_speech[1]:
        assert at["a"].rank > at["b"].rank and at["a"].rank > 1
        assert found.systems[0].system_id != "a" and at["a"].rank_high >= at["a"].rank
        sign = -1 if scoring == "mos" and better == "lower" else 1
        assert sign * at["a"].score <= sign * at["b"].score
    for row in found.systems:
        assert row.rank_low <= row.rank <= row.rank_high and row.low <= row.score <= row.high


@pytest.mark.parametrize("scoring", SCORINGS)
def test_a_muted_system_is_clearly_last(scoring):
    scores = simulated(np.random.default_rng(0), np.array([0.0, 0.5, 9.0]), 10)
    silent = np.zeros((3, 10), bool)
    silent[2] = True
    found = rank(["a", "b", "muted"], ids("u", 10), scores=scores, scoring=scoring, silent=silent, bounds=(-50, 50))
    last = found.systems[-1]
    assert (last.system_id, last.rank, last.rank_low, last.not_distinguishable_from) == ("muted", 3, 3, ())
    if scoring == "mos":
        assert last.score == -50
    assert found.win_rate["muted"] == {"a": 0.0, "b": 0.0}


def test_a_silent_clip_counts_as_the_worst_of_the_scale_or_of_the_clips_with_speech():
    scores, silent = np.array([[4.0, 5.0], [3.0, 2.5]]), np.array([[True, False], [False, False]])
    for bounds, better, mean in (
        ((1, 5), "higher", 3.0),
        ((1, 5), "lower", 5.0),
        (None, "higher", 3.75),
        ((3.5, 9), "higher", 3.75),
    ):
        found = rows(rank(["a", "b"], ["u", "v"], scores=scores, scoring="mos", silent=silent, bounds=bounds, better=better))
        assert found["a"].score == mean, (bounds, better)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_if_all_are_silent_all_tie_and_it_is_said(scoring):
    scores = np.arange(6.0).reshape(2, 3)
    found = rank(["a", "b"], ids("u", 3), scores=scores, scoring=scoring, silent=np.ones((2, 3), bool))
    assert [s.rank for s in found.systems] == [1, 1] and found.systems[0].not_distinguishable_from == ("b",)
    assert any("No clip holds speech" in w for w in found.warnings)


def test_two_silent_clips_tie_and_the_rest_is_untouched():
    scores = np.array([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 1.0]])
    silent = np.zeros((3, 3), bool)
    silent[:2, 0] = True
    found = rank(list("abc"), ids("u", 3), scores=scores, silent=silent, samples=5)
    assert found.win_rate["a"] == {"b": pytest.approx(0.5 / 3), "c": pytest.approx(1 / 3)}
    assert rank(list("abc"), ids("u", 3), scores=scores, silent=np.zeros((3, 3), bool)) == rank(
        list("abc"), ids("u", 3), scores=scores
    )


# ---- one matrix for all that is said


@pytest.mark.parametrize("scoring", SCORINGS)
@given(scores=grid(6, 9), missing=arrays(bool, (6, 9), elements=st.integers(0, 9).map(lambda k: k == 0)))
@settings(max_examples=40)
def test_what_cannot_be_told_apart_is_one_thing_everywhere(scoring, scores, missing):
    scores = np.where(missing, np.nan, scores + np.arange(6)[:, None])
    try:
        found = rank(ids("s", 6), ids("u", 9), scores=scores, scoring=scoring, confidence=0.9, samples=5)
    except UsageError:
        return
    place = {s.system_id: k for k, s in enumerate(found.systems)}
    data = {s["system_id"]: s for s in found.to_dict()["systems"]}
    alike, shared = found.alike(), {name: set() for name in place}
    for group in found.ties:
        for name in group:
            shared[name] |= set(group) - {name}
    for s in found.systems:
        others = set(s.not_distinguishable_from)
        assert others == {o.system_id for o in found.systems if s.system_id in o.not_distinguishable_from}
        assert others == {n for n, p in found.p_value[s.system_id].items() if p > 0.1 + 1e-12}
        assert list(s.not_distinguishable_from) == sorted(others, key=place.__getitem__)
        assert data[s.system_id]["not_distinguishable_from"] == list(s.not_distinguishable_from)
        assert shared[s.system_id] == others
        clear = [o for o in found.systems if o.system_id not in others | {s.system_id}]
        better = sum(place[o.system_id] < place[s.system_id] for o in clear)
        assert (s.rank_low, s.rank_high) == (1 + better, 6 - len(clear) + better)
        assert all(o.rank != s.rank for o in clear)
        assert (s.rank_low < s.rank_high) == bool(others) == bool(alike[s.system_id])


def test_progress_is_told_to_the_end():
    scores = simulated(np.random.default_rng(0), np.linspace(0, 1, 6), 20)
    for missing in (False, True):
        scores[0, 0] = np.nan if missing else 0.0
        for scoring in SCORINGS:
            heard: dict[str, list[tuple[int, int]]] = {}
            rank(
                ids("s", 6), ids("u", 20), scores=scores, scoring=scoring,
                progress=lambda title, done, total, heard=heard: heard.setdefault(title, []).append((done, total)),
            )  # fmt: skip
            assert set(heard) == {"testing differences"} | ({"comparing pairs of systems"} if missing else set()), scoring
            for steps in heard.values():
                assert steps == sorted(steps) and steps[-1][0] == steps[-1][1]


@pytest.mark.parametrize("missing", [0, 0.1])
def test_two_hundred_systems_take_seconds(missing):
    """33 s before, on one idle thread; CPU time, since others may use the machine."""
    rng = np.random.default_rng(0)
    scores = np.clip(np.linspace(2, 4, 200)[:, None] + rng.normal(0, 0.5, (200, 20)), 1, 5).round(2)
    scores[rng.random(scores.shape) < missing] = np.nan
    start = time.process_time()
    rank(ids("s", 200), ids("u", 20), scores=scores, scoring="bradley-terry")
    assert time.process_time() - start < 16


# ---- what cannot be ranked


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"systems": ["a", "a"]}, "system 'a' is listed more than once\\."),
        ({"systems": ["caf\u00e9", "cafe\u0301"]}, "'caf\u00e9' is listed more than once in two Unicode spellings"),
        ({"bounds": (5, 1)}, "a scale from 5 to 1"),
        ({"silent": np.zeros((2, 3), bool)}, "silent has shape"),
        ({"scores": np.array([[1e200, 1], [1, 1]])}, "beyond 1e\\+100"),
        ({"contents": ["u", "u"]}, "content 'u' is listed more than once"),
        ({"systems": ["a"], "scores": np.ones((1, 2))}, "at least 2 systems"),
        ({"contents": [], "scores": np.ones((2, 0))}, "no content in common"),
        ({"confidence": 1.0}, "between 0 and 1"),
        ({"confidence": float("nan")}, "between 0 and 1"),
        ({"samples": 1}, "too few"),
        ({"scoring": "elo"}, "Choose from: binary, soft, bradley-terry, mos"),
        ({"better": "up"}, "Choose from: higher, lower"),
        ({"scores": np.ones((3, 2))}, "shape"),
        ({"scores": np.array([[np.inf, 1], [1, 1]])}, "infinite"),
        ({"scores": None}, "nothing to rank by"),
        ({"scores": None, "pairs": np.full((2, 2, 2), 0.7)}, "must sum to 1"),
        ({"scores": None, "pairs": np.array([[[0.5] * 2, [1.5] * 2], [[-0.5] * 2, [0.5] * 2]])}, "between 0 and 1"),
        ({"scores": None, "pairs": np.full((2, 2, 2), 0.5), "scoring": "mos"}, "--scoring binary"),
        ({"human": [1.0]}, "human has shape"),
        ({"scores": np.array([[np.nan, np.nan], [1, 1]]), "scoring": "mos"}, "no scores for a"),
        ({"scores": np.array([[np.nan, 1], [1, np.nan]]), "scoring": "bradley-terry"}, "no two systems have a content"),
    ],
)
def test_what_cannot_be_ranked_says_why_and_what_to_do(change, message):
    request = {"systems": ["a", "b"], "contents": ["u", "v"], "scores": np.array([[1.0, 2], [2, 1]])} | change
    with pytest.raises(UsageError, match=message):
        rank(request.pop("systems"), request.pop("contents"), **request)
