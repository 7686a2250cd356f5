"""Transforms give back what they took; mel bands, noise and codebooks are what their names say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.simulation.base import Sources, power
from urgentmos.simulation.transforms import (
    add_noise,
    codebook,
    from_mel,
    griffin_lim,
    imdct,
    istft,
    mdct,
    mel_pair,
    nearest_code,
    polar,
    random_phase,
    same_power,
    smooth_noise,
    stft,
    to_mel,
)


@settings(max_examples=60)
@given(st.integers(0, 3000), st.sampled_from([(64, 16), (320, 80), (512, 128), (512, 256), (1024, 256)]))
def test_istft_undoes_stft_for_every_length(n: int, sizes: tuple[int, int]) -> None:
    wave = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    spectrum = stft(wave, *sizes)
    assert spectrum.shape == (max(1, -(-(n + sizes[0] - sizes[1]) // sizes[1])), sizes[0] // 2 + 1)
    np.testing.assert_allclose(istft(spectrum, n, *sizes), wave, atol=1e-5)


@settings(max_examples=40)
@given(st.integers(0, 3000), st.sampled_from([64, 256, 320, 1024]))
def test_imdct_undoes_mdct_for_every_length(n: int, hop: int) -> None:
    wave = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    np.testing.assert_allclose(imdct(mdct(wave, hop), n), wave, atol=1e-4)


def test_mdct_keeps_energy() -> None:
    wave = np.random.default_rng(0).standard_normal(6400).astype(np.float32)
    assert np.sum(mdct(wave, 320) ** 2) == pytest.approx(np.sum(wave**2), rel=1e-4)


@given(st.integers(1, 128), st.sampled_from([64, 320, 512, 1024]))
def test_mel_bands_neither_add_nor_lose_level(bands: int, size: int) -> None:
    means, back = mel_pair(bands, size)
    np.testing.assert_allclose(means.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(back.sum(axis=0), 1, atol=1e-5)
    flat = np.full((2, size // 2 + 1), 0.7, dtype=np.float32)
    np.testing.assert_allclose(from_mel(to_mel(flat, bands), size), flat, rtol=1e-3)


def test_griffin_lim_comes_closer_to_the_magnitudes(make_voice) -> None:
    voice = make_voice(0, 1.0)
    magnitude = np.abs(stft(voice))
    start = polar(magnitude, random_phase(np.random.default_rng(0), magnitude.shape))

    def miss(rounds: int) -> float:
        return float(np.linalg.norm(np.abs(stft(griffin_lim(magnitude, start, len(voice), rounds))) - magnitude))

    assert miss(20) < miss(5) < miss(0)


def test_smooth_noise_has_unit_variance_and_neighbours_alike() -> None:
    noise = smooth_noise(np.random.default_rng(0), (200, 200), (3.0, 0.0))
    assert noise.std() == pytest.approx(1, abs=1e-3)
    assert np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1] > 0.9
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 0.1


@given(st.floats(-20, 40), st.integers(0, 99))
def test_noise_is_added_at_its_snr_and_the_same_at_every_snr(snr_db: float, seed: int) -> None:
    speech = np.sin(np.arange(2000) / 7).astype(np.float32)
    noisy, noise = add_noise(speech, snr_db, np.random.default_rng(seed), Sources())
    assert 10 * np.log10(power(speech) / power(noise)) == pytest.approx(snr_db, abs=0.01)
    np.testing.assert_array_equal(noisy, speech + noise)
    _, other = add_noise(speech, 0, np.random.default_rng(seed), Sources())
    assert np.dot(noise, other) / np.linalg.norm(noise) / np.linalg.norm(other) == pytest.approx(1, abs=1e-5)


def test_noise_comes_from_the_sources(tmp_path, make_voice) -> None:
    import soundfile

    hum = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    soundfile.write(tmp_path / "hum.wav", 0.3 * hum, 16_000)
    _, noise = add_noise(make_voice(0, 0.5), 0, np.random.default_rng(0), Sources(noises=[tmp_path / "hum.wav"]))
    level = np.abs(np.fft.rfft(noise))
    assert level[500] > 0.9 * np.linalg.norm(level)


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(1, 80))
def test_more_codes_than_rows_lose_nothing(rows: int, codes: int) -> None:
    points = np.random.default_rng(rows).standard_normal((rows, 5)).astype(np.float32)
    book = codebook(np.random.default_rng(0), points, codes)
    assert len(book) == min(rows, codes)
    error = np.abs(book[nearest_code(points, book)] - points).max()
    assert error < 1e-5 if codes >= rows else np.isfinite(error)


def test_rounds_make_a_codebook_better() -> None:
    points = np.random.default_rng(1).standard_normal((400, 4)).astype(np.float32)

    def error(rounds: int) -> float:
        book = codebook(np.random.default_rng(0), points, 12, rounds)
        return float(np.mean((book[nearest_code(points, book)] - points) ** 2))

    assert error(8) < error(2) < error(0)


def test_same_power_does_not_raise_what_vanished() -> None:
    like = np.ones(100, dtype=np.float32)
    assert power(same_power(0.5 * like, like)) == pytest.approx(1, rel=1e-4)
    assert power(same_power(1e-4 * like, like)) < 1e-5
    assert not same_power(np.zeros(100), like).any()
