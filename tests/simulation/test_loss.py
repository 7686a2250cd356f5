"""Losses nest along a ladder, holes are where packets were, and everything stays as long as it was and in time."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.simulation import loss
from urgentmos.simulation.align import delay
from urgentmos.simulation.base import RATE, Degradation, Signal, Sources
from urgentmos.simulation.codecs import probe


def rows() -> Iterator[object]:
    for row in loss.DEGRADATIONS:
        yield pytest.param(row, id=row.name, marks=pytest.mark.skipif(bool(row.missing()), reason=f"needs {row.missing()}"))


every_loss = pytest.mark.parametrize("row", list(rows()))


def run(row: Degradation, step: int, signal: Signal, seed: int = 0) -> Signal:
    return row.apply(signal, np.random.default_rng(seed), Sources(), **row.ladder[step])


def speech() -> Signal:
    return probe()[:32_000]


# ---- which packets

masks = st.lists(st.booleans(), min_size=1, max_size=200).map(np.array)


@given(
    st.integers(30, 200).map(lambda n: np.arange(n) % 7 > 1),
    st.floats(0.02, 0.6),
    st.floats(0.02, 0.6),
    st.sampled_from([1, 1.5, 3, 10]),
    st.integers(0, 99),
)
def test_a_higher_rate_loses_all_that_a_lower_one_loses(
    active: np.ndarray, one: float, other: float, burst: float, seed: int
) -> None:
    low, high = (loss.lost_packets(active, r, burst, np.random.default_rng(seed)) for r in sorted((one, other)))
    assert not (low & ~high).any()


@given(masks, st.floats(0.001, 1), st.sampled_from([1, 3]), st.integers(0, 99))
def test_the_rate_is_kept_and_only_active_packets_are_lost(active: np.ndarray, rate: float, burst: float, seed: int) -> None:
    lost = loss.lost_packets(active, rate, burst, np.random.default_rng(seed))
    assert not (lost & ~active).any()
    assert lost.sum() == (max(1, round(rate * active.sum())) if active.any() else 0)


def test_no_rate_no_loss() -> None:
    assert not loss.lost_packets(np.ones(50, dtype=bool), 0.0, 1, np.random.default_rng(0)).any()


def test_bursts_are_as_long_as_they_should_be() -> None:
    def mean_run(burst: float) -> float:
        lost = loss.lost_packets(np.ones(20_000, dtype=bool), 0.05, burst, np.random.default_rng(1))
        return float(np.diff(loss.holes(lost, 1, lost.size), axis=1).mean())

    assert mean_run(1) == pytest.approx(1.05, abs=0.05)
    assert mean_run(3) == pytest.approx(3.1, abs=0.3)


def test_seeds_differ() -> None:
    lost = {loss.lost_packets(np.ones(100, dtype=bool), 0.1, 1, np.random.default_rng(s)).tobytes() for s in range(5)}
    assert len(lost) == 5


@given(masks, st.integers(1, 30))
def test_holes_cover_the_lost_packets_and_nothing_else(lost: np.ndarray, n_packet: int) -> None:
    n_samples = max(1, len(lost) * n_packet - n_packet // 2)
    covered = np.zeros(n_samples, dtype=bool)
    for start, end in loss.holes(lost, n_packet, n_samples):
        covered[start:end] = True
    np.testing.assert_array_equal(covered, np.repeat(lost, n_packet)[:n_samples])


def test_silent_packets_are_not_active() -> None:
    signal = np.concatenate([np.zeros(320), 0.1 * np.ones(320), 1e-4 * np.ones(320), 0.1 * np.ones(10)]).astype(np.float32)
    assert list(loss.active_packets(signal, 320)) == [False, True, False, True]
    assert not loss.active_packets(np.zeros(640, dtype=np.float32), 320).any()


# ---- what fills a hole

HOLE = np.array([[8000, 8320]])


@pytest.mark.parametrize("name", sorted(loss.CONCEALMENTS))
def test_outside_a_hole_and_the_join_behind_it_nothing_changes(name: str) -> None:
    out = loss.CONCEALMENTS[name](speech(), HOLE, np.random.default_rng(0))
    np.testing.assert_array_equal(out[:8000], speech()[:8000])
    np.testing.assert_array_equal(out[8320 + loss.RAMP :], speech()[8320 + loss.RAMP :])
    assert not np.array_equal(out[8000:8320], speech()[8000:8320])


@pytest.mark.parametrize("name", sorted(loss.CONCEALMENTS))
def test_what_was_lost_is_not_used(name: str) -> None:
    """Other samples in the hole, same outcome."""
    other = speech().copy()
    other[8000:8320] = 0.3
    one, two = (loss.CONCEALMENTS[name](s, HOLE, np.random.default_rng(0)) for s in (speech(), other))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", sorted(loss.CONCEALMENTS))
@pytest.mark.parametrize("gap", [(0, 320), (31_900, 32_000), (0, 32_000)])
def test_holes_at_the_edges(name: str, gap: tuple[int, int]) -> None:
    out = loss.CONCEALMENTS[name](speech(), np.array([gap]), np.random.default_rng(0))
    assert out.shape == speech().shape and np.isfinite(out).all()


def test_a_steady_voice_goes_on_by_its_pitch_and_not_by_blocks() -> None:
    """A pitch that does not divide the packet: whole packets would break the wave, periods do not."""
    t = np.arange(RATE) / RATE
    voice = sum(np.sin(2 * np.pi * 130 * k * t) / k for k in range(1, 8)).astype(np.float32)
    error = {
        name: float(np.mean((loss.CONCEALMENTS[name](voice, HOLE, np.random.default_rng(0)) - voice)[8000:8320] ** 2))
        for name in ("pitch", "repetition", "silence", "noise")
    }
    assert error["pitch"] < 0.05 * min(error["repetition"], error["silence"], error["noise"])


@given(st.integers(70, 380))
def test_the_pitch_of_a_steady_voice(hertz: int) -> None:
    t = np.arange(960) / RATE
    past = sum(np.cos(2 * np.pi * hertz * k * t) for k in range(1, 6)).astype(np.float32)
    periods = loss.pitch_period(past) * hertz / RATE
    assert periods == pytest.approx(round(periods), abs=0.03) and round(periods) >= 1


def test_long_holes_fade_to_nothing() -> None:
    gap = np.array([[8000, 8000 + 200 * loss.MS]])
    for name in ("pitch", "repetition", "noise"):
        out = loss.CONCEALMENTS[name](speech(), gap, np.random.default_rng(0))
        assert np.any(out[8000:8300]) and not np.any(out[8000 + 100 * loss.MS : 8000 + 190 * loss.MS])
    stutter = loss.with_stutter(speech(), gap, np.random.default_rng(0))
    assert np.any(stutter[8000 + 100 * loss.MS : 8000 + 190 * loss.MS])


def test_noise_takes_the_level_of_what_was_before() -> None:
    signal = (0.1 * np.random.default_rng(1).standard_normal(RATE)).astype(np.float32)
    out = loss.with_noise(signal, HOLE, np.random.default_rng(0))
    assert np.std(out[8000:8320]) == pytest.approx(np.std(signal[7680:8000]), rel=0.05)


def test_interleaving_makes_many_short_holes_out_of_one() -> None:
    """At the same rate no hole is longer than a unit, save where two lost units meet."""
    noise = (0.1 * np.random.default_rng(2).standard_normal(80 * loss.MS * 10)).astype(np.float32)
    out = loss.interleaved(noise, np.random.default_rng(0), Sources(), rate=0.02)
    changed = np.flatnonzero(out != noise)
    starts = changed[np.concatenate([[True], np.diff(changed) > 10 * loss.MS])]
    assert len(starts) == 4  # one of 40 packets, four units
    assert set(np.diff(starts)) == {20 * loss.MS}


# ---- codecs' own concealment


@pytest.mark.parametrize("link, kbps", [("opus", 24), ("amr", 12.2)])
def test_the_decoder_conceals_rather_than_goes_silent(link: str, kbps: float) -> None:
    pytest.importorskip("av")
    gap = loss.LINKS[link].erased
    assert gap is not None
    t = np.arange(RATE) / RATE
    voice = (0.1 * sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 20))).astype(np.float32)
    kept = loss._over(voice, link, kbps, lambda packets, _: packets)
    out = loss._over(voice, link, kbps, lambda packets, _: [gap(p) if i == 25 else p for i, p in enumerate(packets)])
    assert out.shape == voice.shape
    np.testing.assert_allclose(out[: 24 * 320], kept[: 24 * 320], atol=1e-4)  # resampling spreads a change a little
    hole = slice(25 * 320, 26 * 320)
    assert not np.array_equal(out[hole], kept[hole])
    assert np.std(out[hole]) > 0.2 * np.std(kept[hole])


@pytest.mark.parametrize("link", sorted(loss.LINKS))
def test_bit_errors_spare_the_header(link: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = [bytes([7] * 40)] * 50
    got: list[bytes] = []
    monkeypatch.setattr(loss, "_over", lambda signal, _link, _kbps, damage: got.extend(damage(sent, np.ones(50))) or signal)
    loss.bit_errors(speech(), np.random.default_rng(0), Sources(), link=link, kbps=0, rate=0.5)
    spared = loss.LINKS[link].header
    assert [len(p) for p in got] == [40] * 50
    assert all(p[:spared] == sent[0][:spared] for p in got) and all(p[spared:] != sent[0][spared:] for p in got)


def test_bit_errors_grow_with_the_rate() -> None:
    data = bytes(range(200))
    few, many = (loss._flipped(data, rate, np.random.default_rng(0)) for rate in (0.01, 0.1))
    few_bits, many_bits = (np.unpackbits(np.frombuffer(d, np.uint8) ^ np.frombuffer(data, np.uint8)) for d in (few, many))
    assert 0 < few_bits.sum() < many_bits.sum()
    assert not (few_bits & ~many_bits & 1).any()
    assert loss._flipped(data, 0.0, np.random.default_rng(0)) == data


def test_amr_survives_nothing_but_errors() -> None:
    pytest.importorskip("av")
    out = loss.bit_errors(speech(), np.random.default_rng(0), Sources(), link="amr", kbps=12.2, rate=0.5)
    assert out.shape == speech().shape and np.isfinite(out).all()


def test_a_codec_without_concealment_is_refused() -> None:
    with pytest.raises(ValueError, match="no concealment"):
        loss.erased(speech(), np.random.default_rng(0), Sources(), link="g722", kbps=64, rate=0.1)


# ---- late packets


@pytest.mark.parametrize("smooth", [True, False])
def test_jitter_falls_behind_and_catches_up(smooth: bool) -> None:
    signal = (0.1 * np.random.default_rng(3).standard_normal(2 * RATE)).astype(np.float32)
    late_ms, every_s = 60, 2.0
    out = loss.jitter(signal, np.random.default_rng(0), Sources(), late_ms=late_ms, every_s=every_s, smooth=smooth)
    middle, end = slice(int(0.42 * 2 * RATE), int(0.53 * 2 * RATE)), slice(2 * RATE - 800, 2 * RATE)
    assert delay(signal[middle], out[middle]) == pytest.approx(late_ms * loss.MS, abs=5 * loss.MS)
    assert delay(signal[end], out[end], 0.02) == 0
    assert out[:800] == pytest.approx(signal[:800], abs=1e-6)


def test_no_lateness_no_change() -> None:
    out = loss.jitter(speech(), np.random.default_rng(0), Sources(), late_ms=0)
    np.testing.assert_allclose(out, speech(), atol=1e-6)


# ---- every ladder


@every_loss
def test_what_comes_out_is_as_long_finite_and_in_time(row: Degradation) -> None:
    for step in (0, len(row.ladder) - 1):
        out = run(row, step, speech())
        assert out.shape == speech().shape and out.dtype == np.float32 and np.isfinite(out).all()
    if not row.name.startswith("jitter"):
        assert abs(delay(speech(), run(row, 0, speech()), by="both")) <= 2


@every_loss
def test_the_strong_end_is_further_from_the_speech_than_the_mild_end(row: Degradation) -> None:
    mild, strong = (float(np.mean(np.square(run(row, step, speech()) - speech()))) for step in (0, -1))
    assert strong > mild > 0


@every_loss
def test_the_same_again_for_the_same_seed_and_another_for_another(row: Degradation) -> None:
    out = run(row, -1, speech(), seed=3)
    np.testing.assert_array_equal(out, run(row, -1, speech(), seed=3))
    assert not np.array_equal(out, run(row, -1, speech(), seed=4))


@every_loss
@pytest.mark.parametrize("n_samples", [0, 1, 100, 4801])
def test_short_signals_and_silence(row: Degradation, n_samples: int) -> None:
    for signal in (speech()[:n_samples], np.zeros(n_samples, dtype=np.float32)):
        out = run(row, -1, signal)
        assert out.shape == signal.shape and out.dtype == np.float32 and np.isfinite(out).all()


@every_loss
def test_settings_are_json(row: Degradation) -> None:
    assert [json.loads(json.dumps(s)) for s in row.ladder] == list(row.ladder)
    assert 4 <= len({json.dumps(s) for s in row.ladder}) == len(row.ladder) <= 7


def test_names_are_unique() -> None:
    names = [row.name for row in loss.DEGRADATIONS]
    assert len(names) == len(set(names))
