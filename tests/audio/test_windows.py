"""Windows of a recording add up to it, whichever way it is read; two hours cost no more memory than half a minute."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from urgentmos.audio import description as describing
from urgentmos.audio import samples as audio
from urgentmos.audio.samples import load
from urgentmos.audio.windows import READ_AHEAD, AudioReader, OpenedAudio, matched, merge, repeated, split, windows
from urgentmos.errors import AudioError, UsageError

RATE = 16_000


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> str:
    soundfile.write(path, samples, rate, subtype="FLOAT" if path.suffix == ".wav" else "PCM_16")
    return str(path)


def from_a_pipe(path: str) -> str:
    """The same FLAC with the header that an encoder writes when it does not know the length."""
    content = bytearray(Path(path).read_bytes())
    assert content[:4] == b"fLaC"
    content[21] &= 0xF0  # the 36 bits of STREAMINFO's number of samples
    content[22:26] = bytes(4)
    Path(path).write_bytes(content)
    return path


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=st.integers(100, 40_000),
    rate=st.sampled_from([8_000, 16_000, 22_050, 44_100]),
    channels=st.integers(1, 3),
    seconds=st.sampled_from([0.1, 0.3, 1.0, 30.0]),
    count=st.none() | st.integers(1, 9),
)
def test_windows_add_up_to_the_recording(
    tmp_path: Path, n: int, rate: int, channels: int, seconds: float, count: int | None
) -> None:
    samples = 0.1 * np.random.default_rng(n).standard_normal((n, channels)).astype(np.float32)
    path = write(tmp_path / "x.wav", samples, rate)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(describing, "SECTIONS", 1)
        pieces = list(windows(path, RATE, seconds, count))
    whole = load(path, RATE)
    lengths = [len(piece.wave) for piece in pieces]
    together = np.concatenate([piece.wave for piece in pieces])
    assert abs(len(together) - len(whole.wave)) <= 1
    common = min(len(together), len(whole.wave))
    np.testing.assert_allclose(together[:common], whole.wave[:common], atol=2e-4)
    expected = count or int(np.ceil(n / (seconds * rate)))
    assert len(pieces) == expected
    assert max(lengths) - min(lengths) <= 2 and all(piece.wave.flags.c_contiguous for piece in pieces)
    if count is None:
        assert max(lengths) <= seconds * RATE + 1
    about = merge([piece.info for piece in pieces])
    assert (about.rate, about.channels) == (rate, channels) and about.peak == pytest.approx(whole.info.peak, rel=1e-5)


@given(n=st.integers(1, 5000), seconds=st.sampled_from([0.01, 0.05, 1.0]), count=st.none() | st.integers(1, 7))
def test_windows_in_memory_add_up(n: int, seconds: float, count: int | None) -> None:
    audio = load(np.arange(n, dtype=np.float32) / n, sample_rate=RATE)
    pieces = list(split(audio, seconds, count))
    np.testing.assert_array_equal(np.concatenate([piece.wave for piece in pieces]), audio.wave)
    assert count is None or len(pieces) == count
    assert count is not None or max(len(piece.wave) for piece in pieces) <= seconds * RATE


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_a_stream_tells_of_itself_what_a_file_in_one_piece_does(suffix: str, tmp_path: Path, make_voice) -> None:
    path = tmp_path / f"x{suffix}"
    soundfile.write(path, np.clip(make_voice(0, 3.0, 44_100) * 4, -0.2, 0.2), 44_100)
    whole, about = load(path).info, merge([piece.info for piece in windows(str(path), RATE, 0.8)])
    assert about.rms == pytest.approx(whole.rms, rel=1e-3) and about.peak == pytest.approx(whole.peak, rel=1e-3)
    assert about.clipped_share == pytest.approx(whole.clipped_share, rel=0.05) and about.bandwidth >= whole.bandwidth
    assert [said.split(":")[0] for said in about.warnings] == [said.split(":")[0] for said in whole.warnings]


def test_a_flac_from_a_pipe_is_read_to_its_end(tmp_path: Path, make_voice) -> None:
    pytest.importorskip("av")
    path = from_a_pipe(write(tmp_path / "x.flac", make_voice(0, 2.0)))
    assert soundfile.info(path).frames > 2**60, "libsndfile does not know its length"
    pieces = list(windows(path, RATE, 0.9))
    assert [len(piece.wave) for piece in pieces] == [10666, 10667, 10667]
    heard = AudioReader("m", RATE, 0.9, 100).open(path)
    assert (heard.n_windows, heard.seconds) == (3, 2.0)


def test_a_file_that_ends_early_is_refused_at_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "x.flac", 0.3 * np.random.default_rng(0).standard_normal(3 * RATE))
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(AudioError, match=r"cut off|cannot be decoded"):
        list(windows(path, RATE, 0.5))


def test_a_sample_that_is_no_number_is_found_in_any_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describing, "SECTIONS", 1)
    samples = np.full(3 * RATE, 0.1, np.float32)
    samples[[len(samples) // 2, -5]] = np.inf
    found = windows(write(tmp_path / "x.wav", samples), RATE, 0.5)
    with pytest.raises(AudioError, match="holds 2 samples that are not finite"):
        for piece in found:
            assert np.isfinite(piece.wave).all()


# ---- opening


def test_a_recording_is_decoded_at_once_only_if_it_fits_into_a_window(tmp_path: Path, make_voice) -> None:
    reader = AudioReader("m", RATE, 1.0, 800)
    short, long = (write(tmp_path / f"{s}.wav", make_voice(0, s)) for s in (0.9, 2.5))
    heard = reader.open(short)
    assert heard.whole is not None and (heard.n_windows, heard.seconds, heard.error) == (1, 0.9, None)
    heard = reader.open(long)
    assert heard.whole is None and (heard.n_windows, heard.seconds) == (3, 2.5)
    assert [len(p.wave) for p in reader.pieces(heard)] == [
        len(p.wave) for p in reader.pieces(reader.open(load(long).wave, RATE))
    ]
    assert len(list(reader.pieces(heard, 5))) == 5
    assert "0.02 s is shorter than the 0.05 s that m needs" in (reader.open(np.ones(320), RATE).error or "")
    with pytest.raises(UsageError):
        reader.open(np.ones(3200))
    with pytest.raises(AudioError, match="does not exist"):
        reader.open("missing.wav")
    assert "does not exist" in (reader.try_open("missing.wav").error or "")


def test_what_is_decoded_ahead_comes_in_order(tmp_path: Path, make_voice, monkeypatch: pytest.MonkeyPatch) -> None:
    from time import sleep

    delays = np.random.default_rng(0).uniform(0, 0.004, 60)
    opened: list[str] = []

    def slow(self: AudioReader, path: str) -> OpenedAudio:
        sleep(delays[int(path)])
        opened.append(path)
        return OpenedAudio(path)

    monkeypatch.setattr(AudioReader, "try_open", slow)
    found: list[tuple[int, str]] = []
    for key, heard in AudioReader("m", RATE, 1.0, 800).ahead(map(str, range(60)), range(60)):
        found.append((key, heard.name))
        assert len(opened) <= len(found) + READ_AHEAD + 1, "memory is bounded"
    assert found == [(i, str(i)) for i in range(60)]


@given(n=st.integers(1, 12), more=st.integers(0, 30))
def test_stretching_repeats_each_item_by_its_share(n: int, more: int) -> None:
    to = n + more
    assert list(repeated(iter(range(n)), n, to)) == [i * n // to for i in range(to)]


def test_windows_are_matched_unless_they_would_be_too_short() -> None:
    assert matched(OpenedAudio("a", seconds=29.9), 2) == 2
    assert matched(OpenedAudio("a", seconds=3.0), 4) == 1
    assert matched(OpenedAudio("a", seconds=600.0, n_windows=20), 20) == 20


# ---- memory


MEASURED = """
import json, resource, sys
from urgentmos.audio.windows import AudioReader
reader = AudioReader("m", 16000, 30.0, 800)
n = 0
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    for piece in reader.pieces(reader.open(path)):
        n += len(piece.wave)
