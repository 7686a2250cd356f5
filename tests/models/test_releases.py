"""The table of releases: complete, consistent, and readable without torch."""

import subprocess
import sys

import pytest

from urgentmos.metrics import METRICS
from urgentmos.models.official import FORMATS
from urgentmos.models.releases import RELEASES, Release

ROWS = list(RELEASES.values())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_says_what_is_needed_to_get_and_to_judge_it(row: Release) -> None:
    assert RELEASES[row.name] is row and row.format in FORMATS
    assert row.repo.count("/") == 1 and row.file.endswith((".pt", ".ckpt")) and row.trained_on
    assert row.size == f"about {4 * row.parameters} MB" and row.parameters > 0
    assert set(row.metrics) <= set(METRICS) and len(set(row.metrics)) == len(row.metrics)


def test_no_name_of_a_release_is_also_that_of_a_metric() -> None:
    assert not set(RELEASES) & set(METRICS)


def test_no_two_releases_are_the_same_file() -> None:
    assert len({(row.repo, row.file) for row in ROWS}) == len(ROWS)


def test_only_what_is_on_a_hub_can_be_fetched_by_name() -> None:
    assert [row.name for row in ROWS if not row.on_hub] == ["utmos22-strong"]


def test_the_table_needs_no_torch() -> None:
    code = "import sys, urgentmos.models.releases; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False"
