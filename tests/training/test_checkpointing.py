"""Logs that survive a kill, and which models stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("lightning")

from urgentmos.training.checkpointing import append_log, best_of, cut_log, read_log


def entry(step: int, score: float, **objectives: float) -> dict:
    return {"step": step, "score": score, "objectives": objectives}


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=12), st.integers(1, 4))
def test_the_best_scores_stay_whether_judged_at_once_or_one_by_one(scores: list[float], keep: int) -> None:
    entries = [entry(k, score) for k, score in enumerate(scores)]
    kept: list[dict] = []
    for new in entries:
        kept = best_of([*kept, new], keep)
    assert kept == best_of(entries, keep) and len(kept) == min(keep, len(scores))
    assert min(e["score"] for e in kept) >= max([e["score"] for e in entries if e not in kept], default=-2)


def test_each_objective_keeps_its_own_best() -> None:
    entries = [entry(1, 0, loss=3.0, bce=1.0), entry(2, 0, loss=1.0, bce=3.0), entry(3, 0, loss=2.0, bce=2.0)]
    assert [e["step"] for e in best_of(entries, 1)] == [1, 2]


def test_a_log_takes_new_columns_and_forgets_what_lies_behind_a_step(tmp_path) -> None:
    log = tmp_path / "train.csv"
    append_log(log, {"step": 1, "loss": 0.5})
    append_log(log, {"step": 2, "loss": 0.4, "loss_utmos": 0.1})
    append_log(log, {"step": 3, "loss": 0.3})
    with log.open("a") as file:
        file.write("4,0.")  # a kill in the middle of a row
    cut_log(log, 2)
    assert read_log(log) == [
        {"step": "1", "loss": "0.5", "loss_utmos": ""},
        {"step": "2", "loss": "0.4", "loss_utmos": "0.1"},
    ]