print(json.dumps([n, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024]))
"""


def quiet_noise(path: Path, minutes: int) -> str:
    """A FLAC made block by block: 8 kHz and quiet, so that it takes a second to write and to read."""
    block = (0.001 * np.random.default_rng(0).standard_normal(60 * 8000)).astype(np.float32)
    with soundfile.SoundFile(path, "w", 8000, 1, subtype="PCM_16") as f:
        for _ in range(minutes):
            f.write(block)
    return str(path)


def test_two_hours_are_read_in_constant_memory(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, quiet_noise(tmp_path / "x.flac", 120)], capture_output=True, text=True, timeout=120
    )
    n, megabytes = json.loads(done.stdout)
    assert n == pytest.approx(7200 * RATE, abs=2)
    assert megabytes < 80, "the samples alone would be 440 MB"


NETWORK = """
import json, resource, sys
import torch
from urgentmos.judges.torch import backend_of
from urgentmos.nets.encoder import EncoderConfig
from urgentmos.nets.urgentmos import UrgentMos, UrgentMosConfig
from urgentmos.judges.network import Network

torch.set_num_threads(1)
torch.manual_seed(0)
conv = EncoderConfig(kind="conv", model={"bands": 20, "channels": 4, "width": 8, "layers": 1, "heads": 1, "feedforward": 8})
sizes = {"dim": 8, "heads": 1, "feedforward": 8, "layers": 1, "preference_heads": 1}
config = UrgentMosConfig((conv,), {"naturalness": {"mos_overall": (1.0, 5.0)}}, preference="naturalness", **sizes)
judge = backend_of(UrgentMos(config), "cpu")
judge.window_seconds = 10.0
model = Network(judge, "m", "1", judge.metrics, ranks_by="mos_overall")
def grown(work):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = work()
    return found, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
model.score(torch.randn(320000).numpy(), sample_rate=16000)
score, first = grown(lambda: model.score(sys.argv[1]))
verdict, second = grown(lambda: model.compare(sys.argv[1], sys.argv[1]))
print(json.dumps([score.error, score.clip.duration, first, verdict.verdict, verdict.cmos, second]))
"""


def test_half_an_hour_is_scored_and_compared_in_constant_memory(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = quiet_noise(tmp_path / "x.flac", 30)
    done = subprocess.run([sys.executable, "-c", NETWORK, path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    error, duration, scoring, verdict, cmos, comparing = json.loads(done.stdout)
    assert (error, duration, verdict, cmos) == (None, 1800.0, "tie", 0.0)
    assert scoring < 50 and comparing < 50, "the samples alone would be 110 MB"


def test_a_recording_of_many_channels_is_described_the_same_a_second_at_a_time(
    tmp_path: Path, make_voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    waves = [make_voice(seed, 21.3) for seed in range(3)]
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack(waves, axis=1), 16_000, subtype="FLOAT")
    at_once = load(path)
    monkeypatch.setattr(audio, "HELD", 1)
    by_seconds = load(path)
    np.testing.assert_array_equal(by_seconds.wave, at_once.wave)
    assert by_seconds.info == at_once.info
