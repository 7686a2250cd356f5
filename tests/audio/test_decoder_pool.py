"""A recording decoded in a process of its own: the same samples, and nothing that it does reaches this process."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from urgentmos.audio import containers, decoder_pool, decoding, windows
from urgentmos.audio import samples as audio
from urgentmos.audio.decoding import open_stream
from urgentmos.errors import AudioError

pytest.importorskip("av")

LOSSLESS = ("av matroska pcm_s16le", "av matroska flac", "av ipod alac")
MANY = ("av ipod aac", "av adts aac", "av webm libopus")

# A decoder that does what its file asks for.
TROUBLE = """
import os, signal, sys, time
import numpy as np
from urgentmos.audio import decoder_process
from urgentmos.audio import decoders
real = decoders.open_here
def open_here(file, where, by_ffmpeg):
    file.seek(0)
    order = file.read(64)[12:].split(b"!")[0]
    if order == b"crash": os.kill(os.getpid(), signal.SIGSEGV)
    if order == b"exit": os._exit(3)
    if order == b"sleep": time.sleep(60)
    if order == b"spin":
        while True: pass
    if order == b"grow": np.ones(1 << 40, dtype=np.uint8)
    if order == b"bug": raise KeyError("frame")
    if order == b"print": os.write(1, b"hello"); print("hello", flush=True)
    return real(file, where, by_ffmpeg)
decoders.open_here = open_here
decoder_process.main()
"""


@pytest.fixture(autouse=True)
def own_pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[decoder_pool.Pool]:
    pool = decoder_pool.Pool()
    monkeypatch.setattr(decoder_pool, "POOL", pool)
    yield pool
    pool.close()


@pytest.fixture
def trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes a file that begins as an MP4 does and orders a kind of trouble."""
    script = tmp_path / "decoder.py"
    script.write_text(TROUBLE)
    monkeypatch.setattr(decoder_pool, "COMMAND", [sys.executable, "-P", str(script)])

    def make(kind: str) -> Path:
        path = tmp_path / f"{kind}.m4a"
        path.write_bytes(b"\0\0\0\x40ftypM4A " + f"{kind}!".encode().ljust(64, b"\0"))
        return path

    return make


def sine(channels: int, seconds: float = 0.3, rate: int = 48_000) -> np.ndarray:
    """(T, C) 16-bit values in float32, a tone for each channel."""
    t = np.arange(int(seconds * rate))[:, None] / rate
    tones = 0.3 * np.sin(2 * np.pi * 200 * (1 + np.arange(channels)) * t)
    return (np.round(tones * 32767) / 32768).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2, 6, 8, 16])  # FLAC and ALAC hold at most 8
@pytest.mark.parametrize("container", LOSSLESS)
def test_every_channel_of_a_lossless_recording_is_exact(tmp_path: Path, encode, container: str, channels: int) -> None:
    samples = sine(channels)
    path = tmp_path / "a.mka"
    path.write_bytes(encode(container, np.round(samples * 32768) / 32767, 48_000))
    decoded, rate, words = audio.decode(path)
    assert (rate, words, decoded.shape[1]) == (48_000, "", channels)
    known = sorted(np.abs(np.fft.rfft(channel)).argmax() for channel in samples.T)  # containers order channels in their own way
    assert sorted(np.abs(np.fft.rfft(channel[: len(samples)])).argmax() for channel in decoded.T) == known
    if container != "av ipod alac" or channels < 3:
        np.testing.assert_array_equal(decoded[: len(samples)], samples)


@pytest.mark.parametrize("container", MANY)
def test_eight_channels_are_averaged_as_one(tmp_path: Path, encode, make_voice, container: str) -> None:
    one = make_voice(0, 1.0, 48_000)
    path = tmp_path / "a.m4a"
    path.write_bytes(encode(container, np.repeat(one[:, None], 8, axis=1), 48_000))
    loaded = audio.load(path)
    assert loaded.info.channels == 8
    n = min(len(one), len(loaded.wave))
    lag = np.argmax(np.correlate(loaded.wave[:n], one[: n - 4000], "valid"))
    assert np.corrcoef(loaded.wave[lag : lag + n - 4000], one[: n - 4000])[0, 1] > 0.9


