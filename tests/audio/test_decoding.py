"""Files are read until they end, whatever their headers promise; what is missing, or more than promised, is said."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from urgentmos.audio import samples as audio
from urgentmos.audio.samples import load, probe
from urgentmos.audio.windows import windows
from urgentmos.common.clip_warnings import CUT_OFF, LENGTH, kind_of
from urgentmos.errors import AudioError

RATE = 16_000
STATED = [  # containers that state their length, or mark their end, in one way or another
    *(f"WAV {sub}" for sub in ("PCM_16", "PCM_24", "PCM_U8", "FLOAT", "ULAW", "IMA_ADPCM", "MS_ADPCM")),
    *("WAVEX PCM_16", "RIFX PCM_16", "RF64 PCM_16", "W64 PCM_16", "W64 PCM_U8", "NIST PCM_16"),
    *("AIFF PCM_16", "AIFF PCM_S8", "AIFF FLOAT", "AU PCM_16", "AU FLOAT", "CAF PCM_16", "CAF ALAC_16", "FLAC PCM_16"),
    *("OGG VORBIS", "OGG OPUS", "MP3 MPEG_LAYER_III"),
    *("av matroska pcm_s16le", "av matroska libopus", "av matroska aac", "av webm libopus", "av ipod aac", "av mp4 alac"),
    *("av 3gp aac", "av mp3 libmp3lame", "av flac flac", "av wav pcm_s16le", "av caf pcm_s16le"),
]
FRAMED = ["av adts aac", "av amr libopencore_amrnb"]  # frames alone: a cut between two of them leaves no trace
SUFFIX = {"ipod": "m4a", "adts": "aac", "matroska": "mka", "OGG": "ogg", "MP3": "mp3", "FLAC": "flac"}


def suffix(container: str) -> str:
    form = container.removeprefix("av ").split()[0]
    return SUFFIX.get(form, form.lower() if container.startswith("av ") else "wav")


def rate_of(container: str, rate: int) -> int:
    if "opus" in container.lower():
        return 48_000
    return 8_000 if "amr" in container else rate


def outcome(path: Path, seconds: float | None = None) -> tuple[str, tuple[str, ...], float]:
    """(error, warnings, duration) of a file that is read whole, or in windows of `seconds`."""
    try:
        info = load(path).info if seconds is None else list(windows(str(path), RATE, seconds))[-1].info
    except AudioError as e:
        return str(e), (), 0.0
    return "", info.warnings, info.duration


def kinds(warnings: tuple[str, ...]) -> list[str]:
    return [kind for warning in warnings if (kind := kind_of(warning)) in (CUT_OFF, LENGTH)]


some = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much])


@pytest.mark.parametrize("container", [*STATED, *FRAMED])
@some
@given(
    n=st.integers(2_000, 40_000),
    rate=st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000]),
    channels=st.sampled_from([1, 2]),
)
def test_an_intact_file_is_read_whole_without_a_word(
    tmp_path: Path, make_voice, encode, container: str, n: int, rate: int, channels: int
) -> None:
    rate = rate_of(container, rate)
    samples = np.tile(make_voice(n, 5.1, rate)[:n, None], (1, 1 if "amr" in container else channels))
    path = tmp_path / f"x.{suffix(container)}"
    path.write_bytes(encode(container, samples, rate))
    whole, pieces = outcome(path), outcome(path, 0.6)
    assert whole == pieces
    error, warnings, duration = whole
    assert error == "" and kinds(warnings) == []
    assert duration == pytest.approx(n / rate, abs=0.3)  # codecs of blocks pad
    assert probe(path)[0] == round(duration * probe(path)[1])


@pytest.mark.parametrize("container", [*STATED, *FRAMED])
@some
@given(share=st.floats(0.01, 0.999), channels=st.sampled_from([1, 2]))
def test_a_cut_file_is_never_read_in_silence(
    tmp_path: Path, make_voice, encode, container: str, share: float, channels: int
) -> None:
    rate = rate_of(container, RATE)
    samples = np.tile(make_voice(1, 1.5, rate)[:, None], (1, 1 if "amr" in container else channels))
    content = encode(container, samples, rate)
    path = tmp_path / f"x.{suffix(container)}"
    path.write_bytes(content)
    _, _, whole = outcome(path)
    path.write_bytes(content[: int(share * len(content))])
    error, warnings, duration = outcome(path)
    assert (error, warnings, duration) == outcome(path, 0.4)
    if container in FRAMED:
        assume(bool(error) or duration % 0.001)
        return
    assert error or kinds(warnings) or whole - duration < 0.02  # what is missing held no sound
    if error:
        assert any(why in error for why in ("cut off", "cannot be decoded", "holds no samples")), error


@pytest.mark.parametrize(
    ("container", "size"), [("av adts aac", 3001), ("av amr libopencore_amrnb", 301), ("av mp3 libmp3lame write_xing=0", 1001)]
)
def test_half_a_frame_at_the_end_is_said(tmp_path: Path, make_voice, encode, container: str, size: int) -> None:
    path = tmp_path / f"x.{suffix(container)}"
    path.write_bytes(encode(container, make_voice(0, 2.0, rate_of(container, RATE)), rate_of(container, RATE))[:size])
    _, warnings, _ = outcome(path)
    assert kinds(warnings) == [CUT_OFF]


@pytest.mark.parametrize("container", [c for c in STATED if not c.startswith("av m") and "webm" not in c])
def test_recordings_one_after_the_other_in_one_file_are_all_read(tmp_path: Path, make_voice, encode, container: str) -> None:
    rate = rate_of(container, RATE)
    first, second = (encode(container, make_voice(seed, seconds, rate), rate) for seed, seconds in ((0, 1.5), (1, 0.9)))
    path = tmp_path / f"x.{suffix(container)}"
    waves = []
    for content in (first, second):
        path.write_bytes(content)
        waves.append(load(path).wave)
    path.write_bytes(first + second)
    np.testing.assert_array_equal(load(path).wave, np.concatenate(waves))
    assert outcome(path) == outcome(path, 0.7)
    seconds = [len(wave) / rate for wave in waves]
    said = f"length: the header promises {seconds[0]:.2f} s and {sum(seconds):.2f} s were decoded"
    assert outcome(path)[1][0].startswith(said)
    assert probe(path)[0] == sum(map(len, waves))


@pytest.mark.parametrize("container", ["OGG VORBIS", "FLAC PCM_16", "WAV PCM_16", "av mp3 libmp3lame write_xing=0"])
def test_a_recording_of_another_rate_behind_the_first_is_named(tmp_path: Path, make_voice, encode, container: str) -> None:
    path = tmp_path / f"x.{suffix(container)}"
    path.write_bytes(encode(container, make_voice(0, 1.0), RATE) + encode(container, make_voice(0, 1.0, 24_000), 24_000))
    error, warnings, duration = outcome(path)
    assert error == "" and duration == pytest.approx(1.0, abs=0.1)
    assert "recording 2 of 2 in it has 24000 Hz and 1 channel; only what stands before it was read" in warnings[0]


def test_the_second_half_of_a_chain_may_be_cut(tmp_path: Path, make_voice, encode) -> None:
    content = encode("OGG VORBIS", make_voice(0, 1.5), RATE)
    path = tmp_path / "x.ogg"
    path.write_bytes(content + content[: len(content) * 3 // 4])
    assert CUT_OFF in kinds(outcome(path)[1]) and outcome(path)[2] > 1.6
    path.write_bytes(content[: len(content) // 2] + content)
    assert CUT_OFF in kinds(outcome(path)[1]) and outcome(path)[2] >= 1.5


# ---- headers that are wrong

FIELDS = {  # container -> (bytes in front of the size, how it is written, what it counts besides the samples)
    "WAV PCM_16": (b"data", "<I", 0),
    "WAV PCM_24": (b"data", "<I", 0),
    "RIFX PCM_16": (b"data", ">I", 0),
    "AIFF PCM_16": (b"SSND", ">I", 8),
    "AU PCM_16": (b".snd\0\0\0\x18", ">I", 0),
    "W64 PCM_16": (b"data" + bytes.fromhex("f3acd3118cd100c04f8edb8a"), "<Q", 24),
    "CAF PCM_16": (b"data", ">Q", 4),
    "RF64 PCM_16": (b"ds64\x1c\0\0\0" + b"????????", "<Q", 0),
}


def with_size(content: bytes, field: tuple[bytes, str, int], size: Callable[[int], int]) -> bytes:
    mark, code, besides = field
    at = content.index(mark.rstrip(b"?")) + len(mark)
    (now,) = struct.unpack_from(code, content, at)
    new = (size(now - besides) + besides) % (1 << 8 * struct.calcsize(code))
    return content[:at] + struct.pack(code, new) + content[at + struct.calcsize(code) :]


@pytest.mark.parametrize("container", FIELDS)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_header_that_promises_less_than_there_is(tmp_path: Path, make_voice, encode, container: str, share: float) -> None:
    field = FIELDS[container]
    wave = make_voice(0, 2.0)
    path = tmp_path / "x.wav"
    path.write_bytes(encode(container, wave, RATE))
    whole = load(path).wave
    path.write_bytes(with_size(path.read_bytes(), field, lambda size: int(size * share) // 6 * 6))
    np.testing.assert_array_equal(load(path).wave, whole)
    assert outcome(path) == outcome(path, 0.6) and probe(path)[0] == len(wave)
    assert outcome(path)[1] == (f"length: the header promises {2 * share:.2f} s and 2.00 s were decoded",)


@pytest.mark.parametrize("container", FIELDS)
def test_a_header_that_does_not_know_is_no_reason_for_a_word(tmp_path: Path, make_voice, encode, container: str) -> None:
    wave = make_voice(0, 1.0)
    path = tmp_path / "x.wav"
    path.write_bytes(with_size(encode(container, wave, RATE), FIELDS[container], lambda size: -1 - FIELDS[container][2]))
    assert outcome(path) == ("", (), 1.0) == outcome(path, 0.6)


@pytest.mark.parametrize("container", FIELDS)
@pytest.mark.parametrize("more", [1, 1000, 1_000_000])
def test_a_header_that_promises_more_than_there_is(tmp_path: Path, make_voice, encode, container: str, more: int) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(with_size(encode(container, make_voice(0, 1.0), RATE), FIELDS[container], lambda size: size + more))
    said = (f"cut off: the file is shorter than its header says ({more} bytes are missing)",)
    assert outcome(path) == ("", said, 1.0) == outcome(path, 0.6)


@pytest.mark.parametrize("container", FIELDS)
def test_a_header_with_nothing_behind_it_holds_no_samples(tmp_path: Path, encode, container: str) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(encode(container, np.zeros(0), RATE))
    assert "holds no samples. Record or export it again" in outcome(path)[0]


LIST = b"LIST" + struct.pack("<I", 1000) + b"INFOISFT" + struct.pack("<I", 988) + b"urgentmos".ljust(988)


@pytest.mark.parametrize("tail", [LIST, LIST[:600], bytes(4000), b"TAG" + b"x" * 900, b"\1" * 100])
def test_other_bytes_behind_the_samples_are_no_samples(tmp_path: Path, make_voice, encode, tail: bytes) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(encode("WAV PCM_16", make_voice(0, 1.0), RATE) + tail)
    assert outcome(path) == ("", (), 1.0) == outcome(path, 0.6)


def test_a_wav_without_samples_may_hold_other_chunks(tmp_path: Path, encode) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(encode("WAV PCM_16", np.zeros(0), RATE) + LIST)
    assert "holds no samples" in outcome(path)[0]


@pytest.mark.parametrize("stated", [0, 1000, 20_000, 40_000])
def test_a_flac_is_read_to_its_last_frame(tmp_path: Path, make_voice, encode, stated: int) -> None:
    wave = make_voice(0, 2.0)
    content = bytearray(encode("FLAC PCM_16", wave, RATE))
    number = int.from_bytes(content[21:26], "big") >> 36 << 36 | stated
    content[21:26] = number.to_bytes(5, "big")
    path = tmp_path / "x.flac"
    path.write_bytes(content)
    error, warnings, duration = outcome(path)
    assert (error, warnings, duration) == outcome(path, 0.6)
    if stated > len(wave):
        assert "is cut off: 32000 of 40000 samples could be read. Copy or export it again" in error
    else:
        assert duration == 2.0 and probe(path)[0] == len(wave)
        assert kinds(warnings) == ([LENGTH] if stated else [])


def test_a_damaged_flac_is_not_said_to_be_cut_off(tmp_path: Path, make_voice, encode) -> None:
    content = bytearray(encode("FLAC PCM_16", make_voice(0, 2.0), RATE))
    content[len(content) // 2] ^= 0xFF
    path = tmp_path / "x.flac"
    path.write_bytes(content)
    assert "is damaged: " in outcome(path)[0] and " of 32000 samples could be read" in outcome(path)[0]
    path.write_bytes(content[: len(content) // 2])
    assert "is cut off: " in outcome(path)[0]


# ---- MP3

XING, PLAIN = "av mp3 libmp3lame id3v2_version=0", "av mp3 libmp3lame id3v2_version=0 write_xing=0"


def mp3(tmp_path: Path, content: bytes) -> tuple[str, tuple[str, ...], float]:
    path = tmp_path / "x.mp3"
    path.write_bytes(content)
    result = outcome(path)
    assert result == outcome(path, 0.6) and (result[0] or probe(path)[0] == round(result[2] * RATE))
    return result


@pytest.mark.parametrize("bits", ["MP3 MPEG_LAYER_III", PLAIN])
def test_an_mp3_without_a_header_is_as_long_as_its_frames(tmp_path: Path, make_voice, encode, bits: str) -> None:
    """libsndfile's MP3s have a variable bit rate: their length cannot be told from the first frame."""
    quiet = np.concatenate([make_voice(0, 1.5), 1e-3 * make_voice(1, 4.0)])
    content = encode(bits, quiet, RATE)
    if b"Xing" in content[:200]:
        content = content[_frame_size(content) :]
    error, warnings, duration = mp3(tmp_path, content)
    assert error == "" and kinds(warnings) == [] and duration == pytest.approx(5.5, abs=0.2)


