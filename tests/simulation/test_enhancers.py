"""Made enhancers: in time, the same again, worse step by step; and each harms speech in the way that it is named after."""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.simulation import enhancers
from urgentmos.simulation.base import RATE, Degradation, Signal, Sources, power
from urgentmos.simulation.enhancers import DEGRADATIONS, lsa_gain, mixture, spoilt, tracked_noise, wiener_gain
from urgentmos.simulation.transforms import bin_hz, stft

Voice = Callable[..., Signal]
NONE = Sources()
ROWS = pytest.mark.parametrize("row", DEGRADATIONS, ids=lambda row: row.name)


def made(row: Degradation, signal: Signal, step: int, seed: int = 3) -> Signal:
    if row.missing():
        pytest.skip(f"needs {row.missing()}")
    return row.apply(signal, np.random.default_rng(seed), NONE, **row.ladder[step])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def with_pauses(make_voice: Voice, seconds: float = 2.0) -> tuple[Signal, slice, slice]:
    """(speech, where it speaks, where it is silent)."""
    speech = make_voice(0, seconds)
    n = len(speech)
    speech[: n // 2] = 0
    return speech, slice(n // 2 + 1000, n), slice(1000, n // 2 - 1000)


def spectral_distance(clean: Signal, out: Signal) -> float:
    """Mean dB between spectrograms, down to 30 dB under the peak."""
    a, b = (20 * np.log10(np.abs(stft(x)) + 0.03 * np.abs(stft(clean)).max()) for x in (clean, out))
    return float(np.mean(np.abs(a - b)))


def lag(clean: Signal, out: Signal) -> int:
    n = 2 * len(clean)
    products = np.fft.irfft(np.fft.rfft(out, n) * np.conj(np.fft.rfft(clean, n)), n)
    return int((np.argmax(products) + n // 2) % n - n // 2)


@ROWS
def test_output_is_as_long_finite_and_in_time(row: Degradation, make_voice: Voice) -> None:
    clean = make_voice(1, 1.5)
    for step in range(len(row.ladder)):
        out = made(row, clean, step)
        assert out.shape == clean.shape and out.dtype == np.float32 and np.isfinite(out).all()
    assert abs(lag(clean, made(row, clean, 0))) <= 1


@ROWS
@pytest.mark.parametrize("n", [100, 4800])
def test_short_and_silent_signals_survive(row: Degradation, n: int) -> None:
    for signal in (np.zeros(n, dtype=np.float32), (0.1 * rng().standard_normal(n)).astype(np.float32)):
        for step in (0, len(row.ladder) - 1):
            out = made(row, signal, step)
            assert out.shape == (n,) and np.isfinite(out).all()
            assert power(out) < 100 * power(signal)


@ROWS
def test_same_seed_same_samples(row: Degradation, make_voice: Voice) -> None:
    clean = make_voice(2, 0.7)
    before = clean.copy()
    np.testing.assert_array_equal(made(row, clean, 1), made(row, clean, 1))
    np.testing.assert_array_equal(clean, before)
    assert not np.array_equal(made(row, clean, 1, seed=3), made(row, clean, 1, seed=4))


@ROWS
def test_the_strong_end_is_farther_from_clean_than_the_mild_end(row: Degradation, make_voice: Voice) -> None:
    clean = make_voice(3, 1.5)
    assert 4 <= len(row.ladder) <= 7
    mild, strong = (np.mean([spectral_distance(clean, made(row, clean, step, seed)) for seed in (1, 2)]) for step in (0, -1))
    assert strong > 1.3 * mild


def test_names_are_unique() -> None:
    assert len({row.name for row in DEGRADATIONS}) == len(DEGRADATIONS)


@pytest.mark.parametrize("snr_db", [-5.0, 10.0])
def test_an_exact_ratio_mask_brings_speech_closer(make_voice: Voice, snr_db: float) -> None:
    clean = make_voice(0, 1.5)
    mix = mixture(clean, snr_db, rng(), NONE)
    out = enhancers.ratio_mask(clean, rng(), NONE, snr_db=snr_db, error=0.0, sharpness=1.0)
    assert power(out - clean) < 0.5 * power(mix.heard(mix.noisy) - clean)


def test_estimators_lower_the_noise_in_pauses(make_voice: Voice) -> None:
    speech, _, pause = with_pauses(make_voice)
    mix = mixture(speech, 5, rng(), NONE)
    noise = power(mix.heard(mix.noise)[pause])
    for apply in (enhancers.spectral_subtraction, enhancers.wiener, enhancers.mmse_lsa):
        assert power(apply(speech, rng(), NONE, snr_db=5.0)[pause]) < 0.4 * noise


def test_subtraction_turns_noise_into_islands(make_voice: Voice) -> None:
    speech, _, pause = with_pauses(make_voice, 4.0)

    def peakiness(out: Signal) -> float:
        level = np.abs(stft(out[pause]))[4:-4] ** 2
        return float(np.quantile(level, 0.999) / np.mean(level))

    noisy, _ = enhancers.add_noise(speech, 5.0, rng(), NONE)
    assert peakiness(enhancers.spectral_subtraction(speech, rng(), NONE, snr_db=5.0)) > 2 * peakiness(noisy)


@settings(max_examples=30)
@given(st.integers(1, 12), st.floats(1, 1e8))
def test_averages_of_power_are_powers_after_loud_frames_too(n_frames: int, loud: float) -> None:
    level = rng().random((40, 3), dtype=np.float32)
    level[10:12] *= loud
    level[20:] = 0
    out = enhancers.averaged(level, n_frames)
    assert out.min() >= 0 and not out[20 + n_frames :].any()
    np.testing.assert_allclose(enhancers.averaged(np.ones((40, 3)), n_frames), 1)


def test_tracked_noise_is_the_power_of_steady_noise() -> None:
    spectrum = np.abs(stft(rng().standard_normal(3 * RATE).astype(np.float32))) ** 2
    off = 10 * np.log10(np.mean(tracked_noise(spectrum, 128)[10:-10]) / np.mean(spectrum[10:-10]))
    assert abs(off) < 2


@given(st.floats(1e-4, 1e4), st.floats(1e-3, 1e4))
def test_gains_are_gains_and_lsa_suppresses_less(prior: float, posterior: float) -> None:
    low, high = (rule(np.array([prior]), np.array([posterior]))[0] for rule in (wiener_gain, lsa_gain))
    assert 0 <= low <= high + 1e-9 <= 1 + 2e-9


@given(st.floats(0, 10))
def test_spoilt_masks_stay_masks_and_only_errors_change_them(spread: float) -> None:
    mask = rng(1).random((40, 30)).astype(np.float32)
    out = spoilt(mask, rng(), spread)
    assert out.min() >= 0 and out.max() <= 1
    np.testing.assert_allclose(spoilt(mask, rng(), 0.0), np.clip(mask, 2e-3, 1 - 2e-3), atol=1e-5)


def test_a_stricter_criterion_keeps_less(make_voice: Voice) -> None:
    clean = make_voice(0, 1.0)
    powers = [power(enhancers.binary_mask(clean, rng(), NONE, snr_db=12.0, criterion_db=db)) for db in (-6.0, 6.0, 18.0, 30.0)]
    assert powers == sorted(powers, reverse=True) and powers[3] < 0.8 * powers[0]


def test_a_slow_mask_lets_noise_trail_behind_words(make_voice: Voice) -> None:
    speech = make_voice(0, 1.0)
    speech[len(speech) // 2 :] = 0
    after = slice(len(speech) // 2 + 1200, len(speech) // 2 + 2400)
    quick, slow = (power(enhancers.slow_mask(speech, rng(), NONE, snr_db=3.0, ms=ms)[after]) for ms in (5.0, 150.0))
    assert slow > 10 * quick


def test_speech_distortion_leaves_silence_silent(make_voice: Voice) -> None:
    speech, talk, pause = with_pauses(make_voice)
    out = enhancers.speech_distortion(speech, rng(), NONE, snr_db=-5.0)
    assert power(out[pause]) < 1e-9 < 1e-3 * power(speech[talk]) < power(out[talk] - speech[talk])


def test_a_residual_gate_pumps(make_voice: Voice) -> None:
    speech, talk, pause = with_pauses(make_voice)
    out = enhancers.residual_gate(speech, rng(), NONE, snr_db=0.0)
    assert power(out[pause]) < 1e-2 * power((out - speech)[talk])


def test_late_gates_cut_onsets_and_not_what_follows(make_voice: Voice) -> None:
    t = np.arange(RATE) / RATE
    tone = np.where(t > 0.4, 0.2 * np.sin(2 * np.pi * 300 * t), 0).astype(np.float32)
    out = enhancers.onset_loss(tone, rng(), NONE, snr_db=60.0, threshold_db=-20.0, late_ms=80.0)
    onset, later = slice(int(0.41 * RATE), int(0.44 * RATE)), slice(int(0.6 * RATE), int(0.9 * RATE))
    assert power(out[onset]) < 0.05 * power(tone[onset])
    assert power(out[later] - tone[later]) < 0.05 * power(tone[later])


def test_dull_takes_the_high_band_only() -> None:
    hiss = (0.1 * rng(5).standard_normal(RATE)).astype(np.float32)
    out = enhancers.dull(hiss, rng(), NONE, snr_db=40.0, cutoff=2000.0, drop_db=30.0)
    drop = 20 * np.log10(np.abs(stft(out)).mean(axis=0) / np.abs(stft(hiss)).mean(axis=0))
    assert abs(drop[(bin_hz() > 200) & (bin_hz() < 1800)].mean()) < 2
    assert drop[bin_hz() > 3000].mean() == pytest.approx(-30, abs=3)


def test_musical_residue_has_the_power_of_its_noise(make_voice: Voice) -> None:
    clean = make_voice(0, 1.0)
    residue = enhancers.musical_residue(clean, rng(), NONE, snr_db=10.0) - clean
    assert 10 * np.log10(power(clean) / power(residue)) == pytest.approx(10, abs=1.5)


def test_another_talker_leaks_only_where_there_is_one(tmp_path, make_voice: Voice) -> None:
    import soundfile

    soundfile.write(tmp_path / "other.wav", make_voice(9, 1.0), RATE)
    clean = make_voice(0, 1.0)
    both = Sources(noises=[], talkers=[tmp_path / "other.wav"])
    leak = enhancers.leaking_talker(clean, rng(), both, snr_db=5.0) - clean
    share = np.abs(np.fft.rfft(leak)) ** 2
    assert share[:4000].sum() > 0.95 * share.sum()  # the made voice ends at 3.6 kHz, hiss would not


def test_phase_errors_keep_the_level_and_lose_the_wave(make_voice: Voice) -> None:
    clean = make_voice(0, 1.0)
    near, far = (enhancers.phase_errors(clean, rng(), NONE, snr_db=40.0, spread=s) for s in (0.1, 1.0))
    assert np.corrcoef(clean, near)[0, 1] > 0.95 > 0.4 > np.corrcoef(clean, far)[0, 1]


def test_rnnoise_lowers_noise_and_keeps_time(shared) -> None:
    if find_spec("pyrnnoise") is None:
        pytest.skip("needs pyrnnoise")
    from urgentmos.audio.samples import load

    file = sorted((shared / "data/speech/ljmini").glob("*.flac"))[0]
    clean = load(file, RATE).wave[: 4 * RATE]
    for n in (len(clean), len(clean) - 77):
        out = enhancers.rnnoise(clean[:n], rng(), NONE, snr_db=30.0)
        finer = [soxr.resample(x, RATE, 3 * RATE) for x in (clean[:n], out)]
        assert abs(lag(*finer)) <= 3
        assert power(out) > 0.5 * power(clean[:n])
    noisy, _ = enhancers.add_noise(clean, 5.0, rng(), NONE)
    assert power(enhancers.rnnoise(clean, rng(), NONE, snr_db=5.0) - clean) < 0.5 * power(noisy - clean)


def test_without_rnnoise_the_message_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enhancers, "find_spec", lambda name: None)
    enhancers.rnnoise_library.cache_clear()
    with pytest.raises(enhancers.UsageError, match="pip install --no-deps pyrnnoise"):
        enhancers.rnnoise_library()
