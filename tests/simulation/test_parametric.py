"""Parametric vocoders: prediction and pitch are right, and each feature can be spoilt by itself."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from urgentmos.simulation import parametric
from urgentmos.simulation.base import RATE, Degradation, Signal, Sources, power
from urgentmos.simulation.parametric import DEGRADATIONS, cepstra, excitation, from_cepstra, pitch, predicted, predictor
from urgentmos.simulation.transforms import stft

Voice = Callable[..., Signal]
NONE = Sources()
ROWS = pytest.mark.parametrize("row", DEGRADATIONS, ids=lambda row: row.name)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def made(row: Degradation, signal: Signal, step: int, seed: int = 3) -> Signal:
    if row.missing():
        pytest.skip(f"needs {row.missing()}")
    return row.apply(signal, rng(seed), NONE, **row.ladder[step])


def likeness(clean: Signal, out: Signal) -> float:
    """Correlation of spectrograms (4 ms frames) on a compressed scale, at most 1."""
    a, b = (np.abs(stft(x, 256, 64)) ** 0.3 for x in (clean, out))
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.fixture
def syllables(make_voice: Voice) -> Signal:
    """(T,) voice with silence on both sides."""
    voice = make_voice(1, 1.2)
    voice[: RATE // 4] *= 0.01
    voice[-RATE // 4 :] *= 0.01
    return voice


@ROWS
def test_every_step_is_as_long_finite_and_about_as_loud(row: Degradation, syllables: Signal) -> None:
    assert 4 <= len(row.ladder) <= 7
    for step in (0, len(row.ladder) // 2, len(row.ladder) - 1):
        out = made(row, syllables, step)
        assert out.shape == syllables.shape and out.dtype == np.float32 and np.isfinite(out).all()
        assert power(out) == pytest.approx(power(syllables), rel=0.01)


@ROWS
def test_the_mildest_step_is_in_time(row: Degradation, syllables: Signal) -> None:
    out = made(row, syllables, 0)
    by_shift = {shift: likeness(syllables, np.roll(out, shift)) for shift in (-128, 0, 128)}
    assert max(by_shift, key=by_shift.__getitem__) == 0, by_shift


@ROWS
@pytest.mark.parametrize("n", [100, 4800])
def test_short_and_silent_signals_survive(row: Degradation, n: int) -> None:
    for signal in (np.zeros(n, dtype=np.float32), (0.1 * rng().standard_normal(n)).astype(np.float32)):
        for step in (0, len(row.ladder) - 1):
            out = made(row, signal, step)
            assert out.shape == (n,) and np.isfinite(out).all()
            assert power(out) < 2 * power(signal)


@ROWS
def test_same_seed_same_samples(row: Degradation, syllables: Signal) -> None:
    np.testing.assert_array_equal(made(row, syllables, 1), made(row, syllables, 1))


# Linear prediction


def test_prediction_finds_the_filter_of_a_resonance() -> None:
    a = np.array([1.0, -1.6, 0.9])
    wave = lfilter([1], a, rng().standard_normal(2 * RATE)).astype(np.float32)
    found = predictor(predicted(stft(wave), 2).reflection)[10:-10].mean(axis=0)
    np.testing.assert_allclose(found, a, atol=0.05)


@settings(max_examples=25)
@given(st.integers(0, 999), st.integers(1, 30))
def test_reflections_are_stable_and_their_filters_minimum_phase(seed: int, order: int) -> None:
    wave = rng(seed).standard_normal(3000) * rng(seed + 1).choice([0, 1e-6, 1.0])
    found = predicted(stft(wave.astype(np.float32)), order)
    assert np.abs(found.reflection).max() < 1 and (found.error > 0).all()
    for a in predictor(found.reflection)[::8]:
        assert np.abs(np.roots(a)).max(initial=0) < 1


def test_the_envelope_has_the_power_of_the_spectrum(make_voice: Voice) -> None:
    spectrum = stft(make_voice(0, 1.0))
    ours = np.sum(predicted(spectrum, 20).envelope() ** 2)
    assert ours == pytest.approx(np.sum(np.abs(spectrum) ** 2), rel=0.2)


@pytest.mark.parametrize("hz", [80.0, 160.0, 310.0])
def test_pitch_of_pulses(hz: float) -> None:
    pulses = (np.diff(np.floor(np.arange(RATE + 1) * hz / RATE)) > 0).astype(np.float32)
    wave = lfilter([1], [1, -0.9], pulses).astype(np.float32)
    f0, voiced = pitch(wave)
    middle = slice(2000, -2000)
    assert np.median(f0[middle]) == pytest.approx(hz, rel=0.03) and voiced[middle].mean() > 0.95


def test_noise_has_no_pitch() -> None:
    _, voiced = pitch(rng().standard_normal(RATE).astype(np.float32))
    assert voiced.mean() < 0.1


def test_excitation_has_power_one_with_and_without_a_voice(make_voice: Voice) -> None:
    for signal in (make_voice(0, 2.0), rng().standard_normal(RATE).astype(np.float32)):
        assert power(excitation(signal, rng(), 0.1)) == pytest.approx(1, rel=0.2)


def test_dropped_residual_samples_fold_the_low_band_up(make_voice: Voice) -> None:
    """The made voice ends below 4 kHz; folding at 2 of 16 kHz brings something above."""
    clean = make_voice(0, 1.0)
    out = parametric.lpc_decimated(clean, rng(), NONE, keep=4)
    assert likeness(clean, out) < likeness(clean, parametric.lpc_decimated(clean, rng(), NONE, keep=1))


# WORLD


def test_cepstra_hold_what_they_took() -> None:
    smooth = np.exp(np.cos(np.linspace(0, 9, 513)))[None] * np.array([[1.0], [0.01]])
    ratio = np.log(from_cepstra(cepstra(smooth))[:, 5:-20] / smooth[:, 5:-20])
    assert np.abs(ratio).max() < 0.1
    assert from_cepstra(cepstra(smooth)[:, :1]).std(axis=1).max() < 1e-6  # the first coefficient is the level


def f0_of(signal: Signal) -> np.ndarray:
    found = parametric.analysed(signal).f0
    return found[found > 0]


def test_flat_pitch_is_flat(make_voice: Voice) -> None:
    pytest.importorskip("pyworld")
    clean = make_voice(0, 1.5)
    moved, flat = (f0_of(parametric.world_flat_pitch(clean, rng(), NONE, kept=kept)) for kept in (1.0, 0.0))
    assert np.subtract(*np.percentile(flat, [80, 20])) < 0.2 * np.subtract(*np.percentile(moved, [80, 20]))


def test_warping_moves_pitch_by_its_factor(make_voice: Voice) -> None:
    pytest.importorskip("pyworld")
    clean = make_voice(0, 1.0)
    ratios = [
        np.median(f0_of(parametric.world_warped(clean, rng(s), NONE, factor=1.3))) / np.median(f0_of(clean)) for s in range(6)
    ]
    assert all(min(abs(ratio - 1.3), abs(ratio - 1 / 1.3)) < 0.05 for ratio in ratios)
    assert max(ratios) > 1.2 and min(ratios) < 0.85


def test_a_whisper_has_no_pitch(make_voice: Voice) -> None:
    pytest.importorskip("pyworld")
    clean = make_voice(0, 1.0)
    spoken, whispered = (pitch(parametric.world_whisper(clean, rng(), NONE, share=s))[1].mean() for s in (0.0, 1.0))
    assert whispered < 0.5 * spoken


def test_without_world_the_message_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(parametric, "import_module", absent)
    parametric.world.cache_clear()
    with pytest.raises(parametric.UsageError, match="pip install pyworld"):
        parametric.world()
