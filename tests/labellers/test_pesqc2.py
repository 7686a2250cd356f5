"""PESQ with Corrigendum 2: higher than PESQ in wide-band, the same in narrow-band."""

import pytest

pytest.importorskip("pesq")
pytest.importorskip("pesqc2")

from urgentmos.errors import MeasureError
from urgentmos.labellers import Settings, Signals, pesq, pesqc2


@pytest.fixture(scope="module")
def both():
    old, new = pesq.load(Settings()), pesqc2.load(Settings())

    def measure(signals: Signals) -> tuple[float, float]:
        return old(signals)["pesq"], new(signals)["pesqc2"]

    return measure


@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize("snr", [5, 20])
def test_wide_band_is_higher_with_the_corrigendum(both, make_voice, add_noise, rate: int, snr: float) -> None:
    clean = make_voice(0, 1.5, rate)
    old, new = both(Signals(add_noise(clean, snr), rate, clean))
    assert old + 0.02 < new < 4.644


def test_narrow_band_is_the_same(both, make_voice, add_noise) -> None:
    clean = make_voice(0, 1.5, 8_000)
    old, new = both(Signals(add_noise(clean, 10), 8_000, clean))
    assert old == new


def test_a_clip_against_itself_is_the_top(both, make_voice) -> None:
    wave = make_voice(0, 1.5)
    assert both(Signals(wave, 16_000, wave)) == pytest.approx((4.64389, 4.64389), abs=2e-5)


def test_silence_has_a_reason(make_voice) -> None:
    wave = make_voice(0, 1.0)
    with pytest.raises(MeasureError, match="silent clip"):
        pesqc2.load(Settings())(Signals(0 * wave, 16_000, wave))
