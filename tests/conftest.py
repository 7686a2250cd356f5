"""Fixtures that many test files share: tiny speech-like audio, and the folder of reference data when it is there."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import settings

settings.register_profile("urgentmos", deadline=None)  # a busy machine is no failure
settings.load_profile("urgentmos")


def voice(seed: int, seconds: float, rate: int = 16_000) -> np.ndarray:
    """(T,) float32: a pulse-like harmonic tone with a syllable envelope and a little noise; enough voice for every metric."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate)) / rate
    f0 = 100 + 60 * rng.random() + 15 * np.sin(2 * np.pi * 0.7 * t)
    phase = 2 * np.pi * np.cumsum(f0) / rate
    envelope = np.maximum(0, np.sin(2 * np.pi * 2.5 * t + 6 * rng.random())) ** 0.7
    tone = sum(np.sin(k * phase + k) / k for k in range(1, 20))
    return (0.1 * envelope * tone + 0.003 * rng.standard_normal(len(t))).astype(np.float32)


def noisy(clean: np.ndarray, snr_db: float, seed: int = 0) -> np.ndarray:
    """(T,) float32: `clean` plus white noise at `snr_db`."""
    noise = np.random.default_rng(seed).standard_normal(len(clean))
    gain = np.sqrt(np.mean(clean**2) / np.mean(noise**2) / 10 ** (snr_db / 10))
    return (clean + gain * noise).astype(np.float32)


LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1", 16: "hexadecagonal"}  # FFmpeg's names, by the number of channels
WIDE = (("aac", 8), ("alac", 8))


def encoded(container: str, samples: np.ndarray, rate: int) -> bytes:
    """(T,) or (T, C) -> a file: "WAV PCM_16" by libsndfile, "av matroska libopus" by FFmpeg; skips what is not built in."""
    if not container.startswith("av "):
        form, subtype = container.split()
        file = io.BytesIO()
        endian = "BIG" if form == "RIFX" else None
        soundfile.write(file, samples, rate, format=form.replace("RIFX", "WAV"), subtype=subtype, endian=endian)
        return file.getvalue()
    av = pytest.importorskip("av")
    _, form, codec, *options = container.split()
    samples = samples.reshape(len(samples), -1)
    layout = "7.1(wide)" if (codec, samples.shape[1]) in WIDE else LAYOUTS[samples.shape[1]]
    file = io.BytesIO()
    try:
        with av.open(file, "w", format=form, options=dict(option.split("=") for option in options)) as out:
            stream = out.add_stream(codec, rate=rate, layout=layout)
            convert = av.AudioResampler(av.Codec(codec, "w").audio_formats[0], layout, rate)
            size = 4608 if codec == "flac" else 4096  # FFmpeg's FLAC takes frames of its own size only
            for start in range(0, len(samples), size):
                packed = np.ascontiguousarray((samples[start : start + size] * 32767).astype(np.int16).reshape(1, -1))
                frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
                frame.sample_rate, frame.pts = rate, start
                for part in convert.resample(frame):
                    out.mux(stream.encode(part))
            for part in filter(None, convert.resample(None)):
                out.mux(stream.encode(part))
            out.mux(stream.encode(None))
    except (av.FFmpegError, ValueError) as e:
        pytest.skip(f"{container} is not built in: {e}")
    return file.getvalue()


@pytest.fixture(scope="session")
def encode():
    return encoded


@pytest.fixture
def make_voice():
    return voice


@pytest.fixture
def add_noise():
    return noisy


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an UrgentMOS model with the encoder conv and random weights: two metrics, and it judges pairs."""
    torch = pytest.importorskip("torch")
    from urgentmos.models.folder import save
    from urgentmos.nets.encoder import EncoderConfig
    from urgentmos.nets.urgentmos import UrgentMos, UrgentMosConfig

    sizes = {"bands": 16, "channels": 4, "width": 16, "layers": 1, "heads": 2, "feedforward": 16, "kernel": 5}
    config = UrgentMosConfig(
        (EncoderConfig("conv", frozen=False, model=sizes),),
        {"naturalness": {"mos_overall": (1.0, 5.0), "utmos": (-np.inf, np.inf)}},
        preference="naturalness",
        dim=16,
        heads=2,
        feedforward=16,
        layers=1,
        preference_heads=2,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        net = UrgentMos(config)
        for weight in net.parameters():  # fresh heads are all alike: clips and orders would hardly differ
            weight.add_(0.2 * torch.randn_like(weight))
    return save(tmp_path_factory.mktemp("models") / "tiny", net, {"name": "tiny", "licence": "MIT", "trained_on": "nothing"})


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the checkout; tests that need its audio or reference vectors skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no shared/ beside the checkout")
    return folder
