"""Any recording -> mono float32, by one policy; what cannot be heard says why."""

import itertools
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.audio import description, formats
from urgentmos.audio.samples import Audio, collate, duration_batches, load, probe
from urgentmos.errors import AudioError, UsageError

RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)
LOSSLESS = {  # subtype of a wav -> largest error of a sample
    "PCM_U8": 1 / 128,
    "PCM_16": 1 / 32768,
    "PCM_24": 1e-6,
    "PCM_32": 1e-7,
    "FLOAT": 0,
    "DOUBLE": 0,
    "ULAW": 0.02,
    "ALAW": 0.02,
}


@pytest.fixture
def wave(make_voice) -> np.ndarray:
    return make_voice(0, 1.0)


# ---- files


@pytest.mark.parametrize("subtype", LOSSLESS)
def test_every_kind_of_wav_comes_back(tmp_path: Path, wave: np.ndarray, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype=subtype)
    heard = load(tmp_path / "a.wav")
    assert (heard.rate, heard.info.channels, heard.info.n_samples, heard.wave.dtype) == (16_000, 1, len(wave), np.float32)
    np.testing.assert_allclose(heard.wave, wave, atol=LOSSLESS[subtype])
    assert heard.info.warnings == ()


@pytest.mark.parametrize("name", ["a.flac", "a.aiff", "a.au", "a.caf", "a.w64", "b b\u00e9 \u97f3.flac"])
def test_other_lossless_files_come_back(tmp_path: Path, wave: np.ndarray, name: str) -> None:
    soundfile.write(tmp_path / name, wave, 16_000, subtype="PCM_16")
    np.testing.assert_allclose(load(str(tmp_path / name)).wave, wave, atol=1 / 32768)


LOSSY: dict[str, dict[str, str]] = {
    "a.mp3": {},
    "a.ogg": {"format": "OGG", "subtype": "VORBIS"},
    "a.opus": {"format": "OGG", "subtype": "OPUS"},
}


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_files_come_back_in_length_and_sound(tmp_path: Path, wave: np.ndarray, name: str) -> None:
    soundfile.write(tmp_path / name, wave, 16_000, **LOSSY[name])
    heard = load(tmp_path / name)
    assert heard.rate == 16_000 and heard.info.warnings == ()
    assert abs(len(heard.wave) - len(wave)) < 0.1 * 16_000
    n = min(len(wave), len(heard.wave))
    assert _best_correlation(wave[:n], heard.wave[:n]) > 0.9


def _best_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Largest normalised cross-correlation at any lag; codecs delay."""
    size = 2 * len(a)
    cross = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)))
    return float(np.abs(cross).max() / np.sqrt(np.sum(a**2) * np.sum(b**2)))


@pytest.mark.parametrize(
    "name, codec, rate", [("a.m4a", "aac", 16_000), ("a.webm", "libopus", 48_000), ("a.amr", "libopencore_amrnb", 8_000)]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_containers_of_ffmpeg_come_back(tmp_path: Path, make_voice, name: str, codec: str, rate: int, channels: int) -> None:
    wave = make_voice(0, 1.0, rate)
    _write_av(tmp_path / name, np.tile(wave, (channels, 1)), rate, codec)
    heard = load(tmp_path / name)
    assert (heard.rate, heard.info.channels) == (rate, channels)
    assert abs(len(heard.wave) - len(wave)) < 0.1 * rate
    n = min(len(wave), len(heard.wave))
    assert _best_correlation(wave[:n], heard.wave[:n]) > (0.7 if name == "a.amr" else 0.9)
    assert probe(tmp_path / name) == (len(heard.wave), rate, channels)


def _write_av(path: Path, samples: np.ndarray, rate: int, codec: str) -> None:
    """(C, T) float32 -> a file by FFmpeg's libraries; skips where the codec is not built in."""
    av = pytest.importorskip("av")
    layout = "mono" if len(samples) == 1 else "stereo"
    try:
        encoder = av.Codec(codec, "w")
        with av.open(str(path), "w") as out:
            stream = out.add_stream(codec, rate=rate, layout=layout)
            convert = av.AudioResampler(encoder.audio_formats[0], layout, rate)
            packed = np.ascontiguousarray((samples.T * 32767).astype(np.int16).reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
            frame.sample_rate = rate
            for part in [*convert.resample(frame), *convert.resample(None)]:
                out.mux(stream.encode(part))
            out.mux(stream.encode(None))
    except (av.FFmpegError, ValueError) as e:
        pytest.skip(f"{codec} with {layout} is not built in: {e}")


def test_without_av_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.m4a").write_bytes(b"anything")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(AudioError, match=r"pip install 'urgentmos\[av\]'"):
        load(tmp_path / "a.m4a")


def test_a_flac_from_a_pipe_does_not_know_its_length_and_is_read_whole(tmp_path: Path, wave: np.ndarray) -> None:
    pytest.importorskip("av")
    soundfile.write(tmp_path / "a.flac", wave, 16_000)
    header = bytearray((tmp_path / "a.flac").read_bytes())
    header[21] &= 0xF0  # the 36 bits of STREAMINFO that count the samples
    header[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(header)
    np.testing.assert_allclose(load(tmp_path / "a.flac").wave, wave, atol=1 / 32768)
    assert probe(tmp_path / "a.flac") == (len(wave), 16_000, 1)


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF])
def test_a_wav_from_a_pipe_is_read_whole(tmp_path: Path, wave: np.ndarray, length: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, wave, 16_000)
    header = bytearray(path.read_bytes())
    at = header.find(b"data") + 4
    header[at : at + 4] = header[4:8] = length.to_bytes(4, "little")
    path.write_bytes(header)
    heard = load(path)
    assert len(heard.wave) == len(wave) and probe(path)[0] == len(wave)
    assert heard.info.warnings == (() if length else ("length: the header promises 0.00 s and 1.00 s were decoded",))


