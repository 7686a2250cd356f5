"""What a journal keeps of a judged content comes back whole, or not at all."""

from pathlib import Path

from urgentmos.clips.clip import Clip
from urgentmos.clips.journal import Journal, Outcome
from urgentmos.judges.contents import Content, by_content, remember, remembered, span


def clips(folder: Path, content: str = "u1") -> list[Clip]:
    made = []
    for system in ("a", "b", "c"):
        path = folder / f"{system}_{content}.wav"
        path.write_bytes(b"0")
        made.append(Clip(path.stem, str(path), system, content, None, None, metrics={}))
    return made


def test_a_content_comes_back_as_it_was(tmp_path: Path) -> None:
    group = clips(tmp_path)
    found = Content(
        [
            Outcome({"mos_overall": 3.5}, duration=1.5),
            Outcome(error="it is empty"),
            Outcome({"mos_overall": 2.0}, duration=2.0),
        ],
        {(0, 2): 0.75},
    )
    with Journal.open(tmp_path / "journal") as log:
        assert remembered(log, "net", group) is None
        remember(log, "net", group, found)
    with Journal.open(tmp_path / "journal") as log:
        assert remembered(log, "net", group) == found
        assert remembered(log, "another net", group) is None
        assert remembered(log, "net", group[:2]) is None  # judged in other company


def test_a_content_whose_pairs_were_not_written_is_judged_again(tmp_path: Path) -> None:
    group = clips(tmp_path)
    with Journal.open(tmp_path / "journal") as log:
        remember(log, "net", group, Content([Outcome({"mos_overall": 3.0})] * 3, {(0, 1): 0.5}))
    journal = tmp_path / "journal"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))  # the kill came before the last line
    with Journal.open(journal) as log:
        assert remembered(log, "net", group) is None


def test_contents_stand_in_the_order_of_their_first_clips(tmp_path: Path) -> None:
    one, two = clips(tmp_path, "u1"), clips(tmp_path, "u2")
    mixed = [two[0], one[0], two[1], one[1]]
    assert by_content(mixed) == {"u2": two[:2], "u1": one[:2]}
    assert list(by_content(mixed)) == ["u2", "u1"]


def test_the_span_of_lengths_leaves_out_what_was_not_decoded() -> None:
    assert span([Outcome(duration=2.0), Outcome(error="no file"), Outcome(duration=1.25)]) == (1.25, 2.0)
    assert span([]) == (0.0, 0.0)
