from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal as dsp

from urgentmos.errors import UsageError
from urgentmos.simulation import noise
from urgentmos.simulation.base import RATE, Degradation, Sources, active_power, power

ROWS = {row.name: row for row in noise.DEGRADATIONS}
ADDITIVE = [row for row in noise.DEGRADATIONS if row.family == "noise"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Two noises, two talkers and a room whose direct sound comes after 100 samples."""
    folder, rng = tmp_path_factory.mktemp("sources"), np.random.default_rng(0)

    def written(name: str, wave: np.ndarray) -> Path:
        soundfile.write(folder / name, wave.astype(np.float32), RATE, subtype="FLOAT")
        return folder / name

    swell = np.sin(np.arange(3 * RATE) / 2000) ** 2
    noises = [written(f"noise{i}.wav", 0.1 * rng.standard_normal(RATE * (1 + 2 * i))) for i in range(2)]
    talkers = [written(f"talker{i}.wav", 0.1 * swell * rng.standard_normal(3 * RATE)) for i in range(2)]
    response = np.zeros(RATE // 2)
    response[200:] = 0.2 * rng.standard_normal(RATE // 2 - 200) * np.exp(-np.arange(RATE // 2 - 200) / 1500)
    response[100] = 0.9
    return Sources(noises, talkers, [written("room.wav", response)])


@pytest.fixture
def speech(make_voice) -> np.ndarray:
    return make_voice(1, 1.5)


def run(row: Degradation, speech: np.ndarray, sources: Sources, step: int, seed: int = 0) -> np.ndarray:
    return row.apply(speech, np.random.default_rng(seed), sources, **row.ladder[step])


@pytest.mark.parametrize("row", noise.DEGRADATIONS, ids=lambda row: row.name)
@pytest.mark.parametrize("kind", ["voice", "short", "silence", "click"])
def test_any_signal_keeps_its_length_and_gives_the_same_samples_again(row, kind, sources, speech):
    signal = {"voice": speech, "short": speech[: RATE * 3 // 10], "silence": 0 * speech, "click": np.eye(1, 5000, 9)[0]}[kind]
    signal = signal.astype(np.float32)
    for step in (0, len(row.ladder) - 1):
        out = run(row, signal, sources, step)
        assert out.shape == signal.shape and out.dtype == np.float32 and np.isfinite(out).all()
        np.testing.assert_array_equal(out, run(row, signal, sources, step))
    if kind == "silence":
        assert np.abs(out).max() < 1e-3
    if kind == "voice" and row.name not in ("room",):
        assert not np.allclose(out, run(row, signal, sources, step, seed=1), atol=1e-3)


@pytest.mark.parametrize("row", noise.DEGRADATIONS, ids=lambda row: row.name)
def test_every_step_of_a_ladder_is_further_from_the_clean_speech(row, sources, speech):
    assert 4 <= len(row.ladder) <= 7
    errors = []
    for step in range(len(row.ladder)):
        out = run(row, speech, sources, step).astype(np.float64)
        gain = np.dot(out, speech) / np.dot(out, out)  # level alone is no damage here
        errors.append(power(gain * out - speech) / power(speech))
    assert all(2 * mild < strong or strong > 0.3 for mild, strong in pairwise(errors))
    assert all(mild < strong for mild, strong in pairwise(errors))
    assert errors[0] < 0.02 and errors[-1] > 0.4


@given(snr=st.floats(-20, 50), level=st.floats(0.02, 1), pause=st.integers(0, RATE))
def test_snr_is_the_active_speech_over_the_noise_whatever_the_pauses(snr, level, pause):
    rng = np.random.default_rng(0)
    talk = (level * rng.standard_normal(RATE // 2)).astype(np.float32)
    speech = np.concatenate([talk, np.zeros(pause // 320 * 320, dtype=np.float32)])
    added = noise.at_snr(speech, 3 + rng.standard_normal(speech.size), snr) - speech
    assert 10 * np.log10(power(talk) / power(added)) == pytest.approx(snr, abs=0.1)
    assert abs(added.mean()) < 0.05 * added.std()


@pytest.mark.parametrize("row", ADDITIVE, ids=lambda row: row.name)
def test_with_one_seed_only_the_loudness_of_the_noise_differs(row, sources, speech):
    quiet, loud = (run(row, speech, sources, step, seed=5).astype(np.float64) - speech for step in (3, 5))
    decibels = row.ladder[3]["snr"] - row.ladder[5]["snr"]
    np.testing.assert_allclose(loud, quiet * 10 ** (decibels / 20), atol=1e-4 * np.abs(loud).max())


@pytest.mark.parametrize(("name", "field"), [("noise", "noises"), ("babble", "talkers"), ("room", "rooms")])
def test_without_recordings_the_message_says_which_are_needed(name, field, speech):
    with pytest.raises(UsageError, match=f"{name} needs recordings.*{field}="):
        run(ROWS[name], speech, Sources(), 0)


def test_a_room_without_reverberation_is_refused(tmp_path, speech):
    soundfile.write(tmp_path / "dead.wav", np.eye(1, 500, 20)[0], RATE, subtype="FLOAT")
    with pytest.raises(UsageError, match="nothing after its direct sound"):
        run(ROWS["room"], speech, Sources(rooms=[tmp_path / "dead.wav"]), 0)


@pytest.mark.parametrize("slope", [0, 1, 2])
def test_coloured_noise_falls_with_its_slope(slope):
    silent = np.full(20 * RATE, 1e-9, dtype=np.float32)
    out = noise.coloured(silent, np.random.default_rng(0), Sources(), snr=-120, slope=slope)
    frequencies, density = dsp.welch(out, RATE, nperseg=4096)
    used = (frequencies > 60) & (frequencies < 7000)
    fall = -np.polyfit(np.log(frequencies[used]), np.log(density[used]), 1)[0]
    assert fall == pytest.approx(slope, abs=0.1)


def test_hum_lies_on_the_harmonics_of_the_mains():
    silent = np.full(8 * RATE, 1e-9, dtype=np.float32)
    for seed in range(4):
        out = noise.hum(silent, np.random.default_rng(seed), Sources(), snr=-120)
        spectrum = np.abs(np.fft.rfft(out * np.hanning(out.size))) ** 2
        hertz = np.arange(spectrum.size) / 8
        assert spectrum[hertz < 3100].sum() > 0.999 * spectrum.sum()
        shares = [spectrum[abs((hertz + f / 2) % f - f / 2) < 0.02 * hertz + 0.6].sum() / spectrum.sum() for f in (50, 60)]
        assert max(shares) > 0.95


def test_wind_is_low_and_comes_in_gusts():
    silent = np.full(10 * RATE, 1e-9, dtype=np.float32)
    out = noise.wind(silent, np.random.default_rng(0), Sources(), snr=-120)
    frequencies, density = dsp.welch(out, RATE, nperseg=4096)
    assert density[frequencies < 500].sum() > 0.9 * density.sum()
    steady = noise.coloured(silent, np.random.default_rng(0), Sources(), snr=-120, slope=1.0)
    gusty, flat = (np.log(np.square(wave).reshape(-1, RATE // 2).mean(axis=1)).std() for wave in (out, steady))
    assert gusty > 2 * flat


def test_the_first_images_are_the_mirrored_talkers():
    size, talker, mic = np.array([6.0, 5.0, 3.0]), np.array([1.0, 2.0, 1.5]), np.array([4.0, 3.0, 1.0])
    distances, walls = noise._images(size, talker, mic, 30.0)
    mirrored = []
    for axis in range(3):
        for wall in (0.0, size[axis]):
            image = talker.copy()
            image[axis] = 2 * wall - talker[axis]
            mirrored.append(np.linalg.norm(image - mic))
    np.testing.assert_allclose(np.sort(distances[walls == 1]), np.sort(mirrored))
    np.testing.assert_allclose(distances[walls == 0], [np.linalg.norm(talker - mic)])
    # An image for every copy of the room: as many as rooms fit in the sphere.
    assert distances.size == pytest.approx(4 / 3 * np.pi * 30**3 / size.prod(), rel=0.05)


@pytest.mark.parametrize("rt60", [0.2, 0.4, 0.7, 1.2])
def test_a_room_decays_in_its_time_below_2_khz_and_faster_above(rt60):
    size, mic = np.array([7.0, 6.0, 3.0]), np.array([1.7, 1.5, 1.3])
    response = noise.room_response(size, mic + 1.0, mic, rt60, np.random.default_rng(0))
    assert response[0] == pytest.approx(1.0, abs=0.02) and np.abs(response[1 : RATE // 1000]).max() < 0.1
    assert decay(response, (100, 1500)) == pytest.approx(rt60, rel=0.2)
    assert decay(response, (3000, 7000)) == pytest.approx(0.6 * rt60, rel=0.25)


def decay(response: np.ndarray, band: tuple[float, float]) -> float:
    """RT60 in s after Schroeder: a line through -5..-25 dB of the energy still to come."""
    reflected = dsp.sosfilt(dsp.butter(4, band, "bandpass", fs=RATE, output="sos"), np.r_[0, response[1:]])
    left = np.cumsum(np.square(reflected)[::-1])[::-1]
    level = 10 * np.log10(left / left[0] + 1e-12)
    used = (level < -5) & (level > -25)
    return float(-60 / np.polyfit(np.flatnonzero(used) / RATE, level[used], 1)[0])


@pytest.mark.parametrize("name", ["reverb", "room", "echo"])
def test_rooms_keep_time_and_loudness(name, sources, speech):
    click = np.zeros(RATE, dtype=np.float32)
    click[4000] = 0.5
    for step in range(3):
        out = run(ROWS[name], click, sources, step)
        assert np.argmax(np.abs(out)) == 4000 and not np.abs(out[:4000]).max() > 1e-4
    for step in range(len(ROWS[name].ladder)):
        assert power(run(ROWS[name], speech, sources, step)) == pytest.approx(power(speech), rel=1e-3)


@pytest.mark.parametrize("level", [-20, 0, 7])
def test_a_measured_room_is_as_reverberant_as_asked(level, sources):
    click = np.zeros(RATE, dtype=np.float32)
    click[10] = 0.5
    out = noise.room(click, np.random.default_rng(0), sources, reverberant=level).astype(np.float64)
    assert 10 * np.log10(np.square(out[11:]).sum() / out[10] ** 2) == pytest.approx(level, abs=0.05)
    late = sources.hear(sources.rooms[0])[200:]  # 100 samples after its direct sound
    np.testing.assert_allclose(np.corrcoef(out[110 : 110 + late.size], late)[0, 1], 1, atol=1e-6)


def test_an_echo_comes_again_and_again_and_fainter():
    click = np.zeros(2 * RATE, dtype=np.float32)
    click[0] = 1
    out = noise.echo(click, np.random.default_rng(0), Sources(), gain=-6)
    places = np.flatnonzero(out)
    delay = places[1]
    assert 0.08 * RATE <= delay <= 0.3 * RATE
    np.testing.assert_array_equal(places, np.arange(0, out.size, delay))
    np.testing.assert_allclose(out[places[1:]] / out[places[:-1]], 10 ** (-6 / 20), rtol=1e-5)


def test_active_power_ignores_pauses_and_takes_silence():
    talk = np.random.default_rng(0).standard_normal(3200).astype(np.float32)
    assert active_power(np.r_[talk, np.zeros(32000, np.float32)]) == pytest.approx(power(talk), rel=0.01)
    assert 0 < active_power(np.zeros(1000, np.float32)) < 1e-9