def test_probe_reads_the_header_only(tmp_path: Path, wave: np.ndarray) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([wave, wave], axis=1), 22_050)
    assert probe(tmp_path / "a.wav") == (len(wave), 22_050, 2)


# ---- files that cannot be heard


BAD: dict[str, Callable[[Path, Path], object]] = {  # says -> (good file, path) makes a bad one
    "does not exist": lambda good, path: None,
    "is empty": lambda good, path: path.write_bytes(b""),
    "is a folder": lambda good, path: path.mkdir(),
    "cannot be decoded": lambda good, path: path.write_text("dear diary\n" * 100),
    "holds no samples": lambda good, path: path.write_bytes(good.read_bytes()[:40] + bytes(4)),
}


@pytest.mark.parametrize("says", BAD)
@pytest.mark.parametrize("ask", [load, probe])
def test_what_cannot_be_heard_says_why(tmp_path: Path, wave: np.ndarray, says: str, ask: Callable[[Path], object]) -> None:
    good, path = tmp_path / "good.wav", tmp_path / "bad.wav"
    soundfile.write(good, wave, 16_000)
    BAD[says](good, path)
    if ask is probe and says == "holds no samples":
        assert probe(path)[0] == 0
        return
    with pytest.raises(AudioError, match=rf"bad\.wav.*{says}"):
        ask(path)


def test_an_mp3_without_audio_is_not_said_to_be_no_file(tmp_path: Path) -> None:
    """As libsndfile does, which must not send anybody to look for the file."""
    bad = tmp_path / "a.mp3"
    bad.write_bytes(np.random.default_rng(0).bytes(5000))
    for read in (load, probe):
        with pytest.raises(AudioError, match=r"a\.mp3 cannot be decoded: [^.]*\. Check") as caught:
            read(bad)
        assert "exist" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.flac", "a.mp3"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_cut_file_has_a_reason(tmp_path: Path, wave: np.ndarray, name: str, share: float) -> None:
    with pytest.raises(AudioError, match=r"cut off|cannot be decoded|holds no samples"):
        load(_cut(tmp_path / name, wave, share))