def test_a_flac_from_a_pipe_of_eight_channels_is_read(tmp_path: Path, encode) -> None:
    samples = sine(8, 1.0)
    content = bytearray(encode("FLAC PCM_16", samples, 48_000))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path = tmp_path / "a.flac"
    path.write_bytes(content)
    np.testing.assert_allclose(audio.decode(path)[0], samples, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("crash", r"its decoder crashed \(SIGSEGV\)"),
        ("exit", r"its decoder ended without an answer \(exit status 3\)"),
        ("grow", "takes more than 1 GB of memory"),
        ("bug", "'frame' is not there"),
    ],
)
def test_trouble_costs_one_recording(tmp_path: Path, encode, make_voice, trouble, kind: str, reason: str) -> None:
    good = tmp_path / "good.m4a"
    good.write_bytes(encode("av ipod aac", make_voice(0, 0.5), 16_000))
    bad = trouble(kind)
    for _ in range(2):  # and the next recording is decoded
        assert audio.load(good).info.duration > 0.4
        with pytest.raises(AudioError, match=f"{bad} cannot be decoded: .*{reason}"):
            audio.load(bad)
    reader = windows.AudioReader("model", 16_000, 30.0, 100)
    opened = [recording for _, recording in reader.ahead([str(good), str(bad), str(good)], range(3))]
    assert [recording.error is None for recording in opened] == [True, False, True]


def test_a_decoder_that_computes_without_end_is_ended(trouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    with pytest.raises(AudioError, match="computed for more than 5 s"):
        audio.load(trouble("spin"))


def test_a_decoder_that_does_not_answer_is_ended(trouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_pool, "START_SECONDS", 0.5)
    monkeypatch.setattr(decoder_pool, "ANSWER_SECONDS", 0.5)
    with pytest.raises(AudioError, match="did not answer"):
        audio.load(trouble("sleep"))


def test_what_a_library_prints_is_no_answer(tmp_path: Path, trouble) -> None:
    with pytest.raises(AudioError, match=r"cannot be decoded: .*(Invalid data|moov)"):
        audio.load(trouble("print"))


def test_a_process_is_used_again_and_one_that_died_meanwhile_is_replaced(
    tmp_path: Path, encode, make_voice, own_pool: decoder_pool.Pool
) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(encode("av ipod aac", make_voice(0, 0.5), 16_000))
    first = audio.load(path)
    (decoder,) = own_pool._idle
    audio.load(path)
    assert own_pool._idle == [decoder]
    decoder._process.kill()
    np.testing.assert_array_equal(audio.load(path).wave, first.wave)
    assert own_pool._idle != [decoder]


def test_a_recording_that_is_left_half_read_leaves_its_process_ready(tmp_path: Path, encode, make_voice, own_pool) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(encode("av ipod aac", make_voice(0, 3.0), 16_000))
    whole = audio.load(path).wave
    with open_stream(path) as stream:
        next(stream.pieces(1000))
    assert len(own_pool._idle) == 1
    np.testing.assert_array_equal(audio.load(path).wave, whole)


def test_many_threads_decode_side_by_side(tmp_path: Path, encode, make_voice) -> None:
    paths = [tmp_path / f"{i}.m4a" for i in range(6)]
    for i, path in enumerate(paths):
        path.write_bytes(encode("av ipod aac", make_voice(i, 0.5), 16_000))
    alone = [audio.load(path).wave for path in paths]
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(lambda path: audio.load(path).wave, paths * 3))
    for wave, expected in zip(together, alone * 3, strict=True):
        np.testing.assert_array_equal(wave, expected)


def test_a_forked_process_has_a_pool_of_its_own(tmp_path: Path, encode, make_voice) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(encode("av ipod aac", make_voice(0, 0.5), 16_000))
    whole = audio.load(path).wave
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if np.array_equal(audio.load(path).wave, whole) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(audio.load(path).wave, whole)


def test_the_processes_end_with_the_one_that_started_them(tmp_path: Path, encode, make_voice) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(encode("av ipod aac", make_voice(0, 0.5), 16_000))
    for ending in ("", "os.kill(os.getpid(), 9)"):
        script = f"""
import os
from urgentmos.audio import samples as audio
from urgentmos.audio import decoder_pool
audio.load({str(path)!r})
print(decoder_pool.POOL._idle[0]._process.pid, flush=True)
{ending}
"""
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        pid = int(run.stdout)
        ended = threading.Event()
        for _ in range(200):
            if not _runs(pid):
                ended.set()
                break
            threading.Event().wait(0.05)
        assert ended.is_set()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


