"""Enhancers that write spectra anew: in time, the same again, worse step by step, wrong as their names say."""

from collections.abc import Callable

import numpy as np
import pytest

from urgentmos.simulation import regressors
from urgentmos.simulation.base import RATE, Degradation, Signal, Sources, power
from urgentmos.simulation.regressors import DEGRADATIONS
from urgentmos.simulation.transforms import stft

Voice = Callable[..., Signal]
NONE = Sources()
ROWS = pytest.mark.parametrize("row", DEGRADATIONS, ids=lambda row: row.name)


def made(row: Degradation, signal: Signal, step: int, seed: int = 3) -> Signal:
    return row.apply(signal, np.random.default_rng(seed), NONE, **row.ladder[step])


def likeness(clean: Signal, out: Signal) -> float:
    """Correlation of spectrograms on a compressed scale, at most 1."""
    a, b = (np.abs(stft(x)) ** 0.3 for x in (clean, out))
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@ROWS
def test_every_step_is_as_long_and_finite_and_the_last_is_worst(row: Degradation, make_voice: Voice) -> None:
    clean = make_voice(1, 1.5)
    assert 4 <= len(row.ladder) <= 7
    outs = [made(row, clean, step) for step in range(len(row.ladder))]
    for out in outs:
        assert out.shape == clean.shape and out.dtype == np.float32 and np.isfinite(out).all()
    alike = [likeness(clean, out) for out in outs]
    assert min(alike) == alike[-1] < alike[0] - 0.05


@ROWS
def test_speech_is_where_it_was(row: Degradation, make_voice: Voice) -> None:
    """Moved by 4 ms to either side, the mildest step is less like the clean speech."""
    clean = make_voice(1, 1.5)
    clean[: RATE // 2] = 0
    clean[-RATE // 4 :] = 0
    out = made(row, clean, 0)
    here = likeness(clean, out)
    assert here > max(likeness(clean, np.roll(out, shift)) for shift in (-64, 64))


@ROWS
@pytest.mark.parametrize("n", [100, 4800])
def test_short_and_silent_signals_survive(row: Degradation, n: int) -> None:
    for signal in (np.zeros(n, dtype=np.float32), (0.1 * np.random.default_rng(0).standard_normal(n)).astype(np.float32)):
        for step in (0, len(row.ladder) - 1):
            out = made(row, signal, step)
            assert out.shape == (n,) and np.isfinite(out).all()
            assert power(out) < 100 * power(signal) + 1e-6


@ROWS
def test_same_seed_same_samples(row: Degradation, make_voice: Voice) -> None:
    clean = make_voice(2, 0.7)
    np.testing.assert_array_equal(made(row, clean, 1), made(row, clean, 1))
    assert not np.array_equal(made(row, clean, 1, seed=3), made(row, clean, 1, seed=4))


def test_blur_in_frequency_fills_the_valleys_between_harmonics() -> None:
    t = np.arange(RATE) / RATE
    tones = sum(0.05 * np.sin(2 * np.pi * 500 * k * t) for k in range(1, 8)).astype(np.float32)

    def depth(hz: float) -> float:
        out = regressors.blur(tones, np.random.default_rng(0), NONE, snr_db=40.0, ms=0.0, hz=hz)
        level = np.abs(stft(out)).mean(axis=0)
        return float(level[32] / level[40])  # 1000 Hz and 1250 Hz

    assert depth(0.0) > 3 * depth(150.0)


def test_blur_in_time_smears_a_click(make_voice: Voice) -> None:
    click = np.zeros(RATE, dtype=np.float32)
    click[RATE // 2 : RATE // 2 + 8] = 0.5

    def spread(ms: float) -> float:
        out = regressors.blur(click, np.random.default_rng(0), NONE, snr_db=60.0, ms=ms, hz=0.0)
        return power(out[RATE // 2 + 400 : RATE // 2 + 1200]) / power(out)

    assert spread(20.0) > 20 * spread(0.0)


def test_uncertainty_needs_noise(make_voice: Voice) -> None:
    clean = make_voice(0, 1.0)
    assert likeness(clean, regressors.uncertain(clean, np.random.default_rng(0), NONE, snr_db=50.0)) > 0.97


def test_tokens_leave_pauses_without_noise(make_voice: Voice) -> None:
    """The mixture is as loud in the pause as in speech; what is made of it is not."""
    speech = make_voice(0, 2.0)
    speech[:RATE] = 0
    out = regressors.token_denoiser(speech, np.random.default_rng(0), NONE, snr_db=15.0)
    noise = power(speech) / 10**1.5
    assert power(out[2000 : RATE - 2000]) < 0.1 * noise


def test_hallucinations_grow_patch_by_patch(make_voice: Voice) -> None:
    clean = make_voice(0, 3.0)
    shares = (0.0, 0.1, 0.3, 0.8)
    plain, *others = (regressors.hallucinated(clean, np.random.default_rng(0), NONE, snr_db=15.0, share=s) for s in shares)
    changed = [float(np.mean(np.abs(out - plain) > 1e-6)) for out in others]
    assert 0.02 < changed[0] < 0.3 and changed == sorted(changed) and changed[2] > 0.35


def test_babble_is_as_loud_as_the_noise_was(make_voice: Voice) -> None:
    clean = make_voice(0, 1.5)
    extra = regressors.babbled(clean, np.random.default_rng(0), NONE, snr_db=6.0) - clean
    assert 10 * np.log10(power(clean) / power(extra)) == pytest.approx(6, abs=0.5)
