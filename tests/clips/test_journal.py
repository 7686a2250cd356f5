"""A journal keeps every finished outcome, wherever a kill cuts it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.clips.journal import Journal, Outcome, Task

TASKS = [Task(f"/no/such/\u00e9 \u2028 {i}.wav", f"clean {i}" if i % 2 else None) for i in range(4)]
OUTCOMES = [Outcome({"utmos": i + 0.1}, {"lsd": "r\u00e9ason"}, None, ["w"], 1.5, 16_000) for i in range(3)]
OUTCOMES.append(Outcome(error="is empty"))


def fill(path: Path, stage: str = "stage") -> None:
    with Journal.open(path) as log:
        for task, outcome in zip(TASKS, OUTCOMES, strict=True):
            if log.get(stage, task) is None:
                log.append(stage, task, outcome)


def kept(path: Path, stage: str = "stage") -> list[Outcome | None]:
    with Journal.open(path) as log:
        return [log.get(stage, task) for task in TASKS]


@given(share=st.floats(0, 1))
def test_a_journal_cut_anywhere_keeps_its_whole_lines(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    fill(path)
    whole = path.read_bytes()
    head = whole[: round(share * len(whole))]
    path.write_bytes(head)
    n = head.count(b"\n")
    found = kept(path)
    assert found[:n] == OUTCOMES[:n]
    assert found[n:] in ([None] * (4 - n), [*OUTCOMES[n : n + 1], *[None] * (3 - n)])  # a line that lacks but its end is whole
    fill(path)
    assert kept(path) == OUTCOMES


def test_outcomes_are_on_disk_before_the_journal_is_closed(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "j") as log:
        log.append("stage", TASKS[0], OUTCOMES[0])
        assert kept(tmp_path / "j")[0] == OUTCOMES[0]


def test_stages_and_tasks_are_kept_apart(tmp_path: Path) -> None:
    fill(tmp_path / "j", "one")
    assert kept(tmp_path / "j", "two") == [None] * 4
    with Journal.open(tmp_path / "j") as log:
        assert log.get("one", Task(TASKS[0].audio_path, "another reference")) is None


def test_a_changed_reference_signal_is_another_task(tmp_path: Path) -> None:
    clean = tmp_path / "clean.wav"
    clean.write_bytes(b"1")
    task = Task("a.wav", str(clean))
    with Journal.open(tmp_path / "j") as log:
        log.append("stage", task, OUTCOMES[0])
    clean.write_bytes(b"12")
    with Journal.open(tmp_path / "j") as log:
        assert log.get("stage", task) is None


def test_without_a_path_nothing_is_remembered() -> None:
    with Journal.open(None) as log:
        log.append("stage", TASKS[0], OUTCOMES[0])
        assert log.get("stage", TASKS[0]) is None


def test_an_outcome_may_rest_on_any_number_of_files(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in "abc"]
    for file in files:
        Path(file).write_bytes(b"1")
    with Journal.open(tmp_path / "j") as log:
        log.append("pairs", files, OUTCOMES[0])
        log.append("pairs", files[:2], OUTCOMES[1])
    with Journal.open(tmp_path / "j") as log:
        assert log.get("pairs", files) == OUTCOMES[0] and log.get("pairs", files[:2]) == OUTCOMES[1]
        assert log.get("pairs", files[::-1]) is None, "their order matters"
    Path(files[2]).write_bytes(b"12")
    with Journal.open(tmp_path / "j") as log:
        assert log.get("pairs", files) is None and log.get("pairs", files[:2]) == OUTCOMES[1]


@given(value=st.floats())
def test_numbers_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, value: float) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    for number in (value, 0.1 + 0.2, -0.0):
        with Journal.open(path) as log:
            log.append("stage", TASKS[0], Outcome({"a": number}))
        with Journal.open(path) as log:
            found = log.get("stage", TASKS[0])
        assert found is not None and repr(found.values["a"]) == repr(float(number)), "the last one counts"


@pytest.mark.parametrize("line", ["[]", "null", '{"key": 1}', '{"key": "k", "outcome": {"surprise": 1}}', "\x00\x00", '"text"'])
def test_lines_that_are_no_outcomes_are_passed_over(line: str, tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_text(line + "\n")
    fill(path)
    assert kept(path) == OUTCOMES
