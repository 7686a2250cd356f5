"""nisqa_mos with a tiny net: the spectrogram of the release, its limits, and the loading of what its authors wrote."""

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.audio.spectra import mel_filters
from urgentmos.errors import MeasureError, UsageError
from urgentmos.labellers import Settings, Signals, labeller_of
from urgentmos.labellers.nisqa import load_nisqa, log_mel, segments
from urgentmos.nets.nisqa import Nisqa, NisqaConfig

RATES = (8_000, 16_000, 22_050, 44_100, 48_000)
CONFIG = NisqaConfig()
SIZES = {"cnn_c_out_1": 2, "cnn_c_out_2": 3, "cnn_c_out_3": 4, "td_sa_d_model": 6, "td_sa_h": 5, "pool_att_h": 4}
KINDS = {"model": "NISQA_DIM", "cnn_model": "adapt", "td": "self_att", "pool": "att", "td_2": "skip", "tr_epochs": 500}


def tiny_checkpoint() -> dict[str, object]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = NisqaConfig(**SIZES)
        return {"args": {**vars(config), **KINDS}, "model_state_dict": Nisqa(config).state_dict(), "epoch": 3}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "nisqa.tar"
    torch.save(tiny_checkpoint(), path)
    return path


@pytest.fixture
def measure(weights):
    return labeller_of("nisqa_mos").load(Settings(weights={"nisqa": str(weights)}))


