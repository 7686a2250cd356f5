"""Comparisons: what a verdict is, that everything mirrors, and what many of them add up to."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.ranking.comparison import AUDIBLE, Comparison, comparison, failed_comparison, silent_verdict, summarise
from urgentmos.ranking.gate import gate

MIRROR = {"a": "b", "b": "a", "tie": "tie"}
shares = st.floats(0, 1)


@st.composite
def judged(draw: st.DrawFn) -> np.ndarray:
    """(4,) p_a, p_tie, p_b, CMOS; equal probabilities and ties are drawn often."""
    weights = np.array(draw(st.tuples(*[st.sampled_from([0.0, 1.0, 2.0]) | shares] * 3)))
    if not weights.sum() > 1e-3:
        weights = np.ones(3)
    return np.array([*(weights / weights.sum()), draw(st.floats(-4, 4))])


def row(cmos: float, verdict: str = "a") -> Comparison:
    return Comparison("x", "y", 1.0, 0.0, 0.0, cmos, verdict)  # type: ignore[arg-type]


# ---- one


@given(judged())
def test_a_comparison_mirrors(values: np.ndarray) -> None:
    ab, ba = comparison("x", "y", values), comparison("y", "x", values[[2, 1, 0, 3]] * [1, 1, 1, -1])
    assert (ab.p_a, ab.p_tie, ab.p_b, ab.cmos) == (ba.p_b, ba.p_tie, ba.p_a, -ba.cmos)
    assert ab.verdict is not None and ba.verdict == MIRROR[ab.verdict]


@given(judged())
def test_the_verdict_is_the_likeliest_answer(values: np.ndarray) -> None:
    said = comparison("x", "y", values)
    chance = dict(zip(("a", "tie", "b"), values[:3], strict=True))
    best = max(chance.values())
    if said.verdict != "tie":
        assert chance[said.verdict] == best and chance[MIRROR[said.verdict]] < best and chance["tie"] < best
    else:
        assert chance["tie"] == best or chance["a"] == chance["b"]


def test_neither_ahead_is_a_tie_even_if_a_tie_is_unlikely() -> None:
    assert comparison("x", "y", np.array([0.45, 0.1, 0.45, 0.0])).verdict == "tie"
    assert comparison("x", "y", np.array([0.4, 0.4, 0.2, 0.1])).verdict == "tie"


def test_a_failed_comparison_is_json_without_nan() -> None:
    made = failed_comparison("x.wav", "y.wav", "x.wav is empty").to_dict()
    assert json.loads(json.dumps(made, allow_nan=False)) == {
        **{"a": "x.wav", "b": "y.wav", "p_a": None, "p_tie": None, "p_b": None, "cmos": None, "verdict": None},
        **{"error": "x.wav is empty", "warnings": []},
    }


# ---- silence


@given(judged(), st.booleans(), st.booleans(), st.floats(0, 2))
def test_speech_beats_silence_by_what_is_audible_at_least_and_mirrors(values, a_silent, b_silent, least):
    decided = silent_verdict(a_silent, b_silent, values, least)
    mirrored = silent_verdict(b_silent, a_silent, values[[2, 1, 0, 3]] * [1, 1, 1, -1], least)
    np.testing.assert_array_equal(decided, mirrored[[2, 1, 0, 3]] * [1, 1, 1, -1])
    verdict = comparison("x", "y", decided).verdict
    if a_silent and b_silent:
        assert verdict == "tie" and decided[3] == 0
    elif a_silent or b_silent:
        sign = -1 if a_silent else 1
        assert verdict == ("b" if a_silent else "a")
        assert sign * decided[3] >= max(least, sign * values[3])
    else:
        assert decided is values


def test_what_the_judge_cannot_answer_of_silence_is_decided_too():
    unknown = np.full(4, np.nan)
    assert silent_verdict(True, False, unknown).tolist() == [0, 0, 1, -AUDIBLE]
    assert silent_verdict(False, True, unknown).tolist() == [1, 0, 0, AUDIBLE]
    assert silent_verdict(True, True, unknown).tolist() == [0, 1, 0, 0]


# ---- many


def test_the_interval_holds_what_the_test_does_not_reject() -> None:
    # All six signs alike: 2 of 64 patterns. A mean that is not rejected has values on either side.
    summary = summarise("A", "B", [row(x) for x in (0.5, 1, 2, 2.5, 3, 3)])
    assert (summary.cmos, summary.n_contents, summary.confidence) == (2, 6, 0.95)
    assert (summary.cmos_low, summary.cmos_high) == (0.5, 3)
    assert summary.p_value == 2 / 64 and "sign-flip" in summary.test


@given(st.lists(st.floats(-4, 4).map(lambda x: round(x, 2)), min_size=1, max_size=20), st.sampled_from([0.8, 0.95, 0.99]))
def test_summary_and_gate_are_one_test(cmos: list[float], confidence: float) -> None:
    rows = [row(x) for x in cmos]
    summary, found = summarise("A", "B", rows, confidence=confidence), gate(rows, confidence=confidence)
    if sum(cmos) > 1e-9:
        assert summary.p_value == pytest.approx(2 * found.p_value)
    if summary.p_value > 1 - confidence + 1e-12:
        assert summary.cmos_low <= 0 <= summary.cmos_high
    else:
        assert summary.cmos_low >= 0 or summary.cmos_high <= 0
        assert found.worse == (summary.cmos > 0)
    assert summary.cmos_low >= -4 or summary.cmos_low == -np.inf


def test_counts_are_of_verdicts() -> None:
    rows = [row(1, "a")] * 7 + [row(-1, "b")] + [row(0, "tie")] * 5
    summary = summarise("A", "B", rows)
    assert (summary.wins, summary.ties, summary.losses) == (7, 5, 1)
    assert summary.p_value == pytest.approx(2 * (1 + 8) / 2**8)  # contents without a difference say nothing
    assert summarise("A", "B", [row(0, "tie")] * 5).p_value == 1


@given(st.lists(st.tuples(st.floats(-4, 4), st.sampled_from(["a", "tie", "b"])), min_size=1, max_size=12))
def test_a_summary_mirrors(drawn: list[tuple[float, str]]) -> None:
    there = summarise("A", "B", [row(cmos, verdict) for cmos, verdict in drawn])
    back = summarise("B", "A", [row(-cmos, MIRROR[verdict]) for cmos, verdict in drawn])
    assert (there.wins, there.ties, there.losses) == (back.losses, back.ties, back.wins)
    assert there.p_value == back.p_value and there.n_contents == len(drawn)
    numbers, mirrored = np.array([[s.cmos_low, s.cmos, s.cmos_high] for s in (there, back)])
    np.testing.assert_array_equal(numbers, -mirrored[::-1])


def test_more_confidence_is_a_wider_interval() -> None:
    rows = [row(cmos) for cmos in (0.1, 0.5, -0.2, 0.9, 0.3, 0.4, -0.1, 0.8)]
    widths = [s.cmos_high - s.cmos_low for s in (summarise("A", "B", rows, confidence=c) for c in (0.5, 0.9, 0.99))]
    assert widths == sorted(widths) and widths[0] > 0


def test_what_failed_does_not_count() -> None:
    summary = summarise("A", "B", [row(1), failed_comparison("x", "y", "bad"), row(3)])
    assert (summary.n_contents, summary.cmos, summary.wins, summary.n_failed) == (2, 2, 2, 1)
    assert "of 2 contents (1 more could not be judged)" in summary.sentence()


def test_one_content_has_no_interval_and_none_has_nothing() -> None:
    one = summarise("A", "B", [row(0.5)])
    assert one.to_dict()["cmos_low"] is None and one.to_dict()["cmos_high"] is None and one.cmos == 0.5
    assert "[" not in one.sentence() and "CMOS A - B +0.500, p = 1 (" in one.sentence()
    none = summarise("A", "B", [failed_comparison("x", "y", "bad")])
    assert none.to_dict()["cmos"] is none.to_dict()["p_value"] is None and none.sentence() == "No content could be judged."
    json.dumps(none.to_dict(), allow_nan=False)


def test_the_sentence_holds_the_numbers() -> None:
    summary = replace(summarise("A", "B", [row(x) for x in (1, 2, 3, 1, 2, 3)]), cmos_low=-0.0001)
    counts = "A wins 6, ties 0, B wins 0 of 6 contents"
    assert summary.sentence() == f"CMOS A - B +2.000 [+0.000, +3.000] at 95 %, p = 0.0312 (sign-flip test); {counts}"
    assert summary.sentence(gated=True) == f"{counts}."
