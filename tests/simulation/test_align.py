"""Delays are found, and taken out, for waves that survive and for waves that do not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.simulation import align
from urgentmos.simulation.align import aligned, delay, moved
from urgentmos.simulation.base import RATE
from urgentmos.simulation.codecs import probe


@settings(max_examples=20)
@given(st.integers(-3000, 3000), st.sampled_from(["wave", "both"]))
def test_a_shift_is_found_to_the_sample(shift: int, by: str) -> None:
    assert delay(probe(), moved(probe(), shift), by=by) == shift


@settings(max_examples=10)
@given(st.integers(-3000, 3000))
def test_envelopes_find_a_shift_to_a_millisecond(shift: int) -> None:
    assert abs(delay(probe(), moved(probe(), shift), by="envelope") - shift) <= 16


def test_the_level_does_not_matter() -> None:
    assert delay(probe(), 0.01 * moved(probe(), 123)) == 123


def test_envelopes_match_where_the_wave_is_gone() -> None:
    """Every phase is made up anew: only the spectrogram survives."""
    speech = probe()
    frames = np.lib.stride_tricks.sliding_window_view(speech, 320)[::160] * np.hanning(320)
    phases = np.exp(2j * np.pi * np.random.default_rng(0).random((len(frames), 161)))
    other = np.zeros_like(speech)
    for i, frame in enumerate(np.fft.irfft(np.abs(np.fft.rfft(frames)) * phases)):
        other[160 * i : 160 * i + 320] += frame
    late = moved(other, 700)
    assert abs(delay(speech, late, by="envelope") - 700) <= 48


def test_no_further_than_it_may_look() -> None:
    late = moved(probe(), 3000)
    assert abs(delay(probe(), late, max_seconds=0.05)) <= 0.05 * RATE
    assert delay(probe(), late, max_seconds=0.2) == 3000


@pytest.mark.parametrize("by", ["wave", "envelope", "both"])
def test_silence_has_no_delay(by: str) -> None:
    silence = np.zeros(4800, dtype=np.float32)
    assert delay(silence, probe(), by=by) == delay(probe(), silence, by=by) == 0
    assert delay(np.zeros(0), probe(), by=by) == 0


def test_long_recordings_go_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = align._envelopes(probe())
    monkeypatch.setattr(align, "BLOCK", 700)
    np.testing.assert_allclose(align._envelopes(probe()), whole)


@settings(max_examples=20)
@given(st.integers(0, 2000))
def test_aligned_undoes_a_shift(shift: int) -> None:
    out = aligned(probe(), moved(probe(), shift))
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, probe())


def test_aligned_is_as_long_as_the_reference() -> None:
    assert aligned(probe()[:20_000], moved(probe(), -500)).shape == (20_000,)


@given(st.integers(-20, 20))
def test_moved(by: int) -> None:
    signal = np.arange(1, 11)
    out = moved(signal, by)
    assert len(out) == max(0, 10 + by)
    assert list(out[out > 0]) == list(signal[max(0, -by) :])
