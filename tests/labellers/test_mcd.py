"""MCD: SPTK's mel-cepstra and the compiled fastdtw's path, reproduced without either."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import euclidean

from urgentmos.errors import MeasureError
from urgentmos.labellers import Settings, Signals, mcd

rates = pytest.mark.parametrize("rate", mcd.ORDER_AND_ALPHA)


@pytest.fixture(scope="module")
def measure():
    function = mcd.load(Settings())
    return lambda wave, reference, rate=16_000: function(Signals(wave, rate, reference))["mcd"]


# ---- mel-cepstra


@rates
def test_mel_cepstra_are_sptks(make_voice, rate: int) -> None:
    pysptk = pytest.importorskip("pysptk", exc_type=ImportError)
    order, alpha = mcd.ORDER_AND_ALPHA[rate]
    wave = make_voice(0, 0.5, rate)
    wave[3000:4500] = 0  # digital silence in the middle
    starts = range(0, len(wave) - mcd.FRAME + 1, mcd.HOP)
    window = pysptk.sptk.hamming(mcd.FRAME)
    frames = [wave[s : s + mcd.FRAME].astype(np.float64) * window for s in starts]
    expected = np.stack([pysptk.mcep(f, order, alpha, eps=mcd.EPS, etype=1) for f in frames])
    np.testing.assert_allclose(mcd.mel_cepstra(wave, order, alpha), expected, atol=1e-10)


def test_c0_holds_the_level(make_voice) -> None:
    wave = make_voice(0, 0.3)
    quiet, loud = (mcd.mel_cepstra(np.float32(g) * wave, 23, 0.42) for g in (10, 20))
    assert loud[:, 0] - quiet[:, 0] == pytest.approx(np.log(2), abs=0.01)
    np.testing.assert_allclose(loud[:, 1:], quiet[:, 1:], atol=0.01)


def test_a_frames_cepstrum_ignores_the_frames_around_it(make_voice) -> None:
    wave = make_voice(0, 0.5)
    order, alpha = mcd.ORDER_AND_ALPHA[16_000]
    whole = mcd.mel_cepstra(wave, order, alpha)
    part = mcd.mel_cepstra(wave[4 * mcd.HOP : 4 * mcd.HOP + 3000], order, alpha)
    np.testing.assert_allclose(part, whole[4 : 4 + len(part)], atol=1e-10)


# ---- the warping path


def _warped(seed: int, n: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Two (n, 3) walks; the second is the first at an uneven pace, with a little noise."""
    rng = np.random.default_rng(seed)
    a = np.cumsum(rng.standard_normal((n, 3)), axis=0)
    pace = np.cumsum(rng.random(n) ** (1 + 4 * strength))
    position = (pace - pace[0]) / max(pace[-1] - pace[0], 1e-9) * (n - 1)
    b = np.stack([np.interp(position, np.arange(n), a[:, d]) for d in range(3)], axis=1)
    return a, b + 0.1 * rng.standard_normal(b.shape)


@settings(max_examples=80)
@given(st.integers(0, 10_000), st.integers(1, 90), st.floats(0, 2))
@example(0, 1, 0.0)
@example(0, 2, 1.0)
@example(0, 3, 1.0)
def test_the_path_is_that_of_the_compiled_fastdtw(seed: int, n: int, strength: float) -> None:
    compiled = pytest.importorskip("fastdtw._fastdtw")
    a, b = _warped(seed, n, strength)
    _, path = compiled.fastdtw(a, b, radius=1, dist=euclidean)
    np.testing.assert_array_equal(mcd.fast_dtw(a, b), path)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 3))
def test_a_path_starts_and_ends_at_the_corners_and_never_turns_back(seed: int, n: int, radius: int) -> None:
    a, b = _warped(seed, n, 1.0)
    path = mcd.fast_dtw(a, b, radius)
    assert path[0].tolist() == [0, 0] and path[-1].tolist() == [n - 1, n - 1]
    assert {tuple(s) for s in np.diff(path, axis=0).tolist()} <= {(0, 1), (1, 0), (1, 1)}


