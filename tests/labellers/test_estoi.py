"""ESTOI through pystoi, deterministic, without its sentinel."""

import warnings

import numpy as np
import pytest

pystoi = pytest.importorskip("pystoi")

from urgentmos.errors import MeasureError  # noqa: E402
from urgentmos.labellers import Settings, Signals, estoi  # noqa: E402


@pytest.fixture(scope="module")
def measure():
    function = estoi.load(Settings())
    return lambda wave, reference, rate=16_000: function(Signals(wave, rate, reference))["estoi"]


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 48_000])
def test_a_clip_against_itself_is_1(measure, make_voice, rate: int) -> None:
    wave = make_voice(0, 1.5, rate)
    assert measure(wave, wave, rate) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_it_is_pystois_extended_measure_at_the_files_own_rate(measure, make_voice, add_noise, rate: int) -> None:
    clean = make_voice(0, 1.5, rate)
    other = add_noise(clean, 5)
    assert measure(other, clean, rate) == pytest.approx(pystoi.stoi(clean, other, rate, extended=True), abs=1e-9)


def test_less_noise_is_better(measure, make_voice, add_noise) -> None:
    clean = make_voice(0, 1.5)
    values = [measure(add_noise(clean, snr), clean) for snr in (-10, 0, 10, 30)]
    assert values == sorted(values) and values[-1] > 0.9


def test_polarity_is_not_heard(measure, make_voice) -> None:
    wave = make_voice(0, 1.5)
    assert measure(-wave, wave) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("seconds", [0.2, 0.3, 0.39])
def test_the_sentinel_for_too_little_speech_is_no_label(measure, make_voice, seconds: float) -> None:
    wave = make_voice(0, seconds)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # and pystoi's warning does not reach the user
        with pytest.raises(MeasureError, match=r"less than 0\.4 s of speech"):
            measure(wave, wave)


def test_a_long_clip_of_pauses_has_too_little_speech(measure, make_voice) -> None:
    wave = np.concatenate([make_voice(0, 0.2), np.zeros(32_000, np.float32)])
    with pytest.raises(MeasureError, match=r"less than 0\.4 s of speech"):
        measure(wave, wave)


def test_a_silent_reference_signal_has_a_reason_and_a_silent_clip_a_value_near_0(measure, make_voice) -> None:
    wave = make_voice(0, 1.5)
    with pytest.raises(MeasureError, match="reference signal is silent"):
        measure(wave, 0 * wave)
    assert abs(measure(0 * wave, wave)) < 0.05


def test_the_value_does_not_depend_on_the_global_generator_nor_move_it(measure, make_voice) -> None:
    wave = make_voice(0, 1.0)
    values = []
    for seed in (1, 2):
        np.random.seed(seed)
        before = np.random.get_state()[1].tolist()
        values.append(measure(0 * wave, wave))  # nothing but pystoi's own noise
        assert np.random.get_state()[1].tolist() == before
    assert values[0] == values[1]


def test_the_generator_is_put_back_even_after_a_failure(make_voice, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> float:
        np.random.rand(5)
        raise ValueError("inside")

    monkeypatch.setattr(pystoi, "stoi", fail)
    wave = make_voice(0, 1.0)
    before = np.random.get_state()[1].tolist()
    with pytest.raises(ValueError, match="inside"):
        estoi.load(Settings())(Signals(wave, 16_000, wave))
    assert np.random.get_state()[1].tolist() == before