def _frame_size(content: bytes) -> int:
    from urgentmos.audio.frames import mpeg

    frame = mpeg(content[:4])
    assert frame is not None
    return frame.size


@pytest.mark.parametrize(
    ("front", "back"),
    [
        (b"ID3\3\0\0\0\0\x10\0" + bytes(2048), b""),
        (b"ID3\3\0\0\0\0\1\0" + bytes(128) + b"junk" * 100, b"TAG" + bytes(125)),
        (bytes(3000), bytes(3000)),
        (b"", b"APETAGEX" + struct.pack("<IIII", 2000, 32, 1, 0) + bytes(8)),
    ],
)
@pytest.mark.parametrize("container", [XING, PLAIN])
def test_tags_and_junk_around_an_mp3_are_no_sound(
    tmp_path: Path, make_voice, encode, container: str, front: bytes, back: bytes
) -> None:
    content = encode(container, make_voice(0, 2.0), RATE)
    plain = mp3(tmp_path, content)
    assert plain[0] == "" and mp3(tmp_path, front + content + back) == plain


def test_an_mp3_whose_header_counts_too_few_frames(tmp_path: Path, make_voice, encode) -> None:
    first, second = (encode(container, make_voice(0, 2.0), RATE) for container in (XING, PLAIN))
    error, warnings, duration = mp3(tmp_path, first + second)
    assert error == "" and kinds(warnings) == [LENGTH] and duration == pytest.approx(4.0, abs=0.2)


