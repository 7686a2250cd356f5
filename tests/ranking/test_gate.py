"""The gate: equal builds pass, worse builds fail, chance alone seldom does, and too few contents are said to be too few."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.cli import main
from urgentmos.errors import UsageError
from urgentmos.ranking.comparison import Comparison, failed_comparison
from urgentmos.ranking.gate import Gate, contents_needed, gate, smallest_p

RATE = 16_000
differences = st.lists(st.floats(-4, 4).map(lambda x: round(x, 3)), min_size=1, max_size=9)
confidences = st.floats(0.5, 0.999)


def row(cmos: float) -> Comparison:
    return Comparison("old", "new", float(cmos > 0), float(cmos == 0), float(cmos < 0), cmos, "tie")


def gated(cmos, **how) -> Gate:
    return gate([row(float(x)) for x in cmos], **how)


# ---- the test


@given(differences)
def test_p_is_the_share_of_sign_patterns_that_reach_the_sum(drawn: list[float]) -> None:
    cmos = np.array(drawn)
    sums = [np.dot(signs, cmos) for signs in product((1, -1), repeat=len(cmos))]
    expected = np.mean([s >= cmos.sum() - 1e-9 for s in sums])
    found = gated(cmos)
    if cmos.sum() > 1e-9:
        assert found.p_value == pytest.approx(expected)
    elif cmos.sum() <= 0:
        assert found.p_value == 1


def test_a_worked_example() -> None:
    # 5 contents, B worse on all: 1 of 32 patterns. The smallest difference turned: the sums that reach 1.3 are two.
    assert gated([0.1, 0.2, 0.3, 0.4, 0.5]).p_value == 1 / 32
    assert gated([-0.1, 0.2, 0.3, 0.4, 0.5]).p_value == 2 / 32
    assert gated([0.1, 0.2, 0.3, 0.4, 0.5]).worse and not gated([-0.1, 0.2, 0.3, 0.4, 0.5]).worse


@given(st.integers(1, 40), st.floats(0.01, 0.9999), st.floats(0, 2))
def test_equal_builds_never_fail(n_contents: int, confidence: float, margin: float) -> None:
    assert not gated(np.zeros(n_contents), confidence=confidence, margin=margin).worse


@given(differences, confidences, st.floats(0, 3))
def test_what_is_better_on_average_or_within_the_margin_never_fails(
    drawn: list[float], confidence: float, margin: float
) -> None:
    found = gated(drawn, confidence=confidence, margin=margin)
    if np.mean(drawn) <= margin - 1e-9:
        assert not found.worse and found.p_value == 1


@given(differences, confidences)
def test_never_both_ways(drawn: list[float], confidence: float) -> None:
    assert not (gated(drawn, confidence=confidence).worse and gated([-x for x in drawn], confidence=confidence).worse)


@given(differences, st.permutations(range(9)))
def test_the_order_of_contents_does_not_matter(drawn: list[float], order: list[int]) -> None:
    moved = [drawn[i] for i in order if i < len(drawn)]
    assert gated(moved).p_value == gated(drawn).p_value


@given(differences, st.floats(0, 2), st.floats(0, 2), confidences, confidences)
def test_more_margin_or_confidence_fails_less(drawn: list[float], m: float, n: float, c: float, d: float) -> None:
    strict, lax = (
        gated(drawn, margin=margin, confidence=at) for margin, at in ((min(m, n), min(c, d)), (max(m, n), max(c, d)))
    )
    assert strict.worse or not lax.worse


@pytest.mark.parametrize("n_contents", [5, 12, 13, 60])
def test_a_build_that_is_worse_everywhere_fails_from_five_contents_on(n_contents: int) -> None:
    assert gated(np.full(n_contents, 0.01)).worse and not gated(np.full(4, 4.0)).worse


def test_a_clearly_worse_build_fails() -> None:
    rng = np.random.default_rng(0)
    failed = [gated(rng.normal(0.5, 0.5, 20)).worse for _ in range(200)]
    assert np.mean(failed) > 0.95


def skewed(rng: np.random.Generator, n_contents: int) -> np.ndarray:
    return rng.exponential(size=n_contents) - rng.exponential(size=n_contents)


@pytest.mark.parametrize("draw", [lambda rng, n: rng.normal(size=n), skewed, lambda rng, n: rng.integers(-1, 2, n)])
@pytest.mark.parametrize("n_contents", [6, 10, 30])
def test_chance_alone_fails_one_in_twenty_at_most(draw, n_contents: int) -> None:
    rng, datasets = np.random.default_rng(n_contents), 1000
    alarms = sum(gated(draw(rng, n_contents)).worse for _ in range(datasets))
    assert alarms / datasets < 0.05 + 3 * np.sqrt(0.05 * 0.95 / datasets)


# ---- too few contents


def test_contents_needed() -> None:
    assert [contents_needed(c) for c in (0.5, 0.9, 0.95, 0.99, 0.999)] == [1, 4, 5, 7, 10]


@given(st.integers(1, 30), confidences)
def test_the_warning_is_there_exactly_when_nothing_could_fail(n_contents: int, confidence: float) -> None:
    clear = gated(np.arange(1, n_contents + 1), confidence=confidence)
    assert clear.p_value == smallest_p(n_contents) if n_contents <= 12 else clear.p_value >= smallest_p(n_contents)
    assert clear.worse == (clear.warning() is None)


def test_contents_on_which_both_are_equal_do_not_count() -> None:
    found = gated([0.0] * 17 + [1.0, 1.0, 1.0])
    assert not found.worse and found.n_different == 3
    assert "3 contents of 20, the only ones that differ: p cannot fall below 0.125" in str(found.warning())
    assert gated([0.0] * 20).warning() is None


@pytest.mark.parametrize("how", [{"confidence": 0.99999}, {"confidence": 1.0}, {"margin": -0.1}, {"margin": np.nan}])
def test_what_makes_no_gate_is_refused(how: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="Give"):
        gated([1.0], **how)


# ---- what it says


def test_pairs_that_failed_do_not_count() -> None:
    rows = [row(1.0)] * 5 + [failed_comparison("a", "b", "bad")] * 3
    assert gate(rows).n_contents == 5 and gate(rows).worse
    nothing = gate(rows[5:])
    assert not nothing.worse and nothing.sentence() == "The gate has nothing to go by: no content could be judged."
    assert json.loads(json.dumps(nothing.to_dict(), allow_nan=False))["cmos"] is None


def test_the_sentence_says_by_how_much_and_how_sure() -> None:
    assert gated([0.2] * 6).sentence() == (
        "B is worse than A: CMOS A - B +0.200 over 6 contents, p = 0.0156 (one-sided sign-flip test, fails from 0.05 down)."
    )
    assert gated([0.2] * 6, margin=0.5).sentence().startswith("B is not shown to be worse than A by more than 0.5: CMOS")


def test_contents_that_b_lost_count_as_worse() -> None:
    equal = [row(0.0)] * 6
    assert not gate(equal, lost=4).worse and gate(equal, lost=5).worse
    found = gate(equal, lost=5)
    assert (found.n_contents, found.n_lost, found.n_different, found.cmos, found.p_value) == (6, 5, 5, 0.0, 1 / 32)
    assert (
        "B is worse than A: CMOS A - B +0.000 over 6 contents, only A could be judged on 5 contents more, p" in found.sentence()
    )
    nothing = gate([], lost=8)
    assert nothing.worse and nothing.sentence().startswith(
        "B is worse than A: only A could be judged on 8 contents, p = 0.00391"
    )
    assert nothing.warning() is None and gate([], lost=3).warning() is not None


@given(differences, st.integers(0, 5), confidences, st.floats(0, 2))
def test_losing_a_content_never_helps(drawn: list[float], lost: int, confidence: float, margin: float) -> None:
    few, more = (gate([row(x) for x in drawn], lost=n, confidence=confidence, margin=margin) for n in (lost, lost + 1))
    sampled = more.n_different > 12  # sign patterns are drawn, so p has a standard error
    noise = 5 * (few.p_value / 5000) ** 0.5 + 1 / 5000 if sampled else 1e-9
    assert few.p_value >= more.p_value - noise
    assert more.worse or not few.worse or (sampled and abs(more.p_value - (1 - confidence)) < noise)


# ---- the command


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_voice, add_noise) -> Path:
    """Folders clean/, old/ (a little noise) and new/ (much noise) of six short clips; lsd judges them."""
    monkeypatch.chdir(tmp_path)
    for folder in ("clean", "old", "new"):
        Path(folder).mkdir()
    for k in range(6):
        clean = make_voice(k, 0.6)
        for folder, wave in (("clean", clean), ("old", add_noise(clean, 20, k)), ("new", add_noise(clean, 5, k))):
            soundfile.write(f"{folder}/{k}.wav", wave, RATE)
    return tmp_path


def compare(*args: str) -> Result:
    return CliRunner().invoke(main, ["compare", *args, "-m", "lsd", "--reference-dir", "clean", "--jobs", "1"])


def test_exit_status_3_says_that_b_is_worse(place: Path) -> None:
    result = compare("old", "new", "--fail-if-worse", "-o", "gate.json")
    assert result.exit_code == 3 and "B is worse than A: CMOS A - B +" in result.stderr and "p = 0.0156" in result.stderr
    written = json.loads(Path("gate.json").read_text())
    assert written["summary"]["test"].startswith("two-sided sign-flip") and written["gate"]["test"].startswith(
        "one-sided sign-flip"
    )
    assert written["summary"]["p_value"] == 2 * written["gate"]["p_value"] and result.stderr.count("p = ") == 1
    assert written["gate"]["worse"] is True and written["gate"]["p_value"] == 1 / 64 and len(written["rows"]) == 6
    assert compare("old", "new").exit_code == 0


def test_the_other_way_round_and_equal_folders_pass(place: Path) -> None:
    for a, b in (("new", "old"), ("old", "old")):
        result = compare(a, b, "--fail-if-worse")
        assert result.exit_code == 0 and "B is not shown to be worse than A" in result.stderr
        assert "Warning" not in result.stderr


def test_margin_and_confidence_reach_the_gate(place: Path) -> None:
    assert compare("old", "new", "--fail-if-worse", "--margin", "50").exit_code == 0
    result = compare("old", "new", "--fail-if-worse", "--confidence", "0.99")
    assert result.exit_code == 0 and "Warning: this gate cannot fail. 6 contents: p cannot fall below 0.0156" in result.stderr
    assert "Give it at least 7." in result.stderr


def test_a_bad_file_is_1_unless_b_is_worse(place: Path) -> None:
    Path("old/0.wav").write_bytes(b"")
    result = compare("new", "old", "--fail-if-worse")
    assert result.exit_code == 1 and "1 of 6 pairs could not be judged" in result.stderr
    result = compare("old", "new", "--fail-if-worse")  # five are left, and all of them worse
    assert result.exit_code == 3 and "1 of 6 pairs could not be judged" in result.stderr


def test_a_build_that_writes_less_does_not_pass(place: Path) -> None:
    Path("old/0.wav").unlink()
    result = compare("new", "old", "--fail-if-worse")
    assert result.exit_code == 1 and "  new/0.wav: old lacks its counterpart" in result.stderr
    assert compare("new", "old").exit_code == 0
    assert compare("old", "old", "--fail-if-worse").exit_code == 0
    result = compare("old", "new", "--fail-if-worse", "--margin", "50")  # more than before is no loss
    assert result.exit_code == 0 and "no counterpart" in result.stderr


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        (("old", "new", "--margin", "1"), "Add --fail-if-worse."),
        (("old/0.wav", "new/0.wav", "--fail-if-worse"), "Give two folders."),
        (("old", "new", "--fail-if-worse", "--confidence", "0.999999"), "Give 0.9999 or less."),
    ],
)
def test_what_is_not_understood_is_2(options: tuple[str, ...], cure: str, place: Path) -> None:
    result = compare(*options)
    assert (result.exit_code, result.stdout) == (2, "") and result.stderr.rstrip().endswith(cure)
