"""DNSMOS from the ONNX files of speechmos: the package's values, without its limits."""

import numpy as np
import pytest

pytest.importorskip("speechmos")
pytest.importorskip("onnxruntime")

from urgentmos.errors import MeasureError
from urgentmos.labellers import Settings, Signals, dnsmos
from urgentmos.metrics import METRICS

NAMES = {"dnsmos_ovrl": "ovrl_mos", "dnsmos_sig": "sig_mos", "dnsmos_bak": "bak_mos", "dnsmos_p808": "p808_mos"}


@pytest.fixture(scope="module")
def measure():
    function = dnsmos.load(Settings())
    return lambda wave, rate=16_000: function(Signals(wave, rate))


@pytest.mark.parametrize("seconds", [1, 5, 9.5, 12.3])
def test_the_values_are_the_packages(measure, make_voice, add_noise, seconds: float) -> None:
    package = pytest.importorskip("speechmos.dnsmos")
    wave = add_noise(make_voice(0, seconds), 15)
    expected = package.run(wave, 16_000)
    assert measure(wave) == {ours: pytest.approx(expected[theirs], abs=1e-4) for ours, theirs in NAMES.items()}


def test_other_rates_go_in_at_16_khz(measure, make_voice) -> None:
    signals = Signals(make_voice(0, 1.0, 44_100), 44_100)
    assert measure(signals.wave, 44_100) == measure(signals.at(16_000)[0])


def test_levels_beyond_1_are_scored(measure, make_voice) -> None:
    wave = make_voice(0, 1.0)
    loud = wave * (2 / np.abs(wave).max())
    assert all(np.isfinite(v) for v in measure(loud).values())


@pytest.mark.parametrize("level", [0.0, 0.1, 1.0])
def test_scores_lie_in_the_range_of_the_table(measure, level: float) -> None:
    noise = np.float32(level) * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    for name, value in measure(noise).items():
        assert METRICS[name].low - 0.1 <= value <= METRICS[name].high


def test_noise_is_heard(measure, make_voice, add_noise) -> None:
    clean = make_voice(0, 2.0)
    assert measure(add_noise(clean, 0))["dnsmos_bak"] < measure(clean)["dnsmos_bak"]


# int(floor(seconds) - 9.01) + 1 windows: a clip of 10.01 s has one although two fit, and a short one is doubled past 9.01 s
@pytest.mark.parametrize(
    "samples, n", [(100, 3), (144_159, 9), (144_160, 1), (159_999, 1), (160_160, 1), (176_160, 2), (192_000, 3)]
)
def test_windows_are_whole_and_a_second_apart(samples: int, n: int) -> None:
    wave = np.arange(samples, dtype=np.float32)
    cut = dnsmos.windows(wave)
    assert cut.shape == (n, dnsmos.WINDOW)
    for i, window in enumerate(cut):
        np.testing.assert_array_equal(window, (np.arange(dnsmos.WINDOW) + i * 16_000) % samples)


def test_no_samples_have_a_reason_instead_of_a_loop_without_end() -> None:
    with pytest.raises(MeasureError, match="no samples"):
        dnsmos.windows(np.zeros(0, np.float32))