# ---- what is inside, not what it is called


@pytest.mark.parametrize(
    ("name", "container"),
    [("x.wav", "av ipod aac"), ("x.m4a", "WAV PCM_16"), ("x.wav", "av mp3 libmp3lame"), ("x.ogg", "FLAC PCM_16")],
)
def test_a_file_is_what_its_bytes_say(tmp_path: Path, make_voice, encode, name: str, container: str) -> None:
    path = tmp_path / name
    path.write_bytes(encode(container, make_voice(0, 1.0), RATE))
    assert outcome(path)[:2] == ("", ()) and outcome(path)[2] == pytest.approx(1.0, abs=0.2)


def test_a_name_that_is_not_utf8_is_opened(tmp_path: Path, make_voice) -> None:
    soundfile.write(tmp_path / "a.wav", make_voice(0, 1.0), RATE)
    strange = tmp_path / "caf\udce9.wav"
    (tmp_path / "a.wav").rename(strange)
    assert load(strange).info.duration == 1.0 and probe(strange)[0] == RATE


def test_reading_twice_gives_the_same_bits(tmp_path: Path, make_voice, encode) -> None:
    for container in ("MP3 MPEG_LAYER_III", "OGG VORBIS", "FLAC PCM_16"):
        path = tmp_path / f"x.{suffix(container)}"
        path.write_bytes(encode(container, np.tile(make_voice(0, 2.0), 8), RATE))
        whole = load(path).wave
        np.testing.assert_array_equal(load(path).wave, whole)
        pieces = np.concatenate([piece.wave for piece in windows(str(path), RATE, 3.0)])
        np.testing.assert_array_equal(pieces, whole)


def test_decode_says_what_the_decoder_had_to_say(tmp_path: Path, make_voice, encode) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(encode("WAV PCM_16", make_voice(0, 1.0), RATE)[:-100])
    samples, rate, note = audio.decode(path)
    assert (samples.shape, rate) == ((RATE - 50, 1), RATE) and note.startswith("cut off: ") and "(100 bytes" in note
