"""Made vocoders and codecs: in time, the same again, worse step by step, and damaged where their names say."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.simulation import vocoders
from urgentmos.simulation.base import RATE, Degradation, Signal, Sources, power
from urgentmos.simulation.transforms import bin_hz, mdct, stft
from urgentmos.simulation.vocoders import DEGRADATIONS, quantised

Voice = Callable[..., Signal]
NONE = Sources()
ROWS = pytest.mark.parametrize("row", DEGRADATIONS, ids=lambda row: row.name)
LADDERS = pytest.mark.parametrize("row", [row for row in DEGRADATIONS if len(row.ladder) > 1], ids=lambda row: row.name)
NO_CHANCE = {"quantised_phase", "zeroed_phase", "robot", "minimum_phase", "partials"} | {
    "copied_band", "mirrored_band", "upsampling_images", "upsampling_images_4", "transform_codec", "pre_echo",
}  # fmt: skip


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def made(row: Degradation, signal: Signal, step: int, seed: int = 3) -> Signal:
    return row.apply(signal, rng(seed), NONE, **row.ladder[step])


def likeness(clean: Signal, out: Signal) -> float:
    """Correlation of spectrograms on a compressed scale, at most 1."""
    a, b = (np.abs(stft(x)) ** 0.3 for x in (clean, out))
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def hiss(n: int = RATE) -> Signal:
    return (0.1 * rng(5).standard_normal(n)).astype(np.float32)


@ROWS
def test_every_step_is_as_long_finite_and_as_loud(row: Degradation, make_voice: Voice) -> None:
    clean = make_voice(1, 1.2)
    for step in range(len(row.ladder)):
        out = made(row, clean, step)
        assert out.shape == clean.shape and out.dtype == np.float32 and np.isfinite(out).all()
        assert 0.05 < power(out) / power(clean) < 5


@LADDERS
def test_the_last_step_is_worst(row: Degradation, make_voice: Voice) -> None:
    clean = make_voice(1, 1.2)
    assert 4 <= len(row.ladder) <= 7
    alike = [likeness(clean, made(row, clean, step)) for step in range(len(row.ladder))]
    assert alike[-1] < min(alike) + 0.02 and alike[-1] < alike[0] - 0.01


@ROWS
def test_speech_is_where_it_was(row: Degradation, make_voice: Voice) -> None:
    """Moved by 4 ms to either side, the mildest step is less like the clean speech."""
    clean = make_voice(1, 1.5)
    clean[: RATE // 2] = 0
    clean[-RATE // 4 :] = 0
    out = made(row, clean, 0)
    assert likeness(clean, out) > max(likeness(clean, np.roll(out, shift)) for shift in (-64, 64))


@ROWS
@pytest.mark.parametrize("n", [100, 4800])
def test_short_and_silent_signals_survive(row: Degradation, n: int) -> None:
    for signal in (np.zeros(n, dtype=np.float32), hiss(n)):
        for step in (0, len(row.ladder) - 1):
            out = made(row, signal, step)
            assert out.shape == (n,) and np.isfinite(out).all()
            assert power(out) < 100 * power(signal)


@ROWS
def test_same_seed_same_samples_another_seed_others(row: Degradation, make_voice: Voice) -> None:
    clean = make_voice(2, 0.7)
    last = len(row.ladder) - 1
    np.testing.assert_array_equal(made(row, clean, last), made(row, clean, last))
    assert np.array_equal(made(row, clean, last, seed=3), made(row, clean, last, seed=4)) == (row.name in NO_CHANCE)


# Phases


def test_many_phases_are_all_phases(make_voice: Voice) -> None:
    clean = make_voice(0, 0.5)
    np.testing.assert_allclose(vocoders.quantised_phase(clean, rng(), NONE, levels=4096), clean, atol=1e-3)


def test_phases_that_are_not_turned_change_nothing(make_voice: Voice) -> None:
    clean = make_voice(0, 0.5)
    for out in (
        vocoders.mixed_phase(clean, rng(), NONE, turned=0.0),
        vocoders.zeroed_phase(clean, rng(), NONE, share=0.0),
        vocoders.displaced_frames(clean, rng(), NONE, ms=0.0),
        vocoders.noise_excitation(clean, rng(), NONE, share=0.0),
    ):
        np.testing.assert_allclose(out, clean, atol=1e-4)


def test_zeroed_phases_beat_at_the_frame_rate() -> None:
    out = vocoders.zeroed_phase(hiss(), rng(), NONE, share=1.0)
    cycles = np.abs(out[: 128 * 120]).reshape(-1, 128).mean(axis=0)
    assert cycles.max() > 3 * cycles.min()


@pytest.mark.parametrize("hz", [1000.0, 4000.0])
@pytest.mark.parametrize("name", ["noise_above", "random_phase_above", "copied_band"])
def test_what_lies_below_is_left_alone(name: str, hz: float, make_voice: Voice) -> None:
    clean = make_voice(0, 1.0) + hiss()
    out = getattr(vocoders, name)(clean, rng(), NONE, hz=hz)
    spectra = [np.fft.rfft(x[: RATE // 2] * np.hanning(RATE // 2)) for x in (clean, out)]  # bins of 2 Hz
    edge = int(hz / 2)
    low, high = slice(0, edge - 60), slice(edge + 60, None)
    change = [
        np.sum(np.abs(spectra[1][band] - spectra[0][band]) ** 2) / np.sum(np.abs(spectra[0][band]) ** 2) for band in (low, high)
    ]
    assert change[0] < 0.01 < 0.5 < change[1]


# Features


def test_fine_steps_and_full_rank_change_little(make_voice: Voice) -> None:
    clean = make_voice(0, 1.0)
    for out in (
        vocoders.quantised_mel(clean, rng(), NONE, step_db=0.01),
        vocoders.low_rank(clean, rng(), NONE, rank=80),
        vocoders.feature_noise(clean, rng(), NONE, spread_db=0.0),
        vocoders.residual_quantised(clean, rng(), NONE, stages=1, codes=1000),
    ):
        assert likeness(clean, out) > 0.98


def test_slow_features_smear_a_click() -> None:
    click = 1e-4 * hiss()
    click[RATE // 2 : RATE // 2 + 32] += 0.5

    def after(rate: float) -> float:
        out = vocoders.slow_features(click, rng(), NONE, rate=rate)
        return power(out[RATE // 2 + 1100 : RATE // 2 + 2000]) / power(out)

    assert after(5.0) > 10 * after(62.5)


def test_fewer_partials_are_fewer_lines() -> None:
    t = np.arange(RATE) / RATE
    tones = sum(0.1 / k * np.sin(2 * np.pi * 400 * k * t) for k in range(1, 11)).astype(np.float32)

    def lines(count: int) -> int:
        level = np.abs(stft(vocoders.partials(tones, rng(), NONE, count=count), 2048, 512))[10:-10].mean(axis=0)
        return int(sum(level[round(400 * k * 2048 / RATE)] > 0.3 * 50 / k / 10 for k in range(1, 11)))

    assert lines(3) == 3 and lines(6) == 6 and lines(10) == 10


def test_holes_are_empty_and_as_many_as_said(make_voice: Voice) -> None:
    clean = hiss()
    shares = [power(vocoders.spectral_holes(clean, rng(), NONE, share=share)) / power(clean) for share in (0.0, 0.3, 0.6, 0.9)]
    assert shares[0] == pytest.approx(1, abs=0.01) and shares == sorted(shares, reverse=True) and shares[3] < 0.5


# Made-up bands


def test_images_lie_where_the_low_band_is_mirrored() -> None:
    tone = (0.3 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)).astype(np.float32)
    level = np.abs(np.fft.rfft(vocoders.upsampling_images(tone, rng(), NONE, image_db=-10.0)))
    assert int(np.argmax(level[4000:])) + 4000 == 7000
    assert 20 * np.log10(level[7000] / level[1000]) == pytest.approx(-10, abs=1)


def test_a_checkerboard_makes_images_at_fractions_of_the_rate() -> None:
    tone = (0.3 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)).astype(np.float32)
    level = np.abs(np.fft.rfft(vocoders.checkerboard(tone, rng(), NONE, depth=0.2, period=4)))
    strong = {int(f) for f in np.flatnonzero(level > 1e-3 * level.max())}
    assert {1000, 3000, 5000, 7000} >= strong > {1000}


def test_mirrored_bands_mirror() -> None:
    tone = (0.3 * np.sin(2 * np.pi * 2500 * np.arange(RATE) / RATE)).astype(np.float32)
    level = np.abs(stft(vocoders.mirrored_band(tone, rng(), NONE, hz=4000.0, tilt_db=12.0))).mean(axis=0)
    assert bin_hz()[128 + int(np.argmax(level[128:]))] == pytest.approx(5500, abs=32)


# Transform codecs


@settings(max_examples=15)
@given(st.floats(1, 40), st.floats(1, 2))
def test_more_bits_less_error(kbps: float, more: float) -> None:
    found = mdct(hiss(8000), 160)
    weight = np.ones_like(found)
    few, many = (np.sum((quantised(found, weight, 1000 * rate * 0.5) - found) ** 2) for rate in (kbps, kbps * more))
    assert many <= few * 1.001


def test_no_bits_no_sound() -> None:
    assert not quantised(mdct(hiss(8000), 160), np.ones((51, 160)), 1.0).any()


def test_long_frames_echo_ahead_of_a_click() -> None:
    click = 1e-4 * hiss()
    click[RATE // 2 : RATE // 2 + 16] += 0.5

    def before(hop: int) -> float:
        return power(vocoders.transform_codec(click, rng(), NONE, kbps=16.0, hop=hop)[RATE // 2 - 900 : RATE // 2 - 300])

    assert before(1024) > 10 * before(160)


def test_more_shapes_fit_better(make_voice: Voice) -> None:
    clean = make_voice(0, 0.5)
    errors = [power(vocoders.shape_codec(clean, rng(), NONE, bits=bits, width=4) - clean) for bits in (1, 4, 8)]
    assert errors == sorted(errors, reverse=True) and errors[2] < 0.5 * errors[0]


# Periodic artefacts


def test_buzz_is_periodic_and_as_loud_as_said(make_voice: Voice) -> None:
    clean = hiss()
    buzz = vocoders.frame_buzz(clean, rng(), NONE, level_db=-10.0, rate=80.0) - clean
    assert 10 * np.log10(power(buzz) / power(clean)) == pytest.approx(-10, abs=1)
    assert np.corrcoef(buzz[:-200], buzz[200:])[0, 1] > 0.95  # 80 Hz: 200 samples


def test_metal_rings_on_after_the_sound() -> None:
    burst = np.zeros(RATE, dtype=np.float32)
    burst[: RATE // 4] = hiss(RATE // 4)
    tail = slice(RATE // 4 + 600, RATE // 4 + 1400)
    assert power(vocoders.metallic(burst, rng(), NONE, share=1.0)[tail]) > 1e-4 > 1e-8 > power(burst[tail])
