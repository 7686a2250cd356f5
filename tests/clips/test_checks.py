"""check looks at everything and names it; report says it once."""

import pytest

from urgentmos.clips.checks import check, report
from urgentmos.clips.clip import Clip


@pytest.fixture
def wav(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"x")
    return str(path)


def kinds(clips, **how):
    return [(problem.kind, problem.uid) for problem in check(clips, **how)]


def test_good_clips_have_no_problems(wav):
    clips = [Clip(f"{s}:{u}", wav, s, u, duration=0.0, metrics={"pesq": None, "mos_overall": 5.0}) for s in "ab" for u in "xy"]
    assert check(clips, systems=True) == []
    assert report([]) == ""


def test_every_kind_is_found_in_one_pass(wav, tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "folder.wav").mkdir()
    clips = [
        Clip("gone", str(tmp_path / "no.wav")),
        Clip("nul", "a\0b.wav"),
        Clip("folder", str(tmp_path / "folder.wav")),
        Clip("empty", str(tmp_path / "empty.wav")),
        Clip("noref", wav, reference_path=str(tmp_path / "no.wav")),
        Clip("twice", wav),
        Clip("twice", wav),
        Clip("high", wav, metrics={"mos_overall": 5.01, "estoi": -1.5}),
        Clip("odd", wav, metrics={"mso": 3.0}),
        Clip("back", wav, duration=-1.0),
    ]
    assert kinds(clips) == [
        ("missing file", "gone"),
        ("missing file", "nul"),
        ("missing file", "folder"),
        ("empty file", "empty"),
        ("missing reference signal", "noref"),
        ("label out of range", "high"),
        ("label out of range", "high"),
        ("negative duration", "back"),
        ("duplicate uid", "twice"),
        ("unknown metric", "odd"),
    ]


def test_unequal_and_repeated_contents_name_the_system(wav):
    clips = [Clip(f"{s}{u}", wav, s, u) for s, u in [("a", "x"), ("a", "y"), ("b", "x"), ("c", "x"), ("c", "y")]]
    clips.append(Clip("again", wav, "c", "y"))
    found = check(clips, systems=True)
    assert [(p.kind, p.uid) for p in found] == [("repeated content", "c"), ("unequal contents", "b")]
    assert "misses 1 of 2 contents: y" in found[1].message
    assert kinds(clips) == []


def test_an_unknown_metric_is_told_once(wav):
    found = check([Clip(str(i), wav, metrics={"mso": 1.0}) for i in range(5)])
    assert len(found) == 1
    assert "5 clips" in found[0].message


def test_a_report_counts_groups_and_cures():
    found = check([Clip(str(i), f"no{i}.wav", duration=-1.0) for i in range(12)])
    lines = report(found, limit=3).splitlines()
    assert lines[0] == "missing file (12)"
    assert lines[4] == "  and 9 more"
    assert lines[5].strip().startswith("Correct")
    assert lines[6] == "negative duration (12)"
    assert len(lines) == 12
