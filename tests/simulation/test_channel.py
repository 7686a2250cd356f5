from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal as dsp

from urgentmos.audio.spectra import centred_stft, mel_filters
from urgentmos.simulation import channel
from urgentmos.simulation.base import RATE, Degradation, Sources, active_power, power

ROWS = {row.name: row for row in channel.DEGRADATIONS}
UNSTEADY = {"flutter", "wsola", "phasevocoder"}  # in time to about 2 ms, others to the sample
TURNED_DOWN = {"quiet"}


def run(name: str, speech: np.ndarray, step: int, seed: int = 0) -> np.ndarray:
    row = ROWS[name]
    return row.apply(speech, np.random.default_rng(seed), Sources(), **row.ladder[step])


def call(function, speech: np.ndarray, seed: int = 0, **setting) -> np.ndarray:
    return function(np.asarray(speech, dtype=np.float32), np.random.default_rng(seed), Sources(), **setting)


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def share_at(wave: np.ndarray, hertz: float, width: float = 20) -> float:
    """Share of the energy within `width` Hz of `hertz`."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(wave.size))) ** 2
    frequencies = np.fft.rfftfreq(wave.size, 1 / RATE)
    return float(spectrum[abs(frequencies - hertz) <= width].sum() / spectrum.sum())


def bursts(seed: int, seconds: float = 2.0) -> np.ndarray:
    """(T,) voice-like: pulses at 110 Hz through resonances, in syllables; with breath."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE)
    pulses = np.zeros(n)
    pulses[:: RATE // 110] = 1
    source = pulses + 0.02 * rng.standard_normal(n)
    wave = sum(dsp.lfilter([1], [1, -2 * 0.97 * np.cos(2 * np.pi * f / RATE), 0.97**2], source) for f in (600, 1500, 3200))
    syllables = np.clip(np.sin(2 * np.pi * 3 * np.arange(n) / RATE + seed), 0, 1) ** 0.5
    return (0.1 * wave * syllables / np.std(wave) + 1e-4 * rng.standard_normal(n)).astype(np.float32)


def log_mel(wave: np.ndarray) -> np.ndarray:
    spectrum = np.abs(centred_stft(wave, 512, 128)) ** 2 @ mel_filters(RATE, 512, 40).T
    return np.log10(spectrum / power(wave) + 1e-4)


def lag(before: np.ndarray, after: np.ndarray) -> int:
    """Samples by which `after` comes later, by cross-correlation of what lies within 30 ms."""
    correlation = dsp.correlate(after, before, "full", "fft")
    middle = before.size - 1
    return int(np.argmax(correlation[middle - 480 : middle + 481])) - 480


def envelope(wave: np.ndarray) -> np.ndarray:
    smooth = np.sqrt(dsp.fftconvolve(np.square(wave, dtype=np.float64), np.hanning(320), "same").clip(0))
    return np.asarray(smooth - smooth.mean())


@pytest.mark.parametrize("row", channel.DEGRADATIONS, ids=lambda row: row.name)
@pytest.mark.parametrize("kind", ["voice", "short", "silence", "click", "tiny"])
def test_any_signal_keeps_its_length_and_gives_the_same_samples_again(row: Degradation, kind: str):
    voice = bursts(0, 1.0)
    signal = {
        "voice": voice,
        "short": voice[: RATE * 3 // 10],
        "silence": 0 * voice,
        "click": np.eye(1, 5000, 9)[0],
        "tiny": voice[:150],
    }[kind].astype(np.float32)
    for step in (0, len(row.ladder) - 1):
        out = run(row.name, signal, step)
        assert out.shape == signal.shape and out.dtype == np.float32 and np.isfinite(out).all()
        np.testing.assert_array_equal(out, run(row.name, signal, step))
    if kind == "silence":
        assert np.abs(out).max() < 1e-3
    if kind == "voice":
        assert not np.allclose(out, signal, atol=1e-3)


@pytest.mark.parametrize("row", channel.DEGRADATIONS, ids=lambda row: row.name)
def test_every_step_of_a_ladder_is_further_from_the_clean_speech(row: Degradation):
    assert 4 <= len(row.ladder) <= 7
    damage = np.zeros(len(row.ladder))
    for seed in range(3):
        speech = bursts(seed)
        for step in range(len(row.ladder)):
            out = run(row.name, speech, step, seed)
            damage[step] += np.abs(log_mel(out) - log_mel(speech)).mean()
    assert all(mild < strong for mild, strong in pairwise(damage)), damage
    assert damage[-1] > 2 * damage[0]


@pytest.mark.parametrize("row", channel.DEGRADATIONS, ids=lambda row: row.name)
def test_what_comes_out_is_in_time(row: Degradation):
    speech = bursts(2)
    for step in range(3):
        out = run(row.name, speech, step)
        if row.name in UNSTEADY:
            assert abs(lag(envelope(speech), envelope(out))) <= 0.002 * RATE
        else:
            assert lag(speech, out) == 0


@pytest.mark.parametrize("row", channel.DEGRADATIONS, ids=lambda row: row.name)
def test_the_mildest_step_is_mild_and_about_as_loud(row: Degradation):
    speech = bursts(1)
    out = run(row.name, speech, 0)
    if row.name not in TURNED_DOWN:
        assert abs(10 * np.log10(power(out - out.mean()) / power(speech))) < 1.0
    if row.name not in UNSTEADY:
        assert np.corrcoef(speech, out)[0, 1] > 0.95


def test_clipping_cuts_at_its_threshold():
    speech = bursts(0)
    out = call(channel.clip_hard, speech, threshold=0.0)
    flat = np.abs(out) > 0.9999 * np.abs(out).max()
    limit = np.sqrt(active_power(speech))
    np.testing.assert_array_equal(flat, np.abs(speech) > 0.9999 * limit)
    np.testing.assert_allclose(out[~flat] / speech[~flat], np.abs(out).max() / limit, rtol=1e-3)


def test_saturation_is_odd_and_bounded_and_linear_when_soft():
    speech = bursts(0)
    hard = call(channel.clip_soft, speech, drive=20)
    np.testing.assert_allclose(call(channel.clip_soft, -speech, drive=20), -hard, atol=1e-6)
    assert np.abs(hard).max() < np.sqrt(active_power(speech)) * 1.5
    np.testing.assert_allclose(call(channel.clip_soft, speech, drive=-40), speech, atol=1e-3)


def test_an_offset_cuts_one_side_only():
    speech = bursts(0)
    peak = np.abs(speech).max()
    out = call(channel.dc_offset, speech, offset=0.9)
    kept = speech + 0.9 * peak < peak
    np.testing.assert_allclose(out[kept], speech[kept] + 0.9 * peak, atol=1e-6)
    np.testing.assert_allclose(out[~kept], peak)
    assert 0.01 < (~kept).mean() < 0.9


def test_quiet_speech_is_on_the_grid_of_16_bits():
    out = call(channel.quiet, bursts(0), gain=-50)
    np.testing.assert_array_equal(out * 2**15, np.round(out * 2**15))
    assert len(np.unique(out)) < 100
    loud = call(channel.quiet, bursts(0), gain=-20)
    assert 10 * np.log10(power(loud) / power(bursts(0))) == pytest.approx(-20, abs=0.05)


@given(bits=st.floats(2, 12))
def test_coarse_speech_has_as_many_steps_as_its_bits(bits):
    speech = bursts(0, 0.5)
    out = call(channel.coarse, speech, bits=bits)
    step = 2 * np.abs(speech).max() / 2**bits
    assert np.abs(out - speech).max() <= 0.501 * step
    assert len(np.unique(out)) <= 2**bits + 2


def test_pumping_lifts_the_pauses():
    speech = np.r_[np.zeros(RATE), bursts(0), np.zeros(RATE)].astype(np.float32)

    def pause_below_speech(strength: float) -> float:
        out = call(channel.pumping, speech, strength=strength, snr=40)
        return 10 * np.log10(active_power(out) / power(out[-RATE // 2 :]))

    assert pause_below_speech(0) == pytest.approx(40, abs=2)
    assert pause_below_speech(0.5) == pytest.approx(20, abs=5)
    assert pause_below_speech(1.0) < 6


def test_fading_changes_the_level_by_its_depth_and_nothing_else():
    carrier = np.random.default_rng(0).standard_normal(20 * RATE).astype(np.float32)
    out = call(channel.fading, carrier, depth=6)
    gain = 20 * np.log10(np.abs(out / carrier))
    assert gain.std() == pytest.approx(6, rel=0.35)  # between its random knots the curve is flatter
    assert np.abs(np.diff(gain)).max() < 0.1


@settings(max_examples=30)
@given(hertz=st.floats(60, 7900), low=st.floats(200, 1000), high=st.floats(2000, 7500))
def test_a_band_keeps_what_is_inside_untouched_and_loses_the_rest(hertz, low, high):
    wave = tone(hertz, 0.5)
    out = call(channel.band, wave, low=low, high=high)
    middle = slice(2000, -2000)
    if low + 60 < hertz < high - 60:
        np.testing.assert_allclose(out[middle], wave[middle], atol=0.004)
    elif hertz < low - 60 or hertz > high + 60:
        assert np.abs(out[middle]).max() < 0.004


@pytest.mark.parametrize(("rate", "order"), [(2200, 1), (3500, 0), (4000, 0), (22000, 0)])
def test_poor_interpolation_is_in_time_to_a_sample(rate, order):
    clock = np.arange(RATE) / RATE - 0.5  # tells the time that is heard; 0 in the middle, so that gains do not matter
    late = (call(channel.interpolated, clock, rate=rate, order=order) - clock) * RATE
    assert abs(late[2000:-2000].mean()) < 0.6


@pytest.mark.parametrize("order", [0, 1])
def test_poor_interpolation_mirrors_the_band(order):
    out = call(channel.interpolated, tone(900), rate=4000, order=order)
    assert share_at(out, 3100) > 0.001 and share_at(out, 4900) > 0.0001
    assert share_at(out, 900) + sum(share_at(out, f) for f in (3100, 4900, 7100)) > 0.999
    np.testing.assert_allclose(call(channel.interpolated, tone(900), rate=16000, order=order), tone(900), atol=1e-5)


def test_aliasing_folds_what_is_above_half_the_rate():
    out = call(channel.aliased, tone(5000), rate=8000)
    assert share_at(out, 3000) > 0.98
    np.testing.assert_allclose(call(channel.aliased, tone(1000), rate=8000)[500:-500], tone(1000)[500:-500], atol=0.01)


@given(q=st.floats(-5, 45), seed=st.integers(0, 99))
def test_mnru_is_q_db_below_the_signal_and_silent_with_it(q, seed):
    speech = np.r_[bursts(seed), np.zeros(500, np.float32)]
    error = call(channel.mnru, speech, seed, q=q).astype(np.float64) - speech
    assert 10 * np.log10(np.square(speech).sum() / np.square(error).sum()) == pytest.approx(q, abs=0.6)
    assert not error[-500:].any()


def test_more_clicks_and_gaps_are_the_same_and_more():
    speech = bursts(0)
    few, many = (call(channel.crackle, speech, rate=rate, level=-10) != speech for rate in (4, 40))
    assert (many[few]).mean() > 0.99 and many.sum() > 3 * few.sum()
    few, many = (np.abs(call(channel.dropouts, speech, rate=rate, length=0.02)) < 1e-9 for rate in (2, 10))
    assert (many[few]).all() and many.sum() > 2 * few.sum()


def test_gaps_are_where_somebody_talks_and_as_long_as_said():
    speech = np.r_[np.zeros(RATE), bursts(3), np.zeros(RATE)].astype(np.float32)
    for seed in range(5):
        out = call(channel.dropouts, speech, seed, rate=0.01, length=0.04)
        gone = np.flatnonzero((out == 0) & (speech != 0))
        assert 0.6 * 0.04 * RATE - 20 < gone.size < 1.4 * 0.04 * RATE  # one gap, though the rate asks for none
        assert gone.min() > RATE - 500 and gone.max() < 3 * RATE + 500


@given(depth=st.floats(0.001, 0.2), seed=st.integers(0, 999))
def test_flutter_errs_by_2_ms_at_most_and_by_its_depth(depth, seed):
    clock = np.linspace(0, 1, RATE, dtype=np.float32)  # tells the time that is heard
    off = call(channel.flutter, clock, seed, depth=depth).astype(np.float64) * (RATE - 1) - np.arange(RATE)
    inside = off[200:-200]
    assert np.abs(inside).max() < 0.00205 * RATE
    assert abs(inside.mean()) < 0.3 * 0.002 * RATE
    if depth < 0.02:
        assert depth * 0.9 < np.abs(np.diff(inside)).max() < 2.3 * depth + 0.01


@pytest.mark.parametrize("tempo", [channel._wsola, channel._phase_vocoder])
@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.7, 2.5])
def test_tempo_changes_and_pitch_stays(tempo, factor):
    wave = tone(440) * (np.arange(RATE) >= RATE // 2)
    out = tempo(wave, round(factor * RATE))
    assert out.size == round(factor * RATE)
    assert share_at(out[round(0.55 * factor * RATE) : round(0.95 * factor * RATE)], 440, 25) > 0.97
    onset = np.flatnonzero(np.abs(out) > 0.25)[0] / RATE
    assert onset == pytest.approx(0.5 * factor, abs=0.012 * max(1, factor))
    if factor == 1.0:
        np.testing.assert_allclose(out, wave, atol=1e-5)


def test_phase_noise_of_nothing_is_nothing():
    speech = bursts(0)
    np.testing.assert_allclose(call(channel.phase_noise, speech, spread=0.0), speech, atol=1e-6)


@given(n=st.integers(1, 3000), hop=st.sampled_from([64, 128]))
def test_the_short_time_spectrum_goes_there_and_back(n, hop):
    wave = np.random.default_rng(n).standard_normal(n)
    np.testing.assert_allclose(channel._istft(channel._stft(wave, 512, hop), 512, hop, n), wave, atol=1e-9)


@given(rate=st.sampled_from([2200, 3000, 8000, 10000, 12000, 22000, 60000]))
def test_resampling_is_in_time(rate):
    wave = np.exp(-np.square((np.arange(4000) - 2000) / 60.0))  # a smooth bump: any rate holds it
    few = channel._resample(wave, RATE, rate)
    expected = np.exp(-np.square((np.arange(few.size) * RATE / rate - 2000) / 60.0))
    np.testing.assert_allclose(few, expected, atol=0.01)