@pytest.mark.parametrize("name", ["a.m4a", "a.mp4", "a.webm", "a.wma", "a.aac", "a.wav"])
@pytest.mark.parametrize(
    "playlist",
    [
        b"ffconcat version 1.0\nfile 'other.mp4'\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 19998 RTP/AVP 0\na=rtpmap:0 PCMU/8000\n",
        b"#EXTM3U\n#EXTINF:1,\nother.mp4\n",
    ],
)
def test_a_playlist_is_no_recording(tmp_path: Path, encode, make_voice, name: str, playlist: bytes) -> None:
    (tmp_path / "other.mp4").write_bytes(encode("av mp4 aac", make_voice(0, 0.5), 16_000))
    (tmp_path / name).write_bytes(playlist)
    with pytest.raises(AudioError, match="cannot be decoded: it holds no audio that is known"):
        audio.load(tmp_path / name)


@pytest.mark.parametrize("rate", [0, 1, 999, 768_001, 2_000_000_000])
@pytest.mark.parametrize("container", ["WAV PCM_16", "AU PCM_16"])
def test_a_file_whose_rate_no_sound_has_is_refused(tmp_path: Path, encode, make_voice, container: str, rate: int) -> None:
    content = bytearray(encode(container, make_voice(0, 0.5), 16_000))
    place, order = (24, "little") if container.startswith("WAV") else (16, "big")
    content[place : place + 4] = rate.to_bytes(4, order)
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=f"(sampling rate of {rate} Hz, outside 1000..768000|states no sampling rate)"):
        audio.load(path)


@pytest.mark.parametrize("rate", [1_000, 768_000])
def test_a_file_of_an_extreme_rate_is_read(tmp_path: Path, encode, make_voice, rate: int) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(encode("WAV PCM_16", make_voice(0, 0.5), rate))
    assert audio.load(path).info.rate == rate


@pytest.mark.parametrize("steps", [3, 30, 100_000])
@pytest.mark.parametrize("container", ["WAV PCM_16", "AIFF PCM_16", "OGG VORBIS", "FLAC PCM_16"])
def test_a_file_of_many_pieces_is_decoded_elsewhere_and_alike(
    tmp_path: Path, encode, make_voice, monkeypatch: pytest.MonkeyPatch, container: str, steps: int
) -> None:
    path = tmp_path / "a.wav"
    content = encode(container, make_voice(0, 1.0), 16_000)
    if container.startswith("WAV"):
        content = content[:12] + 50 * b"junk\0\0\0\0" + content[12:]
    path.write_bytes(content)
    near = audio.load(path)
    monkeypatch.setattr(decoding, "NEAR_STEPS", steps)
    far = audio.load(path)
    np.testing.assert_array_equal(far.wave, near.wave)
    assert far.info == near.info


def test_more_recordings_than_anyone_joins_are_refused(tmp_path: Path, encode, make_voice, monkeypatch) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(3 * encode("FLAC PCM_16", make_voice(0, 0.3), 16_000))
    monkeypatch.setattr(containers, "MOST_PARTS", 3)
    assert audio.load(path).info.duration == pytest.approx(0.9)
    monkeypatch.setattr(containers, "MOST_PARTS", 2)
    with pytest.raises(AudioError, match="more than"):
        audio.load(path)


def test_a_recording_whose_text_tags_are_not_utf8_is_read(tmp_path: Path, encode, make_voice) -> None:
    content = encode("av matroska pcm_s16le", make_voice(0, 0.5), 16_000)
    assert b"Lavf" in content
    path = tmp_path / "a.mka"
    path.write_bytes(content.replace(b"Lavf", b"\xff\xe9vf"))
    assert audio.load(path).info.duration == pytest.approx(0.5)


def test_a_header_that_promises_years_costs_nothing(tmp_path: Path, encode, make_voice) -> None:
    content = bytearray(encode("MP3 MPEG_LAYER_III", make_voice(0, 1.0), 16_000))
    place = max(content.find(b"Info"), content.find(b"Xing"))
    content[place + 8 : place + 12] = b"\xff" * 4
    path = tmp_path / "a.mp3"
    path.write_bytes(content)
    reader = windows.AudioReader("model", 16_000, 30.0, 100)
    with pytest.raises(AudioError, match="is cut off"):
        list(reader.pieces(reader.open(path)))
