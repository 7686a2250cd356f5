"""PLCMOS from the ONNX file of speechmos, with raters that stay the same."""

import numpy as np
import pytest

pytest.importorskip("speechmos")
pytest.importorskip("onnxruntime")

from urgentmos.labellers import Settings, Signals, plcmos


@pytest.fixture(scope="module")
def measure():
    function = plcmos.load(Settings())
    return lambda wave, rate=16_000: function(Signals(wave, rate))["plcmos"]


@pytest.fixture(scope="module")
def package():
    return pytest.importorskip("speechmos.plcmos")


@pytest.mark.parametrize("n", [1, 255, 256, 257, 16_000, 16_001])
@pytest.mark.parametrize("kind", ["voice", "gaps", "silence"])
def test_features_are_the_packages(package, make_voice, n: int, kind: str) -> None:
    wave = make_voice(0, 2.0)[8000 : 8000 + n]
    if kind != "voice":
        wave[n // 4 if kind == "gaps" else 0 :] = 0
    expected = np.float32(_bare(package).stft_transform(wave))
    np.testing.assert_allclose(plcmos.features(wave), expected, atol=1e-5)


def _bare(package):
    """The package's class without its network, which the features do not need."""
    return package.PLCMOS.__new__(package.PLCMOS)


def test_the_score_is_within_the_scatter_of_the_packages(measure, package, make_voice, add_noise) -> None:
    wave = add_noise(make_voice(0, 2.0), 20)
    state = np.random.get_state()
    try:
        np.random.seed(0)
        expected = np.mean([package.run(wave, 16_000)["plcmos"] for _ in range(4)])
    finally:
        np.random.set_state(state)
    assert measure(wave) == pytest.approx(expected, abs=0.05)


def test_the_score_repeats_to_the_bit_whatever_was_heard_before(make_voice) -> None:
    first, second = plcmos.load(Settings()), plcmos.load(Settings())
    wave, other = (Signals(make_voice(i, 1.0), 16_000) for i in (0, 1))
    value = first(wave)
    second(other)
    np.random.seed(5)
    assert first(wave) == second(wave) == value


def test_gaps_are_heard(measure, make_voice) -> None:
    wave = make_voice(0, 2.0)
    gaps = wave * (np.arange(len(wave)) % 1600 < 800)
    assert measure(gaps) < measure(wave)


def test_other_rates_go_in_at_16_khz(measure, make_voice) -> None:
    signals = Signals(make_voice(0, 1.0, 48_000), 48_000)
    assert measure(signals.wave, 48_000) == measure(signals.at(16_000)[0])


def test_silence_has_a_finite_score(measure) -> None:
    assert 1 <= measure(np.zeros(16_000, np.float32)) <= 5
