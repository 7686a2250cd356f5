"""spksim_ge2e: the cosine of two GE2E embeddings; what has no voice has no speaker."""

import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from urgentmos.errors import MeasureError, UsageError  # noqa: E402
from urgentmos.labellers import Settings, Signals, ge2e  # noqa: E402


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
        function = ge2e.load(Settings())
    except UsageError as e:
        pytest.skip(str(e))
    return lambda wave, reference, rate=16_000: function(Signals(wave, rate, reference))["spksim_ge2e"]


def test_a_clip_against_itself_is_1(measure, make_voice) -> None:
    wave = make_voice(0, 2.0)
    assert measure(wave, wave) == pytest.approx(1, abs=1e-5)


def _deep(wave: np.ndarray) -> np.ndarray:
    """The same, an octave lower: another throat. (T,) -> (T,)"""
    return np.interp(np.arange(len(wave)) / 2, np.arange(len(wave)), wave).astype(np.float32)


def test_another_voice_is_further_away_than_a_little_noise(measure, make_voice, add_noise) -> None:
    wave = make_voice(0, 2.0)
    assert -1 <= measure(_deep(wave), wave) < measure(add_noise(wave, 40), wave) <= 1 + 1e-6


def test_it_is_symmetric(measure, make_voice) -> None:
    a, b = make_voice(0, 2.0), _deep(make_voice(0, 2.0))
    assert measure(a, b) == pytest.approx(measure(b, a), abs=1e-6)


def test_levels_beyond_1_are_measured(measure, make_voice) -> None:
    wave = make_voice(0, 1.0)
    full = wave / np.abs(wave).max()
    assert measure(3 * full, wave) == pytest.approx(measure(full, wave), abs=1e-5)


def test_other_rates_go_in_at_16_khz(measure, make_voice) -> None:
    signals = Signals(make_voice(0, 1.0, 48_000), 48_000, make_voice(1, 1.0, 48_000))
    low = signals.at(16_000)
    assert measure(signals.wave, signals.reference, 48_000) == measure(*low)


def test_silence_and_clicks_have_a_reason(measure, make_voice) -> None:
    wave = make_voice(0, 1.0)
    with pytest.raises(MeasureError, match="the clip is silent"):
        measure(0 * wave, wave)
    with pytest.raises(MeasureError, match="reference signal is silent"):
        measure(wave, 0 * wave)
    click = np.zeros_like(wave)
    click[100] = 0.5
    with pytest.raises(MeasureError, match="no voice is found in the reference signal"):
        measure(wave, click)


def test_what_was_measured_before_does_not_matter(measure, make_voice) -> None:
    a, b, c = (make_voice(i, 1.0) for i in range(3))
    first = measure(a, b)
    measure(c, a)
    measure(b, c)
    assert measure(a, b) == first


def test_the_arrays_stay_as_they_were(measure, make_voice) -> None:
    a, b = make_voice(0, 1.5), make_voice(1, 1.5)
    before = a.copy(), b.copy()
    measure(a, b)
    np.testing.assert_array_equal((a, b), before)


@pytest.mark.parametrize("taken", ["", "open to others", "a link"])
def test_compiled_code_of_librosa_never_goes_home_nor_where_others_write(taken: str, tmp_path, monkeypatch) -> None:
    pytest.importorskip("librosa")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "mine")
    ge2e.keep_numba_from_home()
    assert os.environ["NUMBA_CACHE_DIR"] == "mine"  # a choice of the user stays
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    ge2e.keep_numba_from_home()
    monkeypatch.setattr(ge2e.tempfile, "TemporaryFile", lambda dir: Path("/nonexistent/x").touch())
    monkeypatch.setattr(ge2e.tempfile, "tempdir", str(tmp_path))
    place = tmp_path / f"urgentmos-numba-{os.getuid()}"
    if taken == "open to others":
        place.mkdir()
        place.chmod(0o777)
    elif taken:
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "elsewhere")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    ge2e.keep_numba_from_home()
    folder = Path(os.environ.pop("NUMBA_CACHE_DIR"))
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o077 == 0 and (folder == place) == (not taken)
