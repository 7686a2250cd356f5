"""Every codec gives back speech as long as it came, in time, the same again, and worse at the strong end of its ladder."""

import json
from collections.abc import Iterator

import numpy as np
import pytest

from urgentmos.errors import UsageError
from urgentmos.simulation import codecs
from urgentmos.simulation.align import delay
from urgentmos.simulation.base import RATE, Degradation, Signal, Sources

MILD_BY_SPECTRUM = {"codec2", "codec2_again"}  # parametric from the first step on


def rows() -> Iterator[object]:
    for row in codecs.DEGRADATIONS:
        yield pytest.param(row, id=row.name, marks=pytest.mark.skipif(bool(row.missing()), reason=f"needs {row.missing()}"))


every_codec = pytest.mark.parametrize("row", list(rows()))


def run(row: Degradation, step: int, signal: Signal, seed: int = 0) -> Signal:
    return row.apply(signal, np.random.default_rng(seed), Sources(), **row.ladder[step])


def speech() -> Signal:
    return codecs.probe()[:24_000]


def spectral_distance(one: Signal, other: Signal) -> float:
    """Mean absolute difference in dB between the spectrograms, 50 dB deep."""

    def decibels(x: Signal) -> np.ndarray:
        frames = np.lib.stride_tricks.sliding_window_view(x, 512)[::128] * np.hanning(512)
        return 20 * np.log10(np.abs(np.fft.rfft(frames)) + 1e-9)

    a, b = decibels(one), decibels(other)
    floor = a.max() - 50
    return float(np.abs(np.maximum(a, floor) - np.maximum(b, floor)).mean())


@every_codec
def test_what_comes_out_is_as_long_finite_and_in_time(row: Degradation) -> None:
    out = run(row, 0, speech())
    assert out.shape == speech().shape
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    by = "envelope" if row.name in MILD_BY_SPECTRUM else "both"
    assert abs(delay(speech(), out, by=by)) <= (32 if by == "envelope" else 2)


@every_codec
def test_the_strong_end_is_further_from_the_speech_than_the_mild_end(row: Degradation) -> None:
    assert spectral_distance(speech(), run(row, -1, speech())) > spectral_distance(speech(), run(row, 0, speech())) > 0


@every_codec
def test_the_same_again_for_the_same_seed(row: Degradation) -> None:
    np.testing.assert_array_equal(run(row, 0, speech(), seed=3), run(row, 0, speech(), seed=3))


@every_codec
@pytest.mark.parametrize("n_samples", [1, 100, 4801])
def test_short_signals_and_silence(row: Degradation, n_samples: int) -> None:
    for signal in (speech()[:n_samples], np.zeros(n_samples, dtype=np.float32)):
        out = run(row, -1, signal)
        assert out.shape == signal.shape and out.dtype == np.float32 and np.isfinite(out).all()


@every_codec
def test_settings_are_json_and_the_ladder_has_steps(row: Degradation) -> None:
    assert [json.loads(json.dumps(s)) for s in row.ladder] == list(row.ladder)
    assert len(row.ladder) >= 3
    assert len({json.dumps(s) for s in row.ladder}) == len(row.ladder)


def test_names_are_unique() -> None:
    names = [row.name for row in codecs.DEGRADATIONS]
    assert len(names) == len(set(names))


def test_the_table_of_needs_names_coders_that_exist() -> None:
    assert {*codecs.PROGRAMS, *codecs.LIBSNDFILE, *codecs.PARAMETRIC, *codecs.CLEAREST} <= set(codecs.CODERS)