@pytest.mark.parametrize("name", ["a.wav", "a.ogg", "a.opus"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_cut_file_that_can_still_be_heard_has_a_warning(tmp_path: Path, wave: np.ndarray, name: str, share: float) -> None:
    try:
        heard = load(_cut(tmp_path / name, np.tile(wave, 3), share))
    except AudioError:
        assert share < 0.5  # nothing of it is left
        return
    assert len(heard.wave) < 3 * len(wave)
    assert any("shorter than its header says" in w or "may be cut off" in w for w in heard.info.warnings)


def _cut(path: Path, wave: np.ndarray, share: float) -> Path:
    soundfile.write(path, wave, 16_000, **LOSSY.get(path.name, {}))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    return path


def test_not_a_number_in_a_file_has_a_reason(tmp_path: Path, wave: np.ndarray) -> None:
    wave[[5, 6]] = np.nan, np.inf
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav holds 2 samples that are not finite"):
        load(tmp_path / "a.wav")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_has_a_reason(tmp_path: Path, wave: np.ndarray) -> None:
    soundfile.write(tmp_path / "a.wav", wave, 16_000)
    (tmp_path / "a.wav").chmod(0)
    with pytest.raises(AudioError, match="may not be read"):
        load(tmp_path / "a.wav")


def test_the_reason_ends_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioError, match=r"Check that it is audio, and export it again$"):
        load(tmp_path / "a.wav")


# ---- arrays


def test_integers_are_scaled_by_their_type(wave: np.ndarray) -> None:
    sixteen = np.round(wave * 32768).astype(np.int16)
    np.testing.assert_allclose(load(sixteen, sample_rate=16_000).wave, sixteen / 32768)
    np.testing.assert_allclose(load(sixteen.astype(np.int32) * 65536, sample_rate=16_000).wave, sixteen / 32768)
    eight = np.array([0, 128, 255], dtype=np.uint8)
    np.testing.assert_allclose(load(eight, sample_rate=16_000).wave, [-1, 0, 127 / 128])


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_are_taken_as_they_are(wave: np.ndarray, kind: type) -> None:
    np.testing.assert_allclose(load(wave.astype(kind), sample_rate=16_000).wave, wave, atol=1e-3 if kind is np.float16 else 0)


def test_lists_are_taken_as_they_are() -> None:
    np.testing.assert_allclose(load([0.0, 0.5, -1], sample_rate=8_000).wave, [0, 0.5, -1])


def test_channels_are_averaged_whichever_axis_they_are_on(make_voice) -> None:
    left, right = make_voice(0, 0.3), make_voice(1, 0.3)
    mean = (left + right) / 2
    for samples in (np.stack([left, right]), np.stack([left, right], axis=1)):
        heard = load(samples, sample_rate=16_000)
        assert heard.info.channels == 2
        np.testing.assert_allclose(heard.wave, mean, atol=1e-7)


def test_eight_channels_in_a_file_are_averaged(tmp_path: Path, wave: np.ndarray) -> None:
    soundfile.write(tmp_path / "a.wav", wave[:, None] * np.arange(8) / 8, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(load(tmp_path / "a.wav").wave, wave * 3.5 / 8, atol=1e-6)


@pytest.mark.parametrize(
    "samples, says",
    [
        ([], "no samples"),
        (np.zeros((0, 2)), "no samples"),
        (np.zeros((2, 0)), "no samples"),
        ([1.0, float("nan")], "1 samples that are not finite"),
        ([1e300, 0.0], "1 samples that are not finite"),
        ([[1.0, 2.0], [3.0]], "differ in length"),
        (np.zeros((2, 2, 2)), "not one recording"),
        (np.float32(3), "not one recording"),
        (np.array([True, False]), "not audio"),
        (np.array([1j]), "not audio"),
        (["a", "b"], "not audio"),
        (None, "not audio"),
    ],
)
def test_arrays_that_are_no_recording_say_why(samples: object, says: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(AudioError, match=says):
            load(samples, sample_rate=16_000)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [None, "16000", True, 0, -8_000, 999, 768_001, 8000.5, float("nan"), float("inf"), [16_000]])
def test_a_rate_that_is_none_is_refused(rate: object) -> None:
    with pytest.raises(UsageError, match="sample_rate="):
        load([0.0, 0.1], sample_rate=rate)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [16_000, 16_000.0, np.int32(16_000), np.float32(16_000), np.uint16(16_000)])
def test_whole_numbers_of_any_type_are_rates(rate: object) -> None:
    heard = load([0.0, 0.1], sample_rate=rate)  # type: ignore[arg-type]
    assert heard.rate == 16_000 and type(heard.rate) is int


def test_the_callers_array_stays_as_it_was(wave: np.ndarray) -> None:
    before = wave.copy()
    load(wave, 8_000, sample_rate=16_000)
    np.testing.assert_array_equal(wave, before)


# ---- policy


@pytest.mark.parametrize("to", [8_000, 16_000, 48_000])
def test_resampling_is_soxr_hq_after_averaging(make_voice, to: int) -> None:
    samples = np.stack([make_voice(0, 0.5, 22_050), make_voice(1, 0.5, 22_050)])
    heard = load(samples, to, sample_rate=22_050)
    mean = samples.mean(axis=0, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(heard.wave, soxr.resample(mean, 22_050, to, quality="HQ"))
    assert (heard.rate, heard.info.rate, heard.info.n_samples) == (to, 22_050, samples.shape[1])
    assert heard.wave.dtype == np.float32 and heard.wave.flags.c_contiguous


def test_nothing_is_trimmed_and_the_level_stays(wave: np.ndarray) -> None:
    padded = np.concatenate([np.zeros(4000, np.float32), 3 * wave, np.zeros(4000, np.float32)])
    np.testing.assert_array_equal(load(padded, sample_rate=16_000).wave, padded)


def test_hearing_leaves_no_trace(tmp_path: Path, wave: np.ndarray) -> None:
    soundfile.write(tmp_path / "a.wav", wave, 16_000)

    def world() -> tuple[object, ...]:
        return np.random.get_state()[1].tolist(), np.geterr(), list(warnings.filters), dict(os.environ), os.getcwd()  # type: ignore[union-attr]

    before = world()
    load(tmp_path / "a.wav", 8_000)
    load(np.zeros(2000), sample_rate=16_000)
    assert world() == before


# ---- what deserves a word


@pytest.mark.parametrize("rate", RATES)
def test_ordinary_clips_get_no_warning(make_voice, rate: int) -> None:
    assert load(make_voice(2, 1.0, rate), sample_rate=rate).info.warnings == ()


@pytest.mark.parametrize("low, high", [(8_000, 16_000), (8_000, 48_000), (16_000, 48_000), (22_050, 48_000), (11_025, 44_100)])
def test_an_upsampled_clip_is_called_band_limited(make_voice, low: int, high: int) -> None:
    heard = load(soxr.resample(make_voice(2, 1.0, low), low, high), sample_rate=high)
    assert [w.split(":")[0] for w in heard.info.warnings] == ["band-limited"]
    assert 0.85 * low / 2 <= heard.info.bandwidth <= 1.05 * low / 2


def test_resampling_for_the_model_does_not_change_what_is_said(make_voice) -> None:
    narrow = soxr.resample(make_voice(2, 1.0, 8_000), 8_000, 48_000)
    assert load(narrow, 8_000, sample_rate=48_000).info == load(narrow, sample_rate=48_000).info


def test_silence_is_named_with_its_level() -> None:
    assert load(np.zeros(8000), sample_rate=16_000).info.warnings == ("silence: the level is digital zero",)
    quiet = 1e-5 * np.sign(np.sin(np.arange(8000)))
    assert load(quiet, sample_rate=16_000).info.warnings == ("silence: the level is -100 dBFS",)


def test_a_quiet_clip_is_not_silent(wave: np.ndarray) -> None:
    assert load(wave * 0.01, sample_rate=16_000).info.warnings == ()


@pytest.mark.parametrize("level", [1.0, 0.3])
def test_clipping_is_seen_even_when_the_clip_was_scaled_later(wave: np.ndarray, level: float) -> None:
    clipped = level * np.clip(20 * wave, -1, 1)
    (said,) = load(clipped, sample_rate=16_000).info.warnings
    assert said.startswith("clipping:")


def test_a_loud_clip_is_not_clipped(wave: np.ndarray) -> None:
    assert load(wave / np.abs(wave).max(), sample_rate=16_000).info.clipped_share == 0


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=1, max_size=40), st.integers(1, 9))
def test_clipping_is_counted_in_runs_wherever_a_block_ends(samples: list[float], block: int) -> None:
    runs = [(flat, len(list(same))) for flat, same in itertools.groupby(abs(x) == max(map(abs, samples)) for x in samples)]
    want = sum(n for flat, n in runs if flat and n >= 3) if any(samples) else 0
    flats = description.Flats()
    for start in range(0, len(samples), block):
        part = np.array(samples[start : start + block])
        flats.add(part, float(np.abs(part).max()))
    assert flats.total() == want


