"""One policy for a recording, whichever way it is read: whole or in windows, by a network, a labeller or the library."""

import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import urgentmos
from urgentmos.audio.description import AudioInfo
from urgentmos.audio.samples import load
from urgentmos.audio.windows import windows
from urgentmos.clips.journal import Task
from urgentmos.common.clip_warnings import kind_of
from urgentmos.errors import AudioError, MeasureError
from urgentmos.labellers import LABELLERS, loop

RATE = 8_000
WINDOW = 30.0  # seconds, of pocket
LENGTHS = {"below the window": 2.0, "above the window": 31.5}

Samples = Callable[[np.ndarray], np.ndarray]  # (T,) of voice -> (T,) or (T, C)


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def no_size(content: bytes) -> bytes:
    at = content.index(b"data") + 4
    return content[:at] + bytes(4) + content[at + 4 :]


def doubled(content: bytes) -> bytes:
    return content + content


def click(wave: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(wave)) == 5000, 0.5, 0.0)


FILES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {  # name -> (container, fault, what the row says)
    **{
        f"cut {container}": (container, half, "cut off: the file is shorter than its header says (# bytes are missing)")
        for container in (
            *("WAV PCM_16", "WAVEX PCM_16", "RIFX PCM_16", "RF64 PCM_16", "W64 PCM_16", "AIFF PCM_16", "AU PCM_16"),
            *(
                "CAF PCM_16",
                "NIST PCM_16",
                "av matroska pcm_s16le",
                "av webm libopus",
                "av ipod aac movflags=frag_keyframe+empty_moov",
            ),
        )
    },
    "cut Ogg": ("OGG VORBIS", half, "cut off: the file may be cut off: its last Ogg page does not end the stream"),
    "cut Opus": ("OGG OPUS", half, "cut off: the file may be cut off: its last Ogg page does not end the stream"),
    "cut MP3": ("MP3 MPEG_LAYER_III", half, "PATH is cut off: # of # samples could be read. Copy or export it again"),
    "cut FLAC": ("FLAC PCM_16", half, "PATH is cut off: # of # samples could be read. Copy or export it again"),
    "no size": ("WAV PCM_16", no_size, "length: the header promises # s and # s were decoded"),
    "chained Ogg": (
        "OGG VORBIS",
        doubled,
        "length: the header promises # s and # s were decoded (# recordings, one after the other)",
    ),
    "joined MP3": (
        "MP3 MPEG_LAYER_III",
        doubled,
        "length: the header promises # s and # s were decoded (# recordings, one after the other)",
    ),
}
SOUNDS: dict[str, tuple[Samples, str]] = {  # name -> (what becomes of a voice, what the row says)
    "an ordinary recording": (lambda x: x, ""),
    "digital zero": (lambda x: 0 * x, "silence: the level is digital zero"),
    "noise below -80 dBFS": (lambda x: 3e-5 * np.sign(x), "silence: the level is #dBFS"),
    "DC": (lambda x: 0 * x + 0.3, "silence: a constant level of # (DC) and nothing else"),
    "a click": (click, "silence: only # s of it are above #dBFS"),
    "DC and a voice": (lambda x: x / 2 + 0.3, ""),
    "clipping": (lambda x: np.clip(20 * x, -1, 1), "clipping: #% of the samples lie flat at the peak"),
    "integers in floats": (
        lambda x: 32768 * x,
        "level: the peak is # times full scale; divide the samples by # if they are #-bit integers, or pass them as int#",
    ),
    "too loud": (lambda x: 100 * x, "level: the peak is # times full scale; scale the samples to #"),
    "a float file with peaks of 1.2": (lambda x: x * (1.2 / np.abs(x).max()), ""),
    "not finite": (
        lambda x: np.where(np.arange(len(x)) > len(x) - 3, np.nan, x),
        "PATH holds # samples that are not finite numbers. Export it again",
    ),
    "an inverted channel": (
        lambda x: np.stack([x, -x], 1),
        "channels cancel: averaging the # channels leaves nothing of their level; score one channel, or invert one of them",
    ),
    "a channel inverted in part": (
        lambda x: np.stack([x, -0.7 * x], 1),
        "channels cancel: averaging the # channels leaves # dB of their level; score one channel, or invert one of them",
    ),
    "a channel inverted for a while": (
        lambda x: np.stack([x, np.where(np.arange(len(x)) < len(x) // 2, -x, x)], 1),
        "channels cancel: in # of # s averaging the # channels leaves next to nothing of their level; "
        "score one channel, or invert one of them",
    ),
    "equal channels": (lambda x: np.stack([x, x], 1), ""),
    "the left channel alone": (lambda x: np.stack([x, 0 * x], 1), ""),
    "the center of six channels": (lambda x: np.stack([0 * x, 0 * x, x, 0 * x, 0 * x, 0 * x], 1), ""),
}


@pytest.fixture(scope="module")
def pocket():
    return urgentmos.load()


def plain(sentence: str, path: Path) -> str:
    """Without numbers and names, which differ with the length."""
    return re.sub(r"-?\d[\d.]* ?(?=dBFS)|-?\d[\d.]*", "#", sentence.replace(str(path), "PATH"))


def every_path_says(path: Path, pocket) -> str:
    """Error or warnings of a recording, in one string, after a look that all paths agree on it."""
    said = set()
    for read in (lambda: load(path).info, lambda: list(windows(str(path), 16_000, WINDOW))[-1].info):
        try:
            said.add((None, read().warnings))
        except AudioError as e:
            said.add((str(e), ()))
    score = pocket.score(path)
    said.add((score.error, tuple(score.warnings)))
    (scored,) = pocket.score_clips([urgentmos.Clip("a", str(path))])
    said.add((scored.error, tuple(scored.warnings)))
    labelled = loop.measure(Task(str(path), None), [])
    said.add((labelled.error, tuple(labelled.warnings)))
    assert len(said) == 1, said
    assert (score.error is None) == (score.metrics["mos_overall"] is not None)
    ((error, warnings),) = said
    return plain(error or "; ".join(w for w in warnings if not w.startswith("band-limited")), path)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", FILES)
def test_a_faulty_file_says_the_same_on_every_path(tmp_path: Path, make_voice, encode, pocket, name: str, length: str) -> None:
    container, fault, says = FILES[name]
    rate = 48_000 if "opus" in container.lower() else RATE
    path = tmp_path / f"x.{'mka' if container.startswith('av') else 'wav'}"
    path.write_bytes(fault(encode(container, make_voice(0, 2 * LENGTHS[length], rate), rate)))
    if "chained" in name or "joined" in name:
        path.write_bytes(fault(encode(container, make_voice(0, LENGTHS[length] * 0.6, rate), rate)))
    assert every_path_says(path, pocket) == says


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", SOUNDS)
def test_a_sound_says_the_same_on_every_path(tmp_path: Path, make_voice, pocket, name: str, length: str) -> None:
    change, says = SOUNDS[name]
    path = tmp_path / "x.wav"
    soundfile.write(path, change(make_voice(0, LENGTHS[length], RATE)).astype(np.float32), RATE, subtype="FLOAT")
    assert every_path_says(path, pocket) == says


@pytest.mark.parametrize("seconds, says", [(0.499, True), (0.5, False)])
def test_a_very_short_clip_is_called_short(make_voice, seconds: float, says: bool) -> None:
    warnings = load(make_voice(0, 1.0)[: int(seconds * 16_000)], sample_rate=16_000).info.warnings
    assert warnings == (("short: 0.499 s; a score of less than 0.5 s says little",) if says else ())


# ---- the same, cut anywhere


def described(samples: np.ndarray, rate: int) -> AudioInfo:
    return load(samples, sample_rate=rate).info


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seconds=st.floats(0.3, 14.0),
    window=st.floats(0.2, 12.0),
    rate=st.sampled_from([8_000, 11_025, 16_000, 44_100]),
    channels=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_windows_describe_the_whole_file(
    tmp_path: Path, make_voice, seconds: float, window: float, rate: int, channels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    gains = rng.uniform(-1, 1, channels)
    samples = (make_voice(seed, seconds, rate)[:, None] * gains).astype(np.float32)
    samples[: int(rng.integers(len(samples)))] *= float(rng.choice([0, 1e-4, 1]))
    path = tmp_path / "x.wav"
    soundfile.write(path, samples, rate, subtype="FLOAT")
    pieces = list(windows(str(path), 16_000, window))
    assert pieces[-1].info == load(path).info == described(samples if channels == 1 else samples.T, rate)


@settings(max_examples=40)
@given(
    active=st.floats(0.0, 0.3), level=st.floats(-95, -50), start=st.floats(0, 0.6), dc=st.sampled_from([0, 0.2]),
    rate=st.sampled_from([8_000, 16_000, 48_000]),
)  # fmt: skip
def test_less_than_a_tenth_of_a_second_above_the_floor_is_silence(
    active: float, level: float, start: float, dc: float, rate: int
) -> None:
    wave = np.zeros(rate)
    first, n = int(start * rate), int(active * rate)
    wave[first : first + n] = np.sqrt(2) * 10 ** (level / 20) * np.sin(np.arange(n) * 2 * np.pi * 1000 / rate)
    info = described(wave + dc, rate)
    if level < -81 or active < 0.06:
        assert info.silent
    elif level > -79 and active > 0.14:
        assert not info.silent
    assert info.silent == any(kind_of(warning) == "silence" for warning in info.warnings)


@settings(max_examples=40)
@given(gain=st.floats(-1, 1), others=st.integers(0, 4), seed=st.integers(0, 9))
def test_channels_cancel_where_half_of_what_independent_ones_give_is_lost(gain: float, others: int, seed: int) -> None:
    voice = 0.1 * np.random.default_rng(seed).standard_normal(16_000)
    samples = np.stack([voice, gain * voice, *(0 * voice for _ in range(others))])
    left = (1 + gain) ** 2 / (1 + gain**2)  # of the power of two independent channels
    warned = bool(described(samples, 16_000).cancelled)
    assert warned == (left < 0.5) or abs(left - 0.5) < 0.02


def test_independent_channels_do_not_cancel() -> None:
    rng = np.random.default_rng(0)
    for channels in (2, 3, 8):
        assert described(0.1 * rng.standard_normal((channels, 80_000)), 16_000).cancelled == ""


@pytest.mark.parametrize("where", [0.0, 0.5, 0.84])
def test_a_band_that_sounds_only_for_a_while_counts(tmp_path: Path, make_voice, where: float) -> None:
    from scipy.signal import butter, sosfilt

    noise = 0.05 * np.random.default_rng(0).standard_normal(60 * 16_000)
    low = sosfilt(butter(8, 2000, fs=16_000, output="sos"), noise)
    first = int(where * len(low))
    low[first : first + 9 * 16_000] = noise[first : first + 9 * 16_000]
    soundfile.write(tmp_path / "x.wav", low, 16_000, subtype="FLOAT")
    whole = load(tmp_path / "x.wav").info
    assert whole.bandwidth > 7_500 and whole == list(windows(str(tmp_path / "x.wav"), 8_000, 7.0))[-1].info


# ---- reference signals


def measured(clip: np.ndarray, reference: np.ndarray, tmp_path: Path, metric: str = "lsd"):
    for name, samples in (("clip", clip), ("reference", reference)):
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000, subtype="FLOAT")
    (row,) = [row for row in LABELLERS if metric in row.metrics]
    task = Task(str(tmp_path / "clip.wav"), str(tmp_path / "reference.wav"))
    return loop.measure(task, [(row, row.load(loop.Settings()))])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda x: np.stack([x, -x], 1),
            "the channels of the reference signal cancel (averaging the 2 channels leaves nothing",
        ),
        (lambda x: 0 * x, "the reference signal is silent (the level is digital zero). Give a reference signal that holds"),
        (lambda x: 0 * x + 0.2, "the reference signal is silent (a constant level of 0.2 (DC) and nothing else)"),
        (lambda x: x[:, None] * [1, -0.999], "the channels of the reference signal cancel (averaging the 2 channels leaves no"),
    ],
)
def test_a_reference_signal_without_speech_says_why(tmp_path: Path, make_voice, change: Samples, says: str) -> None:
    outcome = measured(make_voice(0, 1.0), change(make_voice(0, 1.0)), tmp_path)
    assert outcome.reasons["lsd"].startswith(says) and outcome.values == {}


