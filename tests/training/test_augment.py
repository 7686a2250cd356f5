import numpy as np
import pytest

from urgentmos.training.augment import Augment, faster

RATE = 16_000
LENGTHS = (8_000, 16_001, 40_000)


def waves(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(n).astype(np.float32) for n in LENGTHS]


def test_nothing_asked_nothing_done():
    before = waves()
    for wave, same in zip(Augment()(before, ["a", "b", "c"], 3, 100), before, strict=True):
        assert wave is same


def test_crop_keeps_a_piece_as_it_was():
    before = waves()
    for wave, whole in zip(Augment(crop=0.5)(before, ["a", "b", "c"], 0, 100), before, strict=True):
        assert 0.5 * len(whole) - 1 <= len(wave) < len(whole)
        starts = np.flatnonzero(whole == wave[0])
        assert any(np.array_equal(whole[s : s + len(wave)], wave) for s in starts)


def test_crops_reach_both_ends():
    wave = np.arange(10_000, dtype=np.float32)
    pieces = [Augment(crop=0.5)([wave], ["a"], index, 100)[0] for index in range(300)]
    assert min(p[0] for p in pieces) < 200
    assert max(p[-1] for p in pieces) > 9_800
    assert min(map(len, pieces)) < 5_300
    assert max(map(len, pieces)) > 9_700


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_faster_is_shorter_and_higher(speed):
    time = np.arange(2 * RATE) / RATE
    tone = np.sin(2 * np.pi * 1000 * time).astype(np.float32)
    out = faster(tone, speed)
    assert out.dtype == np.float32
    assert len(out) == pytest.approx(len(tone) / speed, abs=2)
    loudest = np.abs(np.fft.rfft(out * np.hanning(len(out)))).argmax() * RATE / len(out)
    assert loudest == pytest.approx(1000 * speed, abs=1)
    assert np.std(out) == pytest.approx(np.std(tone), rel=0.01)


def test_speeds_fill_their_range():
    wave = np.zeros(20_000, np.float32)
    speeds = [20_000 / len(Augment(speed=0.1)([wave], ["a"], index, 100)[0]) for index in range(200)]
    assert 0.899 < min(speeds) < 0.92
    assert 1.08 < max(speeds) < 1.101


def test_clips_of_a_content_get_the_same_and_others_do_not():
    wave = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    a, b, c = Augment(speed=0.1, crop=0.5)([wave, 2 * wave, wave], ["a", "a", "c"], 7, 100)
    assert len(a) == len(b) != len(c)
    assert np.allclose(2 * a, b, atol=1e-5)


def test_the_same_batch_is_the_same_again_and_the_next_is_not():
    augment = Augment(speed=0.1, crop=0.5, seed=5)
    first, again, after = (augment(waves(), "abc", index, 100) for index in (1, 1, 2))
    assert all(np.array_equal(x, y) for x, y in zip(first, again, strict=True))
    assert [len(x) for x in first] != [len(x) for x in after]
    assert [len(x) for x in Augment(speed=0.1, crop=0.5, seed=6)(waves(), "abc", 1, 100)] != [len(x) for x in first]


def test_a_clip_gets_the_same_in_whatever_company():
    augment = Augment(speed=0.1, crop=0.5)
    together = augment(waves(), ["a", "b", "c"], 4, 100)
    (alone,) = augment(waves()[1:2], ["b"], 4, 100)
    assert np.array_equal(together[1], alone)


def test_none_gets_too_short():
    short = np.ones(1000, np.float32)
    for index in range(50):
        (out,) = Augment(speed=0.5, crop=0.1)([short], ["a"], index, 900)
        assert len(out) >= 900
