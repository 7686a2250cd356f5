"""Warnings of many clips add up to sentences that name systems, and lose no clip."""

import re

from hypothesis import given
from hypothesis import strategies as st

from urgentmos.common.clip_warnings import KINDS, NAMED_SYSTEMS, NEVER_MERGED, Flagged, above_band, grouped, is_silent, kind_of

WARNINGS = st.lists(
    st.sampled_from([f"{kind}: some detail: with a colon" for kind in KINDS] + ["an older sentence"]), max_size=4
)
CLIPS = st.lists(st.builds(Flagged, st.sampled_from(["a", "b", "c", "d", "e", "f", None]), WARNINGS), max_size=30)


def test_a_muted_system_is_named_with_its_clips() -> None:
    clips = [Flagged("muted", ["silence: the level is digital zero"])] * 10 + [Flagged("noisy", [])] * 10
    assert grouped(clips) == ["muted: 10 of 10 clips are digital silence"]


def test_near_silence_is_not_called_digital_silence() -> None:
    clips = [Flagged(None, ["silence: the level is digital zero"]), Flagged(None, ["silence: the level is -92 dBFS"])]
    assert grouped([*clips, Flagged(None, [])]) == ["2 of 3 clips are silent"]
    assert grouped([clips[1]]) == ["1 of 1 clip is silent"]


def test_the_gravest_kind_comes_first() -> None:
    clips = [Flagged("x", ["clipping: 4 % of the samples"]), Flagged("x", ["silence: the level is -92 dBFS"])]
    assert [sentence.split()[-1] for sentence in grouped(clips)] == ["silent", "clipped"]


@given(CLIPS)
def test_the_counts_are_those_of_the_clips(clips: list[Flagged]) -> None:
    sentences = grouped(clips)
    for kind in KINDS:
        counted = sum(any(kind_of(w) == kind for w in clip.warnings) for clip in clips)
        own = [s for s in sentences if any(s.replace("digital silence", "silent").endswith(form) for form in KINDS[kind])]
        assert counted == sum(int(re.search(r"(\d+) of \d+ clips?", sentence)[1]) for sentence in own)  # type: ignore[index]
        systems = {clip.system for clip in clips if any(kind_of(w) == kind for w in clip.warnings)}
        merged = len(systems) > NAMED_SYSTEMS and kind not in NEVER_MERGED
        assert len(own) == (1 if merged else len(systems))


@given(WARNINGS)
def test_a_clip_is_silent_if_a_warning_says_so(warnings: list[str]) -> None:
    assert is_silent(warnings) == any(w.startswith("silence: ") for w in warnings)
    assert all(kind_of(w) in KINDS or w == "an older sentence" for w in warnings)


def test_one_sentence_tells_how_many_clips_reach_above_what_a_model_hears() -> None:
    (sentence,) = above_band({"": [7_000.0, 8_000.0, 8_000.1, 20_000.0, None]}, 8_000.0, "pocket")
    assert sentence.startswith("2 of 4 clips hold sound above 8 kHz, which pocket does not hear")
    (sentence,) = above_band({"old": [7_000.0, None], "new": [9_000.0, 10_000.0]}, 8_000.0, "pocket")
    assert sentence.startswith("old: 0 of 1, new: 2 of 2 clips hold sound above 8 kHz")
    assert above_band({"": [20_000.0]}, None, "pocket") == [] and above_band({"": [None, 100.0]}, 8_000.0, "pocket") == []
