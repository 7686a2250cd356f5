"""The UTMOS labeller on a tiny random net in the public format."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from urgentmos.errors import MeasureError, UsageError  # noqa: E402
from urgentmos.labellers import Settings, Signals, utmos  # noqa: E402
from urgentmos.nets.utmos import Utmos, UtmosConfig, load_utmos, to_public  # noqa: E402

TINY = UtmosConfig(1, 64, 32, conv_width=16, position_kernel=8, position_groups=4, embedding=4, lstm=8, projection=8)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("utmos") / "tiny.pt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Utmos(TINY)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape)
    torch.save(to_public(model.state_dict(), TINY), path)
    return path


@pytest.fixture(scope="module")
def measure(file: Path):
    return utmos.load(Settings(weights={"utmos": str(file)}))


def test_the_score_is_the_nets_on_the_whole_clip(measure, file: Path, make_voice) -> None:
    wave = make_voice(0, 0.7)
    with torch.inference_mode():
        expected = float(load_utmos(file)(torch.tensor(wave)[None]))
    assert measure(Signals(wave, 16_000)) == {"utmos": pytest.approx(expected, abs=1e-6)}
    assert measure(Signals(wave[:8000], 16_000)) != measure(Signals(wave, 16_000))


def test_other_rates_go_in_at_16_khz(measure, make_voice) -> None:
    signals = Signals(make_voice(0, 0.5, 44_100), 44_100)
    assert measure(signals) == measure(Signals(signals.at(16_000)[0], 16_000))


def test_a_reference_signal_changes_nothing(measure, make_voice) -> None:
    wave = make_voice(0, 0.5)
    assert measure(Signals(wave, 16_000, make_voice(1, 0.5))) == measure(Signals(wave, 16_000))


@pytest.mark.parametrize("samples", [0, 1, 399])
def test_a_clip_without_a_frame_has_no_value(measure, samples: int) -> None:
    with pytest.raises(MeasureError, match=r"shorter than the 0\.025 s"):
        measure(Signals(np.ones(samples, np.float32), 16_000))


def test_400_samples_and_silence_have_one(measure) -> None:
    assert np.isfinite(measure(Signals(np.zeros(400, np.float32), 16_000))["utmos"])


def test_a_non_finite_clip_has_no_value(measure, make_voice) -> None:
    wave = make_voice(0, 0.3)
    wave[7] = np.inf
    with pytest.raises(MeasureError, match="finite"):
        measure(Signals(wave, 16_000))


def test_a_folder_with_one_pt_file_is_enough(file: Path, measure, make_voice) -> None:
    wave = make_voice(0, 0.3)
    assert utmos.load(Settings(weights={"utmos": str(file.parent)}))(Signals(wave, 16_000)) == measure(Signals(wave, 16_000))


def test_a_missing_file_says_where_the_weights_are() -> None:
    with pytest.raises(UsageError, match=r"no file or folder .*utmos22_strong_step7459_v1\.pt"):
        utmos.load(Settings(weights={"utmos": "nowhere/utmos.pt"}))