def test_warnings_of_a_reference_signal_are_warnings_of_the_row(tmp_path: Path, make_voice) -> None:
    voice = make_voice(0, 1.0)
    outcome = measured(voice, voice[:, None] * [1, -0.7], tmp_path)
    assert "lsd" in outcome.values
    (warning,) = outcome.warnings
    assert kind_of(warning) == "channels cancel" and warning.endswith(" (reference signal)")


def test_a_clip_whose_channels_cancel_is_not_called_silent(tmp_path: Path, make_voice) -> None:
    def fail(signals: object) -> dict[str, float]:
        raise MeasureError("the clip is silent")

    soundfile.write(tmp_path / "a.wav", make_voice(0, 1.0)[:, None] * [1, -1], 16_000)
    row = next(row for row in LABELLERS if row.name == "lsd")
    row = type(row)("fake", ("utmos",), ("numpy",))
    outcome = loop.measure(Task(str(tmp_path / "a.wav"), None), [(row, fail)])
    assert outcome.reasons["utmos"].startswith("channels cancel: ") and "silent" not in str(outcome)


def test_header_of_no_size_in_an_extensible_wav(tmp_path: Path, make_voice, encode, pocket) -> None:
    path = tmp_path / "x.wav"
    content = no_size(encode("WAVEX PCM_16", make_voice(0, 2.0), 16_000))
    path.write_bytes(content[:4] + struct.pack("<I", 0) + content[8:])
    soundfile.write(tmp_path / "y.wav", make_voice(0, 2.0), 16_000)
    assert pocket.score(path).metrics == pocket.score(tmp_path / "y.wav").metrics