def test_equal_sequences_are_walked_along_the_diagonal() -> None:
    a, _ = _warped(1, 50, 0)
    np.testing.assert_array_equal(mcd.fast_dtw(a, a), np.repeat(np.arange(50)[:, None], 2, axis=1))


def test_the_distortion_is_kubicheks_formula() -> None:
    a, b = np.zeros((5, 4)), np.full((5, 4), 0.5)
    assert mcd.distortion(a, b) == pytest.approx(10 / np.log(10) * np.sqrt(2 * 4 * 0.25))


# ---- the metric


@rates
def test_a_clip_against_itself_is_0(measure, make_voice, rate: int) -> None:
    wave = make_voice(0, 0.5, rate)
    assert measure(wave, wave, rate) == pytest.approx(0, abs=1e-3)


def test_it_is_the_challenges_pipeline(measure, make_voice, add_noise) -> None:
    pysptk = pytest.importorskip("pysptk", exc_type=ImportError)
    compiled = pytest.importorskip("fastdtw._fastdtw")
    clean = make_voice(0, 0.8)
    other = np.roll(add_noise(clean, 10), 400)
    scaled = other * (np.dot(clean, other) / (np.dot(other, other) + 1e-8))
    window = pysptk.sptk.hamming(1024)

    def cepstra(wave: np.ndarray) -> np.ndarray:
        frames = [wave[s : s + 1024].astype(np.float64) * window for s in range(0, len(wave) - 1023, 256)]
        return np.stack([pysptk.mcep(f, 23, 0.42, eps=1e-6, etype=1) for f in frames])

    a, b = cepstra(clean), cepstra(scaled)
    _, path = compiled.fastdtw(a, b, radius=1, dist=euclidean)
    i, j = np.array(path).T
    expected = np.mean(10 / np.log(10) * np.sqrt(2 * np.sum((a[i] - b[j]) ** 2, axis=1)))
    assert measure(other, clean) == pytest.approx(expected, abs=1e-4)


def test_less_noise_is_better(measure, make_voice, add_noise) -> None:
    clean = make_voice(0, 0.4)
    values = [measure(add_noise(clean, snr), clean) for snr in (0, 10, 20, 40)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("gain", [0.1, -1.0, 5.0])
def test_level_and_polarity_do_not_matter(measure, make_voice, add_noise, gain: float) -> None:
    clean = make_voice(0, 0.8)
    other = add_noise(clean, 10)
    assert measure(np.float32(gain) * other, clean) == pytest.approx(measure(other, clean), abs=1e-3)


@pytest.mark.parametrize("rate", [11_025, 12_000, 96_000])
def test_other_rates_have_no_mcd(measure, make_voice, rate: int) -> None:
    wave = make_voice(0, 0.3, rate)
    with pytest.raises(MeasureError, match=f"defined for 8000, .*not for {rate} Hz"):
        measure(wave, wave, rate)


def test_a_clip_below_one_frame_has_a_reason(measure, make_voice) -> None:
    wave = make_voice(0, 0.5)[:1023]
    with pytest.raises(MeasureError, match="1023 samples are fewer than the 1024"):
        measure(wave, wave)


def test_one_frame_is_enough(measure, make_voice, add_noise) -> None:
    wave = make_voice(0, 0.5)[:1024]
    assert measure(add_noise(wave, 10), wave) > 0


def test_a_silent_reference_signal_is_not_perfect_but_a_reason(measure, make_voice) -> None:
    wave = make_voice(0, 0.5)
    with pytest.raises(MeasureError, match="reference signal is silent"):
        measure(wave, 0 * wave)


def test_a_silent_clip_is_far_away(measure, make_voice, add_noise) -> None:
    wave = make_voice(0, 0.5)
    assert measure(0 * wave, wave) > measure(add_noise(wave, 0), wave) > 1
