"""Distill-MOS: the package's own forward, without torchaudio."""

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from urgentmos.errors import UsageError  # noqa: E402
from urgentmos.labellers import Settings, Signals, distill_mos  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for each other make a tiny net slow on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def measure():
    try:
        function = distill_mos.load(Settings())
    except UsageError as e:
        pytest.skip(str(e))
    return lambda wave, rate=16_000: function(Signals(wave, rate))["distill_mos"]


@pytest.fixture(scope="module")
def package(measure):
    """The package's model, built its own way."""
    import distillmos

    return distillmos.ConvTransformerSQAModel().eval()


@pytest.mark.parametrize("seconds", [0.5, 9.0])
def test_the_score_is_the_packages_forward(measure, package, make_voice, seconds: float) -> None:
    wave = make_voice(0, seconds)
    with torch.inference_mode():
        expected = float(package(torch.tensor(wave)[None]))
    assert measure(wave) == pytest.approx(expected, abs=1e-5)
    assert 1 < expected < 5


def test_a_long_clip_is_the_mean_of_its_crops(measure, make_voice) -> None:
    wave = np.concatenate([make_voice(0, 5.0), 0.01 * make_voice(1, 4.0)])
    starts = np.linspace(0, len(wave) - 122_880, 3).astype(int)  # one more than whole seconds beyond 7.68 s, rounded up
    crops = [measure(wave[s : s + 122_880]) for s in starts]
    assert measure(wave) == pytest.approx(np.mean(crops), abs=2e-3)


def test_the_level_does_not_matter(measure, make_voice) -> None:
    wave = make_voice(0, 1.0)
    assert measure(wave * 0.1) == pytest.approx(measure(wave), abs=1e-3)


def test_other_rates_go_in_at_16_khz(measure, make_voice) -> None:
    signals = Signals(make_voice(0, 1.0, 22_050), 22_050)
    assert measure(signals.wave, 22_050) == measure(signals.at(16_000)[0])


def test_silence_has_a_finite_score(measure) -> None:
    assert 1 < measure(np.zeros(16_000, np.float32)) < 5


def test_the_stand_in_for_torchaudio_does_not_stay(measure) -> None:
    stand_in = sys.modules.get("torchaudio")
    assert stand_in is None or getattr(stand_in, "__file__", None)  # the real one may have been imported by others


def test_a_real_torchaudio_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    real = object()
    monkeypatch.setitem(sys.modules, "torchaudio", real)
    with distill_mos._torchaudio_unneeded():
        assert sys.modules["torchaudio"] is real
    assert sys.modules["torchaudio"] is real


def test_the_stand_in_goes_even_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchaudio", raising=False)
    with pytest.raises(ZeroDivisionError), distill_mos._torchaudio_unneeded():
        assert "torchaudio" in sys.modules
        raise ZeroDivisionError
    assert "torchaudio" not in sys.modules


def test_measuring_leaves_no_trace_in_torch(measure, make_voice) -> None:
    before = torch.get_rng_state().clone(), torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    measure(make_voice(0, 0.5))
    after = torch.get_rng_state(), torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