def test_metadata_tell_the_truth(make_voice) -> None:
    wave = make_voice(0, 0.5, 22_050)
    info = load(wave, 16_000, sample_rate=22_050).info
    assert info.duration == pytest.approx(len(wave) / 22_050)
    assert info.peak == np.abs(wave).max()
    assert info.rms == pytest.approx(np.sqrt(np.mean(wave.astype(float) ** 2)))


def test_a_very_short_clip_can_be_described() -> None:
    assert load([0.1], sample_rate=16_000).info.bandwidth == 8_000


def test_no_real_recording_is_called_band_limited_by_mistake(shared: Path) -> None:
    folders = [shared / "data" / name for name in ("speech", "systems", "human")]
    files = [sorted(folder.rglob("*.flac")) for folder in folders]
    if not any(files):
        pytest.skip("no recordings in shared/data")
    chosen = [f for found in files for f in found[:: max(1, len(found) // 12)]]
    assert {f.name: said for f in chosen if (said := _unexpected(load(f)))} == {}


def _unexpected(heard: Audio) -> list[str]:
    return [w for w in heard.info.warnings if w.startswith(("band-limited", "silence"))]


# ---- batches


def test_collate_pads_right_and_keeps_the_lengths(make_voice) -> None:
    waves = [make_voice(i, s) for i, s in enumerate((0.1, 0.3, 0.2))]
    batch = collate(waves, ["a", "b", "c"])
    assert batch.wave.shape == (3, len(waves[1])) and batch.wave.dtype == np.float32
    assert batch.n_samples.tolist() == [len(w) for w in waves] and batch.ids == ["a", "b", "c"]
    for row, n, wave in zip(batch.wave, batch.n_samples, waves, strict=True):
        np.testing.assert_array_equal(row[:n], wave)
        assert not row[n:].any()


def test_collate_of_nothing_is_empty() -> None:
    assert collate([], []).wave.shape == (0, 0)


lengths = st.lists(st.floats(0.01, 60), max_size=60)


@given(lengths, st.floats(1, 120), st.floats(0, 0.9))
def test_batches_are_a_partition_within_the_budget(durations: list[float], most: float, padding: float) -> None:
    batches = list(duration_batches(durations, most, padding))
    assert sorted(i for batch in batches for i in batch) == list(range(len(durations)))
    for batch in batches:
        longest = max(durations[i] for i in batch)
        padded = longest * len(batch)
        assert len(batch) == 1 or padded <= most
        assert len(batch) == 1 or 1 - sum(durations[i] for i in batch) / padded <= padding + 1e-9


@given(lengths, st.floats(1, 120))
def test_the_longest_come_first(durations: list[float], most: float) -> None:
    first = [durations[batch[0]] for batch in duration_batches(durations, most)]
    assert first == sorted(first, reverse=True)


def test_equal_clips_fill_a_batch() -> None:
    assert [len(b) for b in duration_batches([2.0] * 10, 8.0)] == [4, 4, 2]


def test_a_clip_beyond_the_budget_travels_alone() -> None:
    assert list(duration_batches([1.0, 500.0, 1.0], 10.0)) == [[1], [0, 2]]


def test_suffixes_know_what_soundfile_and_av_read() -> None:
    assert {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".amr", ".webm"} <= formats.AUDIO_SUFFIXES
    assert formats.AV_SUFFIXES < formats.AUDIO_SUFFIXES


def test_a_suffix_in_capitals_is_the_same_suffix(tmp_path: Path, make_voice) -> None:
    _write_av(tmp_path / "a.m4a", make_voice(0, 0.5)[None], 16_000, "aac")
    shutil.copy(tmp_path / "a.m4a", tmp_path / "B.M4A")
    np.testing.assert_array_equal(load(tmp_path / "a.m4a").wave, load(tmp_path / "B.M4A").wave)
