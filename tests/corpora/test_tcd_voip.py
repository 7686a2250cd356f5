"""TCD-VoIP: condition ids that begin anew in each degradation, listeners headed by numbers, references beside the clips."""

from typing import Any

import pytest

from urgentmos.corpora.tcd_voip import SHEET, WORKBOOK
from urgentmos.errors import UsageError


def workbook(disk, *rows: tuple[Any, ...], sheet: str = SHEET) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    book.active.title = "Test Set Conditions"
    page = book.create_sheet(sheet)
    page.append(("", "", "", "Listener"))  # a line above the head
    page.append(("Filename", "ConditionID", 1, 2, 3, "sample MOS"))
    for row in rows:
        page.append(row)
    (disk.root / "Test Set").mkdir(exist_ok=True)
    book.save(disk.root / "Test Set" / WORKBOOK)


def test_condition_1_of_two_degradations_is_two_systems(disk) -> None:
    workbook(disk, ("C_01_ECHO_FA.wav", 1, 4, 5, 3, 4.0), ("C_01_CHOP_FA.wav", 1, 1, 2, 3, 2.0))
    clips = disk.clips("tcd_voip", "train")
    assert [clip.system_id for clip in clips.values()] == ["ECHO-01", "CHOP-01"]
    assert [clip.reference_id for clip in clips.values()] == ["ECHO_FA", "CHOP_FA"]
    assert clips["C_01_ECHO_FA"].audio_path.endswith("Test Set/echo/C_01_ECHO_FA.wav")


def test_listeners_are_the_columns_headed_by_numbers_and_an_empty_cell_is_no_rating(disk) -> None:
    workbook(disk, ("C_01_ECHO_FA.wav", 1, 4, None, 3, 9.0), ("C_02_ECHO_FA.wav", 2, None, None, None, 2.5))
    one, two = disk.clips("tcd_voip", "train").values()
    assert one.meta["mos_overall"] == [["1", 4.0], ["3", 3.0]] and one.metrics["mos_overall"] == 3.5
    assert one.meta["empty_ratings"] == 1 and two.metrics["mos_overall"] == 2.5


def test_references_are_no_clips(disk, rows) -> None:
    workbook(disk, ("C_01_ECHO_FA.wav", 1, 4, 5, 3, 4.0))
    disk.wav("Test Set/echo/C_01_ECHO_FA.wav", "Test Set/ref/R_01_ECHO_FA.wav")
    _, output = disk.prepare("tcd_voip")
    (row,) = rows(output / "train.jsonl")
    assert row["uid"] == "tcd_voip:C_01_ECHO_FA" and row["reference_path"].endswith("ref/R_01_ECHO_FA.wav")


def test_another_workbook_is_refused(disk) -> None:
    workbook(disk, sheet="Results")
    with pytest.raises(UsageError, match="Subjective Test Scores"):
        disk.clips("tcd_voip", "train")


def test_a_workbook_that_cannot_be_read_is_named(disk) -> None:
    disk.text(f"Test Set/{WORKBOOK}", "<html>")
    with pytest.raises(UsageError, match="is not a workbook"):
        disk.clips("tcd_voip", "train")
