"""The table of labellers, what a labeller hears, and what is remembered of a reference signal."""

from importlib import import_module

import numpy as np
import pytest
import soxr

from urgentmos.errors import MeasureError, UsageError
from urgentmos.labellers import LABELLERS, MEASURABLE, Labeller, ReferenceCache, Settings, Signals, labeller_of
from urgentmos.metrics import HUMAN, METRICS

rows = pytest.mark.parametrize("row", LABELLERS, ids=[row.name for row in LABELLERS])


def test_every_metric_but_the_human_one_has_exactly_one_labeller() -> None:
    assert sorted(MEASURABLE) == sorted(set(METRICS) - set(HUMAN))
    assert len({row.name for row in LABELLERS}) == len(LABELLERS)


@rows
def test_a_row_names_a_module_that_loads(row: Labeller) -> None:
    assert callable(import_module(row.module).load)
    assert row.metrics and row.packages
    assert len({METRICS[m].needs_reference for m in row.metrics}) == 1  # the loop asks the first one for all


@rows
def test_weights_that_no_package_carries_are_asked_for_before_any_work(row: Labeller) -> None:
    if row.weights is None:
        return
    with pytest.raises(UsageError, match=rf"{row.name} needs weights.*--weights {row.name}="):
        row.load(Settings())


@rows
def test_versions_are_those_of_the_packages(row: Labeller) -> None:
    versions = row.versions()
    assert set(versions) == set(row.packages)
    assert all(v == "not installed" or v[0].isdigit() for v in versions.values())


def test_a_missing_package_has_no_version() -> None:
    assert Labeller("x", ("pesq",), ("no-such-package-1",)).versions() == {"no-such-package-1": "not installed"}


def test_the_labeller_of_a_metric_is_found_and_others_are_listed() -> None:
    assert labeller_of("dnsmos_bak").name == "dnsmos"
    with pytest.raises(UsageError, match=r"mos_overall is not measured.*pesq"):
        labeller_of("mos_overall")


# ---- Signals


def test_signals_are_resampled_once_by_soxr(make_voice, monkeypatch: pytest.MonkeyPatch) -> None:
    wave, reference = make_voice(0, 0.2, 48_000), make_voice(1, 0.2, 48_000)
    signals = Signals(wave, 48_000, reference)
    at_16k = signals.at(16_000)
    np.testing.assert_array_equal(at_16k[0], soxr.resample(wave, 48_000, 16_000))
    np.testing.assert_array_equal(at_16k[1], soxr.resample(reference, 48_000, 16_000))
    monkeypatch.setattr(soxr, "resample", None)
    assert signals.at(16_000)[0] is at_16k[0]
    assert signals.at(48_000)[0] is wave


def test_without_a_reference_signal_there_is_none_at_any_rate(make_voice) -> None:
    signals = Signals(make_voice(0, 0.2), 16_000)
    assert signals.at(8_000)[1] is None
    with pytest.raises(MeasureError, match=r"no reference signal.*--reference-dir"):
        signals.pair()


def test_the_pair_is_reference_first(make_voice) -> None:
    wave, reference = make_voice(0, 0.2), make_voice(1, 0.2)
    first, second = Signals(wave, 16_000, reference).pair()
    assert first is reference and second is wave


def test_lengths_must_be_equal(make_voice) -> None:
    with pytest.raises(MeasureError, match="3200 samples and the clip 1600"):
        Signals(make_voice(0, 0.1), 16_000, make_voice(0, 0.2)).pair()


@pytest.mark.parametrize("level, silent", [(0.0, True), (1e-8, True), (1e-5, False)])
def test_a_silent_reference_signal_is_refused_by_its_energy(make_voice, level: float, silent: bool) -> None:
    wave = make_voice(0, 0.2)
    signals = Signals(wave, 16_000, np.float32(level) * np.sign(wave))
    if silent:
        with pytest.raises(MeasureError, match="reference signal is silent"):
            signals.pair()
    else:
        assert signals.pair()[1] is wave


# ---- ReferenceCache


def test_a_reference_signal_is_computed_once_by_content() -> None:
    seen: list[float] = []
    cache = ReferenceCache(lambda x: seen.append(float(x[0])) or float(x.sum()))
    assert [cache(np.full(3, v)) for v in (1.0, 2.0, 1.0, 2.0)] == [3.0, 6.0, 3.0, 6.0]
    assert seen == [1.0, 2.0]


def test_the_cache_is_bounded_and_still_right() -> None:
    seen: list[float] = []
    cache = ReferenceCache(lambda x: seen.append(float(x[0])) or float(x[0]), size=2)
    assert [cache(np.full(3, v)) for v in (1.0, 2.0, 3.0, 1.0)] == [1.0, 2.0, 3.0, 1.0]
    assert seen == [1.0, 2.0, 3.0, 1.0]
    assert len(cache._known) == 2


def test_what_fails_is_not_remembered() -> None:
    calls: list[int] = []

    def compute(x: np.ndarray) -> float:
        calls.append(1)
        raise MeasureError("no speaker")

    cache = ReferenceCache(compute)
    for _ in range(2):
        with pytest.raises(MeasureError, match="no speaker"):
            cache(np.zeros(3))
    assert len(calls) == 2