@pytest.mark.parametrize("coder, setting", [("g722", {"kbps": 64}), ("g711", {"law": "mu", "level_db": -26})])
def test_loud_speech_is_not_clipped(coder: str, setting: dict[str, object]) -> None:
    """Twice full scale comes back at twice full scale, with the codec's own small error and no more."""
    loud = np.float32(2 / np.abs(speech()).max()) * speech()
    out = codecs.coded(loud, coder, setting)
    low = np.abs(np.fft.rfft(loud - out))[: 3000 * len(loud) // RATE]
    all_of = np.abs(np.fft.rfft(loud))[: 3000 * len(loud) // RATE]
    assert np.sum(low**2) < 0.01 * np.sum(all_of**2)


def test_g722_at_64_keeps_the_wave() -> None:
    error = codecs.coded(speech(), "g722", {"kbps": 64}) - speech()
    assert np.mean(error**2) < 10 ** (-15 / 10) * np.mean(speech() ** 2)


def test_g722_loses_the_bits_that_it_drops() -> None:
    error = [float(np.mean((codecs.coded(speech(), "g722", {"kbps": k}) - speech()) ** 2)) for k in (64, 56, 48)]
    assert error[0] < error[1] < error[2]


def test_mu_law_noise_grows_as_the_level_falls() -> None:
    reference = codecs.resampled(codecs.resampled(speech(), RATE, codecs.NARROW), codecs.NARROW, RATE)[: len(speech())]
    error = [
        float(np.mean((codecs.coded(speech(), "g711", {"law": "mu", "level_db": d}) - reference) ** 2)) for d in (-26, -56, -74)
    ]
    assert error[0] < error[1] / 3 and error[1] < error[2] / 3


@pytest.mark.parametrize("coder, setting", [("opus", {"kbps": 20, "band": "narrow"}), ("amr", {"kbps": 12.2}), ("gsm", {})])
def test_narrow_codecs_end_at_four_kilohertz(coder: str, setting: dict[str, object]) -> None:
    pytest.importorskip("av")
    out = codecs.coded(speech(), coder, setting)
    spectrum = np.abs(np.fft.rfft(out)) ** 2
    above = spectrum[4200 * len(out) // RATE :].sum()
    assert above < 1e-3 * spectrum.sum()


def test_the_delay_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def late(signal: Signal, **_: object) -> Signal:
        calls.append(len(signal))
        return np.concatenate([np.zeros(777, dtype=np.float32), signal])

    monkeypatch.setitem(codecs.CODERS, "late", late)
    noise = np.random.default_rng(0).standard_normal(5000).astype(np.float32) / 10
    for _ in range(3):
        np.testing.assert_array_equal(codecs.coded(noise, "late", {"a": 1}), noise)
    assert len(calls) == 4  # three clips and one probe


def test_a_longer_chain_goes_on_from_a_shorter_one() -> None:
    pytest.importorskip("av")
    row = next(r for r in codecs.DEGRADATIONS if r.name == "web_to_phone")
    coder, setting = row.ladder[1]["stages"][-1]
    np.testing.assert_array_equal(run(row, 1, speech()), codecs.coded(run(row, 0, speech()), coder, setting))


def test_more_passes_go_on_from_fewer() -> None:
    pytest.importorskip("av")
    row = next(r for r in codecs.DEGRADATIONS if r.name == "handed_over")
    coder, setting = codecs.HANDOVERS[int(np.random.default_rng(5).permutation(len(codecs.HANDOVERS))[1])]
    np.testing.assert_array_equal(run(row, 1, speech(), 5), codecs.coded(run(row, 0, speech(), 5), coder, setting))


def test_the_seed_decides_the_order_of_codecs() -> None:
    pytest.importorskip("av")
    row = next(r for r in codecs.DEGRADATIONS if r.name == "handed_over")
    outs = [run(row, 0, speech(), seed) for seed in range(6)]
    assert len({out.tobytes() for out in outs}) > 1


@pytest.mark.skipif(bool(next(r for r in codecs.DEGRADATIONS if r.name == "speex_narrow").missing()), reason="needs Speex")
@pytest.mark.parametrize("seconds", [0.5, 1.5, 3.0])
@pytest.mark.parametrize("quality", [3, 10])
def test_speex_is_in_time_however_long_the_clip(seconds: float, quality: int) -> None:
    """speexdec leaves its delay in streams of one Ogg page."""
    clip = codecs.probe()[: round(seconds * RATE)]
    out = codecs.coded(clip, "speex", {"quality": quality, "band": "narrow"})
    assert abs(delay(clip, out, by="both")) <= 4


def test_a_missing_program_is_named() -> None:
    with pytest.raises(UsageError, match="no-such-coder is not installed"):
        codecs._piped(["no-such-coder"], b"")


def test_a_failing_program_is_quoted() -> None:
    with pytest.raises(UsageError, match="failed"):
        codecs._piped(["false"], b"")


@pytest.mark.parametrize("folder, which", [("librisamples", 40), ("emodb-de", 50)])
def test_the_mildest_steps_keep_real_speech_intelligible(shared, folder: str, which: int) -> None:
    pystoi = pytest.importorskip("pystoi")
    from urgentmos.audio.samples import load

    files = sorted((shared / "data" / "speech" / folder).glob("*"))
    if len(files) <= which:
        pytest.skip(f"no {folder} in shared/")
    clean = load(files[which], RATE).wave[: 3 * RATE]
    for row in codecs.DEGRADATIONS:
        if row.missing():
            continue
        heard = pystoi.stoi(clean, run(row, 0, clean), RATE, extended=True)
        assert heard > (0.7 if row.name in MILD_BY_SPECTRUM else 0.88), row.name
