"""PESQ as the URGENT challenges practise it; its failures are reasons, never labels."""

import numpy as np
import pytest
import soxr

pytest.importorskip("pesq")

from urgentmos.errors import MeasureError
from urgentmos.labellers import Settings, Signals, pesq

WB_BEST, NB_BEST = 4.64389, 4.54864


@pytest.fixture(scope="module")
def measure():
    function = pesq.load(Settings())
    return lambda wave, reference, rate=16_000: function(Signals(wave, rate, reference))["pesq"]


@pytest.mark.parametrize("rate, best", [(8_000, NB_BEST), (16_000, WB_BEST), (22_050, WB_BEST), (48_000, WB_BEST)])
def test_a_clip_against_itself_is_the_top_of_its_mode(measure, make_voice, rate: int, best: float) -> None:
    wave = make_voice(0, 1.5, rate)
    assert measure(wave, wave, rate) == pytest.approx(best, abs=2e-5)


def test_level_and_sign_of_the_clip_do_not_matter(measure, make_voice, add_noise) -> None:
    clean = make_voice(0, 1.5)
    other = add_noise(clean, 15)
    value = measure(other, clean)
    for gain in (0.1, -1.0):
        assert measure(np.float32(gain) * other, clean) == pytest.approx(value, abs=2e-3)


@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_less_noise_is_better(measure, make_voice, add_noise, rate: int) -> None:
    clean = make_voice(0, 1.5, rate)
    values = [measure(add_noise(clean, snr), clean, rate) for snr in (0, 10, 20, 30, 40)]
    assert values == sorted(values) and values[-1] - values[0] > 1
    assert all(0.999 <= v <= WB_BEST for v in values)


@pytest.mark.parametrize("rate", [24_000, 48_000])
def test_higher_rates_are_soxr_resampled_to_16_khz(measure, make_voice, add_noise, rate: int) -> None:
    clean = make_voice(0, 1.2, rate)
    other = add_noise(clean, 20)
    low = [soxr.resample(x, rate, 16_000) for x in (other, clean)]
    assert measure(other, clean, rate) == measure(*low)


@pytest.mark.parametrize("rate, expected", [(8_000, "nb"), (16_000, "wb"), (44_100, "wb"), (96_000, "wb")])
def test_the_mode_follows_the_rate(rate: int, expected: str) -> None:
    assert pesq.mode(rate) == expected


@pytest.mark.parametrize("rate", [4_000, 11_025, 12_000, 15_999])
def test_other_rates_have_no_pesq(measure, make_voice, rate: int) -> None:
    wave = make_voice(0, 1.0, rate)
    with pytest.raises(MeasureError, match=f"not for {rate} Hz. Resample"):
        measure(wave, wave, rate)


@pytest.mark.parametrize(
    "wave_level, reference_level, says",
    [(0, 1, "silent clip"), (1, 0, "reference signal is silent"), (0, 0, "reference signal is silent")],
)
def test_silence_has_a_reason(measure, make_voice, wave_level: float, reference_level: float, says: str) -> None:
    wave = make_voice(0, 1.0)
    with pytest.raises(MeasureError, match=says):
        measure(np.float32(wave_level) * wave, np.float32(reference_level) * wave)


@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_a_clip_below_a_quarter_of_a_second_has_a_reason(measure, make_voice, rate: int) -> None:
    wave = make_voice(0, 1.0, rate)[: rate // 5]
    with pytest.raises(MeasureError, match=r"shorter than the 0\.25 s"):
        measure(wave, wave, rate)


def test_a_reference_signal_without_an_utterance_has_a_reason(measure) -> None:
    short = _bursts(5, on=0.15, every=0.4)  # no utterance of 0.2 s
    with pytest.raises(MeasureError, match="no speech"):
        measure(short, short)


@pytest.mark.parametrize("code", [-1, -2, -3, -4, -5, -6, -7, float("nan")])
def test_no_code_of_the_library_becomes_a_label(code: float) -> None:
    with pytest.raises(MeasureError):
        pesq.checked(code)


def _bursts(seconds: float, on: float = 0.2, every: float = 0.45) -> np.ndarray:
    """(T,) at 16 kHz: noise bursts, each an utterance to the ITU code if it lasts 0.2 s with as long a pause behind it."""
    t = np.arange(int(seconds * 16_000)) / 16_000
    noise = np.random.default_rng(0).standard_normal(len(t))
    return (0.1 * noise * (t % every < on)).astype(np.float32)


def test_more_utterances_than_the_itu_code_has_room_for_cost_one_value_only(measure, add_noise) -> None:
    clean = _bursts(40)  # 88 utterances: the ITU code writes past its arrays, and its process dies
    with pytest.raises(MeasureError, match="50 utterances"):
        measure(add_noise(clean, 20), clean)


def test_the_longest_clip_without_a_shield_has_room(measure, add_noise) -> None:
    clean = _bursts(pesq.SAFE_SECONDS)
    assert 1 < measure(add_noise(clean, 20), clean) < 4.5


def test_the_shield_does_not_change_the_value(make_voice, add_noise) -> None:
    clean = make_voice(0, 1.5)
    other = add_noise(clean, 20)
    here, child = (run("pesq", 16_000, "wb", clean, other) for run in (pesq._here, pesq._in_child))
    assert here == child