def noise(seed: int, seconds: float, rate: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


# --- the spectrogram -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.filterwarnings("ignore:Empty filters", "ignore:n_fft=4096 is too large")
def test_the_spectrogram_is_that_of_librosa(rate):
    librosa = pytest.importorskip("librosa")
    filters = librosa.filters.mel(sr=rate, n_fft=4096, n_mels=48, fmax=20_000, htk=False, norm="slaney", dtype=np.float64)
    np.testing.assert_allclose(mel_filters(rate, 4096, 48, 20_000.0), filters, atol=1e-12)
    for seconds in (0.15, 1.1):
        wave = noise(0, seconds, rate)
        wave[: len(wave) // 2] *= 1e-5  # so that both floors bite
        magnitudes = librosa.feature.melspectrogram(
            y=wave, sr=rate, n_fft=4096, hop_length=int(rate * 0.01), win_length=int(rate * 0.02), window="hann", center=True,
            pad_mode="reflect", power=1.0, n_mels=48, fmin=0.0, fmax=20_000, htk=False, norm="slaney",
        )  # fmt: skip
        expected = librosa.amplitude_to_db(magnitudes, ref=1.0, amin=1e-4, top_db=80.0)
        np.testing.assert_allclose(log_mel(wave, rate, CONFIG), expected.T, atol=1e-3)


@pytest.mark.parametrize("rate", RATES)
def test_each_filter_has_unit_area_and_bands_above_the_rate_are_empty(rate):
    filters = mel_filters(rate, 4096, 48, 20_000.0)
    areas = filters.sum(axis=1) * rate / 4096
    assert np.count_nonzero(areas) < 48 if rate < 40_000 else np.all(areas > 0)
    whole = areas[np.flatnonzero(areas)[:-2]]  # the last ones may be cut by half the rate
    np.testing.assert_allclose(whole, 1.0, atol=0.02)


@settings(max_examples=15)
@given(gain=st.floats(0.5, 2.0), rate=st.sampled_from(RATES))
def test_a_gain_shifts_the_decibels(gain, rate):
    wave = noise(1, 0.3, rate)
    bands = np.flatnonzero(mel_filters(rate, 4096, 48, 20_000.0).any(axis=1))
    louder = log_mel(gain * wave, rate, CONFIG)[:, bands]
    np.testing.assert_allclose(louder, log_mel(wave, rate, CONFIG)[:, bands] + 20 * np.log10(gain), atol=1e-6)


@settings(max_examples=25)
@given(samples=st.integers(0, 8_000), rate=st.sampled_from((1_000, *RATES)))
def test_segments_cover_the_clip_every_four_frames(samples, rate):
    wave = noise(2, 1.0, 8_000)[:samples]
    frames = 1 + samples // int(rate * 0.01)
    if frames < 15:
        with pytest.raises(MeasureError, match="shorter"):
            segments(wave, rate, CONFIG)
        return
    cut, spectrogram = segments(wave, rate, CONFIG), log_mel(wave, rate, CONFIG)
    assert cut.dtype == np.float32
    assert cut.shape == (int(np.ceil((frames - 14) / 4)), 48, 15)
    last = 4 * (len(cut) - 1)
    np.testing.assert_allclose(cut[-1], spectrogram[last : last + 15].T, rtol=1e-6)


def test_the_limits_of_the_release():
    longest = (5214 - 1) * 80 + 79  # samples at 8 kHz of 1300 segments
    assert len(segments(noise(0, 1, longest), 8_000, CONFIG)) == 1300
    with pytest.raises(MeasureError, match=r"52\.1 s is longer than the 52 s"):
        segments(noise(0, 1, longest + 1), 8_000, CONFIG)
    with pytest.raises(MeasureError, match="Resample"):
        segments(noise(0, 1, 384_000), 384_000, CONFIG)
    with pytest.raises(MeasureError, match="Resample"):
        segments(noise(0, 1, 50), 50, CONFIG)


# --- the measure -----------------------------------------------------------------------------------------------------


def test_the_score_is_the_first_output_of_the_net(measure, weights):
    wave = noise(3, 0.6, 16_000)
    net = load_nisqa(weights)
    pieces = torch.from_numpy(segments(wave, 16_000, net.config))[None]
    expected = net(pieces, torch.tensor([pieces.shape[1]]))[0, 0].item()
    assert measure(Signals(wave, 16_000)) == {"nisqa_mos": pytest.approx(expected, abs=1e-6)}


def test_a_score_does_not_depend_on_earlier_clips(measure):
    signals = Signals(noise(4, 0.6, 44_100), 44_100)
    first = measure(signals)
    measure(Signals(noise(5, 1.7, 8_000), 8_000))
    assert measure(signals) == first


def test_it_listens_at_the_files_own_rate(measure):
    signals = Signals(noise(6, 0.6, 48_000), 48_000)
    narrow = Signals(signals.at(16_000)[0], 16_000)
    assert measure(signals) != measure(narrow)


def test_silence_has_a_finite_score(measure):
    assert np.isfinite(measure(Signals(np.zeros(8_000, np.float32), 16_000))["nisqa_mos"])


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_too_short_a_clip_has_a_reason(measure, seconds):
    with pytest.raises(MeasureError, match=r"shorter than the 0\.14 s"):
        measure(Signals(noise(0, seconds, 16_000), 16_000))


# --- loading ---------------------------------------------------------------------------------------------------------


def test_a_copy_of_the_weights_folder_will_do(weights):
    torch.save({}, weights.with_name("nisqa_tts.tar"))
    labeller_of("nisqa_mos").load(Settings(weights={"nisqa": str(weights.parent)}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["args"].update(model="NISQA"), r"nisqa_tts\.tar"),
        (lambda c: c["args"].pop("td"), "td"),
        (lambda c: c["args"].update(td_sa_h=7), r"linear1\.weight"),
        (lambda c: c.pop("args"), "args"),
        (lambda c: c["model_state_dict"].popitem(), "is missing"),
    ],
)
def test_another_model_is_refused(weights, change, said):
    checkpoint = tiny_checkpoint()
    change(checkpoint)
    torch.save(checkpoint, weights)
    with pytest.raises(UsageError, match=said) as caught:
        load_nisqa(weights)
    assert "nisqa.tar" in str(caught.value)


def test_weights_run_no_code(weights, tmp_path):
    marker = tmp_path / "marker"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    torch.save({**tiny_checkpoint(), "results": Evil()}, weights)
    with pytest.raises(UsageError, match="system"):
        load_nisqa(weights)
    assert not marker.exists()


def test_without_weights_it_says_how_to_get_them():
    with pytest.raises(UsageError, match="--weights nisqa="):
        labeller_of("nisqa_mos").load(Settings())


def test_loading_and_measuring_leave_no_trace(weights):
    before = torch.get_rng_state()
    labeller_of("nisqa_mos").load(Settings(weights={"nisqa": str(weights)}))(Signals(noise(0, 0.5, 16_000), 16_000))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()


@pytest.mark.skipif("URGENTMOS_NISQA" not in os.environ, reason="URGENTMOS_NISQA does not name the released nisqa.tar")
def test_the_released_weights_give_the_published_score():
    """The example in the documentation of torchmetrics: Gaussian noise of seed 42 scores 1.0433."""
    wave = torch.randn(16_000, generator=torch.Generator().manual_seed(42)).numpy()
    measure = labeller_of("nisqa_mos").load(Settings(weights={"nisqa": os.environ["URGENTMOS_NISQA"]}))
    assert measure(Signals(wave, 16_000))["nisqa_mos"] == pytest.approx(1.0433, abs=1e-3)
