"""Data of a run: splits by content, and a batch as arrays."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.clips.clip import Clip
from urgentmos.training.data import NO_VERDICT, Data, Pair, Plan, Reader, split


@given(st.floats(0.1, 0.9))
def test_a_split_keeps_contents_whole_and_drops_pairs_across(part: float) -> None:
    found = Data([Clip(f"c{k}", f"c{k}.wav", f"s{k % 4}", f"u{k // 4}", "x", 1.0) for k in range(40)])
    paired = Data(found.clips, [Pair(0, 39, 1.0, NO_VERDICT, True), Pair(0, 1, 1.0, NO_VERDICT, True)])
    train, valid = split(paired, part)
    assert not {c.reference_id for c in train.clips} & {c.reference_id for c in valid.clips}
    for side in (train, valid):
        assert all(pair.a < len(side.clips) and pair.b < len(side.clips) for pair in side.pairs)


def test_a_clip_that_cannot_be_decoded_has_no_labels_and_no_pairs(tmp_path, make_voice) -> None:
    import soundfile

    soundfile.write(tmp_path / "good.wav", make_voice(0, 0.5), 16_000)
    (tmp_path / "bad.wav").write_text("no audio")
    clips = [Clip(n, str(tmp_path / f"{n}.wav"), n, "u", "c", 0.5, metrics={"mos_overall": 3.0}) for n in ("good", "bad")]
    reader = Reader(Data(clips), ["mos_overall"], 16_000, 400, 0.25, "mos_overall")
    with pytest.warns(UserWarning, match="bad.wav"):
        item = reader[7, Plan([0, 1], [Pair(0, 1, 1.0, NO_VERDICT)])]
    assert item["labels"]["mos_overall"][0] == 3.0 and math.isnan(item["labels"]["mos_overall"][1])
    assert len(item["first"]) == 0 and item["index"] == 7 and item["wave"].shape == (2, 4000)


def test_kept_speech_is_the_same_and_bounded(tmp_path, make_voice) -> None:
    import numpy as np
    import soundfile

    clips = []
    for k in range(3):
        path = tmp_path / f"{k}.wav"
        soundfile.write(path, make_voice(k, 1.0), 16_000)
        clips.append(Clip(str(k), str(path), duration=1.0))
    kept = Reader(Data(clips), (), 16_000, 400, 30.0, "mos_overall", memory_gb=2.1 * 16_000 * 4 / 1e9)
    fresh = Reader(Data(clips), (), 16_000, 400, 30.0, "mos_overall")
    first = [kept.wave(clip) for clip in clips]
    for clip in clips:
        np.testing.assert_array_equal(kept.wave(clip), fresh.wave(clip))
    assert [kept.wave(clip) is wave for clip, wave in zip(clips, first, strict=True)] == [True, True, False]
