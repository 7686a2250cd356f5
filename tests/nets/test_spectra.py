"""The front ends of URGENT-PK against plain torch, and clip by clip within padded batches."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.errors import AudioError
from urgentmos.nets.spectra import LogMel, Stft, htk_filters, reflect_ends


def noise(*shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_sizes_and_names_are_those_of_the_released_files():
    state = LogMel().state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "spectrogram.window": (160,),
        "mel_scale.fb": (161, 120),
    }
    assert Stft().state_dict() == {}
    wave = noise(2, 2, 1601)
    assert LogMel()(wave).shape == (2, 2, 120, 1 + 1601 // 80)
    assert Stft()(wave).shape == (2, 2, 322, 1 + 1601 // 160)


def test_six_mel_bands_are_empty_and_the_others_are_triangles():
    filters = htk_filters(161, 120)
    assert (filters.sum(dim=0) == 0).sum() == 6
    assert filters.min() == 0 and filters.max() <= 1
    for band in filters.T[20:]:  # one hill each: up, then down
        steps = band[band > 0].diff().sign()
        assert (steps.diff() <= 0).all()


def test_constants_equal_those_of_the_released_file(shared):
    path = shared / "parity/urgentpk_mel/mel.ckpt"
    if not path.exists():
        pytest.skip("no reference vectors")
    from urgentmos.models.torch_file import load_torch_file

    stub = type("Config", (), {})
    raw = load_torch_file(path, stubs=lambda module, name: stub if name.endswith("Config") else None)
    for name, tensor in LogMel().state_dict().items():
        # The released ones were computed in float32 throughout.
        torch.testing.assert_close(tensor, raw["state_dict"][f"model.encoder.0.{name}"], atol=2e-5, rtol=0)


def test_log_mel_is_ten_decibels_per_decade_with_a_floor():
    mel, wave = LogMel(), noise(8000)
    torch.testing.assert_close(mel(10 * wave).clamp(min=-60), (mel(wave) + 20).clamp(min=-60), atol=1e-3, rtol=0)
    assert (mel(torch.zeros(8000)) == -100).all()


def test_stft_holds_real_rows_then_imaginary_ones():
    wave = noise(1, 3200)
    wanted = torch.stft(wave, 320, 160, window=torch.ones(320), center=True, pad_mode="reflect", return_complex=True)
    torch.testing.assert_close(Stft()(wave), torch.cat([wanted.real, wanted.imag], dim=1))


def test_log_mel_is_centred_and_mirrored():
    wave = noise(3200)
    spectrum = torch.stft(wave, 320, 80, 160, torch.hann_window(160), center=True, pad_mode="reflect", return_complex=True)
    wanted = 10 * (htk_filters(161, 120).T @ spectrum.abs().square()).clamp(min=1e-10).log10()
    torch.testing.assert_close(LogMel()(wave), wanted, atol=1e-3, rtol=0)


@settings(max_examples=25)
@given(st.lists(st.integers(161, 900), min_size=1, max_size=3), st.integers(0, 300), st.sampled_from([0.0, 5.0, math.nan]))
def test_padding_never_shows_in_a_spectrum(n, more, filler):
    wave = noise(len(n), max(n) + more)
    for clip, length in zip(wave, n, strict=True):
        clip[length:] = filler
    for spectrum in (LogMel(), Stft()):
        together = spectrum(wave, torch.tensor(n))
        for clip, rows, length in zip(wave, together, n, strict=True):
            alone = spectrum(clip[:length])
            torch.testing.assert_close(rows[:, : alone.shape[1]], alone, atol=1e-4, rtol=1e-5)


def test_reflection_is_torchs_at_both_ends():
    x = torch.arange(12.0).reshape(2, 6)
    wanted = torch.nn.functional.pad(x[:1, :5], (3, 3), mode="reflect")
    assert torch.equal(reflect_ends(x, 3, torch.tensor([5, 6]))[:1, :11], wanted)
    assert torch.equal(reflect_ends(x, 3), torch.nn.functional.pad(x, (3, 3), mode="reflect"))


def test_too_short_to_mirror_says_how_long_it_must_be():
    with pytest.raises(AudioError, match="needs 161"):
        LogMel()(noise(160))
