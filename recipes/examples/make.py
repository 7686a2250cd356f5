"""Make `examples/`: sentences spoken by free synthesisers, mixed with noise, passed through real enhancers and codecs.

    python recipes/examples/make.py --out examples

Every clip is 16 kHz, mono, FLAC, as long as its clean signal and aligned with it. The same programs give the same bytes:
all noise is seeded, no program is allowed to dither. What must be installed is in `NEEDS`; if something is missing,
the script says how to install it and ends with 2. The committed set itself needs none of it.
"""

import argparse
import ctypes
import importlib.metadata
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr
from scipy import signal

HERE = Path(__file__).resolve().parent
RATE = 16_000
LEVEL_DB = -26.0  # RMS of every clean signal re full scale; leaves the peaks of speech plus noise unclipped
LEAD = RATE  # noise alone before the speech: enhancers learn it there; cut off afterwards
MARGIN = RATE // 10  # kept around the speech
MAX_DELAY = RATE // 8  # 125 ms, more than any codec here needs
SEED = 2026


class RecipeError(Exception):
    """Something outside this script is missing or failed; the sentence says what to do."""


@dataclass(frozen=True)
class Content:
    """One row of the plan: who speaks, in which noise, how loud the noise is."""

    voice: str
    noise: str
    snr_db: float


@dataclass(frozen=True)
class Mix:
    """One content with its LEAD: (T,) float64 each, speech + noise = noisy."""

    speech: np.ndarray
    noise: np.ndarray

    @property
    def noisy(self) -> np.ndarray:
        return self.speech + self.noise


@dataclass(frozen=True)
class System:
    """One column of the set. `process` takes a Mix and returns its output at 16 kHz, late by a constant delay."""

    process: Callable[[Mix], np.ndarray]
    about: str
    parametric: bool = False  # keeps no waveform, so its delay shows in the envelope only


# One sentence of sentences.txt each. Noises and SNRs are spread so that no voice meets one noise only.
PLAN = (
    Content("flite-slt", "pink", 5.0),
    Content("espeak-ng-en-gb", "babble", 7.5),
    Content("flite-rms", "traffic", 0.0),
    Content("festival-slt-hts", "hum", 2.5),
    Content("flite-awb", "babble", 10.0),
    Content("festival-ked", "pink", 7.5),
    Content("flite-slt", "traffic", 2.5),
    Content("espeak-ng-en-us-f3", "hum", 0.0),
    Content("flite-rms", "babble", 5.0),
    Content("festival-slt-hts", "pink", 0.0),
)


# Programs

NEEDS = {  # program: Debian package
    "flite": "flite",
    "espeak-ng": "espeak-ng",
    "festival": "festival",
    "text2wave": "festival",
    "ffmpeg": "ffmpeg",
    "sox": "sox",
    "opusenc": "opus-tools",
    "opusdec": "opus-tools",
    "c2enc": "codec2",
    "c2dec": "codec2",
}
NEEDS_FESTIVAL = {"cmu_us_slt_arctic_hts": "festvox-us-slt-hts", "ked_diphone": "festvox-kdlpc16k"}
NEEDS_PYTHON = ("noisereduce", "pyrnnoise")
LIBRARIES = ("libflite1", "libespeak-ng1", "libsox3", "libavfilter8", "libopus0", "libcodec2-1.0")  # do the work; recorded


def missing() -> tuple[list[str], list[str]]:
    """(Debian packages, Python packages) that this machine lacks."""
    debian = {package for program, package in NEEDS.items() if shutil.which(program) is None}
    if "festival" not in debian:
        voices = run("festival", "--batch", "(print (voice.list))").decode()
        debian |= {package for voice, package in NEEDS_FESTIVAL.items() if voice not in voices}
    else:
        debian |= set(NEEDS_FESTIVAL.values())
    return sorted(debian), [name for name in NEEDS_PYTHON if importlib.util.find_spec(name) is None]


def how_to_install(debian: Sequence[str], python: Sequence[str]) -> str:
    """The lines to type; empty if nothing is missing."""
    lines = []
    if debian:
        lines.append(f"apt-get install --no-install-recommends {' '.join(debian)}")
    if python:  # their declared dependencies (audiolab, matplotlib) are for parts that this recipe does not use
        lines.append(f"pip install joblib tqdm && pip install --no-deps {' '.join(python)}")
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """Versions of all that had a part in the bytes: Debian packages, Python packages, Python."""
    packages = sorted({*NEEDS.values(), *NEEDS_FESTIVAL.values(), *LIBRARIES})
    found = {f"debian/{name}": debian_version(name) for name in packages}
    for name in ("numpy", "scipy", "soundfile", "soxr", *NEEDS_PYTHON):
        found[f"pypi/{name}"] = importlib.metadata.version(name)
    return {**found, "libsndfile": soundfile.__libsndfile_version__, "python": platform.python_version()}


def debian_version(package: str) -> str:
    """Version of an installed Debian package, or 'unknown' on another system."""
    if shutil.which("dpkg-query") is None:
        return "unknown"
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 and done.stdout.strip() else "unknown"


def run(*command: str | Path, stdin: bytes = b"") -> bytes:
    """stdout of a program; RecipeError with its last words if it fails."""
    done = subprocess.run([str(part) for part in command], input=stdin, capture_output=True, check=False)
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
        raise RecipeError(f"`{command[0]}` failed: {' '.join(words)}. Run it by hand: {' '.join(map(str, command))}")
    return done.stdout


def through(wave: np.ndarray, steps: Callable[[Path, Path], None]) -> np.ndarray:
    """`wave` (T,) through programs that read and write 16-bit WAV files; `steps` gets the two paths."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before.wav"), Path(folder, "after.wav")
        soundfile.write(before, to_int16(wave), RATE)
        steps(before, after)
        return read(after)


def read(path: Path) -> np.ndarray:
    """(T,) float64 at RATE, channels averaged."""
    wave, rate = soundfile.read(path, always_2d=True)
    return np.asarray(soxr.resample(wave.mean(axis=1), rate, RATE))


def to_int16(wave: np.ndarray) -> np.ndarray:
    """(T,) in [-1, 1] rounded to 16 bits without dither, so that two runs agree."""
    return np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)


# Speech


def speak(voice: str, text: str) -> np.ndarray:
    """`text` by `voice`: (T,) float64 at RATE, trimmed to MARGIN, at LEVEL_DB."""
    with tempfile.TemporaryDirectory() as folder:
        words, spoken = Path(folder, "words.txt"), Path(folder, "spoken.wav")
        words.write_text(text + "\n")
        run(*VOICES[voice](words, spoken))
        return set_level(trim(read(spoken)))


VOICES: dict[str, Callable[[Path, Path], tuple[str | Path, ...]]] = {  # name: (text file, WAV file) -> command
    "flite-slt": lambda text, wav: ("flite", "-voice", "slt", "-f", text, "-o", wav),
    "flite-rms": lambda text, wav: ("flite", "-voice", "rms", "-f", text, "-o", wav),
    "flite-awb": lambda text, wav: ("flite", "-voice", "awb", "-f", text, "-o", wav),
    "festival-slt-hts": lambda text, wav: ("text2wave", "-eval", "(voice_cmu_us_slt_arctic_hts)", text, "-o", wav),
    "festival-ked": lambda text, wav: ("text2wave", "-eval", "(voice_ked_diphone)", text, "-o", wav),
    "espeak-ng-en-gb": lambda text, wav: ("espeak-ng", "-v", "en-gb", "-s", "160", "-f", text, "-w", wav),
    "espeak-ng-en-us-f3": lambda text, wav: ("espeak-ng", "-v", "en-us+f3", "-s", "160", "-f", text, "-w", wav),
}


def trim(wave: np.ndarray, floor_db: float = -45.0) -> np.ndarray:
    """(T,): from MARGIN before the first 10 ms above `floor_db` re the loudest, to MARGIN after the last; zeros if short."""
    step = RATE // 100
    power = np.square(wave[: len(wave) // step * step]).reshape(-1, step).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (floor_db / 10))
    padded = np.pad(wave, MARGIN)
    return padded[loud[0] * step : (loud[-1] + 1) * step + 2 * MARGIN]


def set_level(wave: np.ndarray, level_db: float = LEVEL_DB) -> np.ndarray:
    """(T,) scaled to an RMS of `level_db` re full scale."""
    return wave * (10 ** (level_db / 20) / np.sqrt(np.mean(np.square(wave))))


# Noise: each maker gives (samples,) float64 at any level


def shaped(samples: int, rng: np.random.Generator, exponent: float, corner_hz: float = 40.0) -> np.ndarray:
    """Gaussian noise with power falling as 1/f**exponent above `corner_hz` (1: pink, 2: brown), flat below."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.maximum(np.fft.rfftfreq(samples, 1 / RATE), corner_hz)
    return np.fft.irfft(spectrum * frequency ** (-exponent / 2), samples)


def hum(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Mains hum: 50 Hz and its harmonics, drifting slightly, over pink noise 15 dB below."""
    t = np.arange(samples) / RATE
    phase = 2 * np.pi * 50 * (t + 0.002 * np.sin(2 * np.pi * 0.3 * t + rng.uniform(0, 6)))
    tones = sum(rng.uniform(0.3, 1) / np.sqrt(k) * np.sin(k * phase + rng.uniform(0, 6)) for k in range(1, 40))
    return set_level(np.asarray(tones), 0) + set_level(shaped(samples, rng, 1), -15)


def traffic(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Vehicles that pass: brown noise, and brighter noise that swells about once a second and a half."""
    t = np.arange(samples) / RATE
    passes = np.arange(rng.uniform(0, 1), samples / RATE + 1, 1.5)
    swell = sum(np.exp(-0.5 * ((t - at) / 0.35) ** 2) for at in passes)
    return set_level(shaped(samples, rng, 2), 0) + set_level(shaped(samples, rng, 1, 300) * swell, -3)


def babble(samples: int, rng: np.random.Generator, others: Sequence[np.ndarray]) -> np.ndarray:
    """All `others` (other sentences) talking at once, each in a loop from a random place, at random levels within 6 dB."""
    voices = (np.resize(np.roll(wave, rng.integers(len(wave))), samples) * 10 ** rng.uniform(-0.3, 0) for wave in others)
    return np.asarray(sum(voices))


def make_noise(kind: str, samples: int, rng: np.random.Generator, others: Sequence[np.ndarray]) -> np.ndarray:
    """(samples,) of the noise called `kind`."""
    match kind:
        case "pink":
            return shaped(samples, rng, 1)
        case "hum":
            return hum(samples, rng)
        case "traffic":
            return traffic(samples, rng)
        case "babble":
            return babble(samples, rng, others)
        case _:
            raise ValueError(f"no noise is called {kind!r}")


def mix(clean: np.ndarray, noise: np.ndarray, snr_db: float, lead: int = LEAD) -> Mix:
    """`noise` (lead + T,) under `clean` (T,) from sample `lead` on; SNR is the ratio of mean powers over the T samples."""
    if len(noise) != lead + len(clean):
        raise ValueError(f"noise has {len(noise)} samples, {lead} + {len(clean)} are needed")
    gain = np.sqrt(np.mean(clean**2) / np.mean(noise[lead:] ** 2) / 10 ** (snr_db / 10))
    return Mix(np.concatenate([np.zeros(lead), clean]), gain * noise)


# Systems


def afftdn(mixed: Mix) -> np.ndarray:
    def steps(before: Path, after: Path) -> None:
        run("ffmpeg", "-v", "error", "-i", before, "-af", "afftdn=nr=20:nf=-35:tn=1", "-c:a", "pcm_s16le", "-bitexact", after)

    return through(mixed.noisy, steps)


def sox_noisered(mixed: Mix) -> np.ndarray:
    def steps(before: Path, after: Path) -> None:
        profile = before.with_name("profile")
        run("sox", before, "-n", "trim", "0", f"{LEAD}s", "noiseprof", profile)
        run("sox", "-D", before, after, "noisered", profile, "0.25")

    return through(mixed.noisy, steps)


def opus_6k(mixed: Mix) -> np.ndarray:
    def steps(before: Path, after: Path) -> None:
        coded = before.with_suffix(".opus")
        run("opusenc", "--quiet", "--bitrate", "6", "--speech", "--serial", "1", before, coded)
        run("opusdec", "--quiet", "--rate", str(RATE), "--no-dither", coded, after)

    return through(mixed.noisy, steps)


def codec2(mixed: Mix) -> np.ndarray:
    raw = to_int16(soxr.resample(mixed.noisy, RATE, 8000)).astype("<i2").tobytes()
    raw += bytes(2 * MAX_DELAY)  # else the last frames would stay in the coder
    decoded = run("c2dec", "2400", "-", "-", stdin=run("c2enc", "2400", "-", "-", stdin=raw))
    return np.asarray(soxr.resample(np.frombuffer(decoded, "<i2") / 32768, 8000, RATE))


def noisereduce(mixed: Mix) -> np.ndarray:
    from noisereduce import reduce_noise

    return np.asarray(reduce_noise(mixed.noisy, RATE, stationary=False, n_jobs=1))


@cache
def rnnoise_library() -> ctypes.CDLL:
    """The C library inside the package pyrnnoise. Its Python part would need an audio stack that we have no use for."""
    spec = importlib.util.find_spec("pyrnnoise")
    folder = Path(str(spec.origin)).parent if spec else Path()
    files = sorted(path for end in ("so", "dylib", "dll") for path in folder.glob(f"*rnnoise.{end}"))
    if not files:
        raise RecipeError(f"pyrnnoise holds no RNNoise library for this system. {how_to_install([], ['pyrnnoise'])}")
    library = ctypes.CDLL(str(files[0]))
    library.rnnoise_create.restype = ctypes.c_void_p
    library.rnnoise_create.argtypes = [ctypes.c_void_p]
    library.rnnoise_destroy.argtypes = [ctypes.c_void_p]
    library.rnnoise_process_frame.restype = ctypes.c_float
    library.rnnoise_process_frame.argtypes = [ctypes.c_void_p] * 3
    return library


def rnnoise(mixed: Mix) -> np.ndarray:
    library, rate = rnnoise_library(), 48_000
    size = library.rnnoise_get_frame_size()
    wave = soxr.resample(mixed.noisy, RATE, rate) * 32768  # the network was trained on the range of 16-bit samples
    frames = np.pad(wave, (0, -len(wave) % size + 4 * size)).astype(np.float32).reshape(-1, size)
    state = library.rnnoise_create(None)
    try:
        for frame in frames:
            library.rnnoise_process_frame(state, frame.ctypes.data, frame.ctypes.data)
    finally:
        library.rnnoise_destroy(state)
    return np.asarray(soxr.resample(frames.reshape(-1).astype(np.float64) / 32768, rate, RATE))


def wiener(mixed: Mix) -> np.ndarray:
    """Wiener gain (Scalart and Filho 1996) on the decision-directed SNR of Ephraim and Malah (1984).

    The noise power starts as the mean over the lead and follows, slowly, the bins that look like noise.
    """
    spectrum = stft(mixed.noisy)  # (257, F)
    power = np.abs(spectrum) ** 2
    noise = power[:, : LEAD // HOP].mean(axis=1) + 1e-12
    previous = np.zeros_like(noise)
    for frame in range(power.shape[1]):
        posterior = power[:, frame] / noise
        prior = 0.98 * previous / noise + 0.02 * np.maximum(posterior - 1, 0)
        gain = np.maximum(prior / (1 + prior), 0.1)
        previous = gain**2 * power[:, frame]
        spectrum[:, frame] *= gain
        noise = np.where(posterior < 3, 0.95 * noise + 0.05 * power[:, frame], noise)
    return istft(spectrum, len(mixed.noise))


def oracle_mask(mixed: Mix) -> np.ndarray:
    """Ideal ratio mask: knows speech and noise apart, so no real system is expected above it."""
    speech, noise = (np.abs(stft(wave)) ** 2 for wave in (mixed.speech, mixed.noise))
    return istft(stft(mixed.noisy) * np.sqrt(speech / (speech + noise + 1e-12)), len(mixed.noise))


HOP = 128  # 8 ms; windows of 32 ms


def stft(wave: np.ndarray) -> np.ndarray:
    """(T,) -> (257, F) complex."""
    return np.asarray(signal.stft(wave, RATE, nperseg=4 * HOP, noverlap=3 * HOP)[2])


def istft(spectrum: np.ndarray, samples: int) -> np.ndarray:
    """(257, F) complex -> (samples,)."""
    return np.asarray(signal.istft(spectrum, RATE, nperseg=4 * HOP, noverlap=3 * HOP)[1])[:samples]


SYSTEMS = {
    "noisy": System(lambda mixed: mixed.noisy, "no processing"),
    "afftdn": System(afftdn, "ffmpeg afftdn, spectral denoiser that tracks the noise (20 dB)"),
    "sox_noisered": System(sox_noisered, "SoX noisered (0.25) with the noise profile of the second before the speech"),
    "noisereduce": System(noisereduce, "noisereduce, non-stationary spectral gate"),
    "rnnoise": System(rnnoise, "RNNoise (Valin 2018), recurrent network with a pitch filter, at 48 kHz"),
    "wiener": System(wiener, "Wiener filter with decision-directed SNR, written for this recipe"),
    "opus_6k": System(opus_6k, "the noisy signal through Opus at 6 kb/s"),
    "codec2": System(codec2, "the noisy signal through Codec2 at 2400 b/s, 8 kHz", parametric=True),
    "oracle_mask": System(oracle_mask, "ideal ratio mask, computed with the clean signal: an upper bound"),
}


# Alignment


def envelope(wave: np.ndarray) -> np.ndarray:
    """(T,) -> (T,): magnitude smoothed over about 5 ms without delay, mean removed."""
    smooth = signal.sosfiltfilt(signal.butter(2, 60, fs=RATE, output="sos"), np.abs(wave))
    return np.asarray(smooth - smooth.mean())


def delay(source: np.ndarray, output: np.ndarray, max_delay: int = MAX_DELAY) -> int:
    """Samples by which `output` is late (negative: early), at the peak of the cross-correlation within +-max_delay."""
    correlation = signal.correlate(output, source, mode="full", method="fft")
    lags = signal.correlation_lags(len(output), len(source), mode="full")
    near = np.abs(lags) <= max_delay
    return int(lags[near][np.argmax(correlation[near])])


def shift(wave: np.ndarray, late: int, samples: int) -> np.ndarray:
    """`wave` moved `late` samples to the left and cut or zero-padded to (samples,)."""
    moved = wave[late:] if late >= 0 else np.pad(wave, (-late, 0))
    return np.pad(moved, (0, max(0, samples - len(moved))))[:samples]


def system_delay(system: System, sources: Sequence[np.ndarray], outputs: Sequence[np.ndarray], name: str) -> int:
    """The constant delay of a system: median over the contents. RecipeError if the contents disagree by over 2 ms."""
    view = envelope if system.parametric else np.asarray
    found = [delay(view(source), view(output)) for source, output in zip(sources, outputs, strict=True)]
    middle = int(np.median(found))
    allowed = RATE // (100 if system.parametric else 500)
    if max(abs(late - middle) for late in found) > allowed:
        raise RecipeError(f"{name} has no constant delay: {found} samples. Look at its options in {Path(__file__).name}")
    return middle


# The set


def sentences() -> list[str]:
    """One sentence a line, as many as PLAN has rows."""
    lines = (HERE / "sentences.txt").read_text().splitlines()
    if len(lines) != len(PLAN):
        raise RecipeError(f"sentences.txt has {len(lines)} lines and PLAN {len(PLAN)} rows. Make them agree")
    return lines


def utterance(index: int) -> str:
    """0 -> 'utt01'."""
    return f"utt{index + 1:02d}"


def mixes(texts: Sequence[str]) -> list[Mix]:
    """Every row of PLAN spoken and mixed."""
    spoken = [speak(row.voice, text) for row, text in zip(PLAN, texts, strict=True)]
    made = []
    for index, (row, clean) in enumerate(zip(PLAN, spoken, strict=True)):
        others = [wave for other, wave in zip(PLAN, spoken, strict=True) if other.voice != row.voice]
        noise = make_noise(row.noise, LEAD + len(clean), np.random.default_rng([SEED, index]), others)
        made.append(mix(clean, noise, row.snr_db))
    return made


def save(path: Path, wave: np.ndarray) -> None:
    """(T,) as 16-bit FLAC at RATE; RecipeError if it would clip."""
    if np.abs(wave).max() > 1:
        raise RecipeError(f"{path.name} of {path.parent.name} would clip. Lower LEVEL_DB")
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, to_int16(wave), RATE, format="FLAC", subtype="PCM_16")


def manifest_row(name: str, index: int, text: str, samples: int) -> dict[str, object]:
    """One row of the manifest; paths relative to it."""
    row, utt = PLAN[index], utterance(index)
    return {
        "uid": f"{name}:{utt}",
        "audio_path": f"systems/{name}/{utt}.flac",
        "system_id": name,
        "reference_id": utt,
        "corpus": "examples",
        "duration": samples / RATE,
        "reference_path": f"clean/{utt}.flac",
        "metrics": {},
        "meta": {"text": text, "voice": row.voice, "noise": row.noise, "snr_db": row.snr_db, "system": SYSTEMS[name].about},
    }


def readme(texts: Sequence[str], delays: dict[str, int]) -> str:
    """The README of the set, from the tables above, so that it cannot drift from the files."""
    systems = "\n".join(f"| `{name}` | {SYSTEMS[name].about} | {1000 * late / RATE:.1f} |" for name, late in delays.items())
    contents = "\n".join(
        f"| {utterance(i)} | {text} | {row.voice} | {row.noise} | {row.snr_db:g} |"
        for i, (row, text) in enumerate(zip(PLAN, texts, strict=True))
    )
    return README.format(n=len(PLAN), s=len(delays), systems=systems, contents=contents)


README = """# Examples

A small homologous set: the same {n} noisy sentences through {s} systems, with the clean signals. Rank it:

```
urgentmos rank examples/systems
```

- `systems/SYSTEM/uttNN.flac`: the outputs, 16 kHz mono, as long as the clean signal and aligned with it
- `clean/uttNN.flac`: the clean reference signals, not a system
- `manifest.jsonl`: one row a clip, with voice, noise and SNR under `meta`
- `versions.json`: the versions of the programs that made the set

All speech is synthetic, all noise computed. To measure instead of predict:
`urgentmos label examples/manifest.jsonl --metrics pesq,estoi,dnsmos_ovrl`.

| system | what it is | its delay, removed (ms) |
|---|---|---|
{systems}

| content | sentence | voice | noise | SNR (dB) |
|---|---|---|---|---|
{contents}

## How it was made

`python recipes/examples/make.py --out examples` wrote every file here, this one too; `recipes/examples/README.md` tells
how and what it needs. Each enhancer hears one second of noise before the speech; that second is cut off afterwards.
`codec2` keeps no waveform (ESTOI and PESQ of it are low for that reason too); `opus_6k` and `codec2` are narrow-band.

## Licence

CC0 1.0: to the extent possible under law, the authors of urgentmos waive all rights to the files in this folder.
https://creativecommons.org/publicdomain/zero/1.0/
"""


def expected_files() -> set[str]:
    """All that the recipe writes, relative to its output folder."""
    folders = ["clean", *(f"systems/{name}" for name in SYSTEMS)]
    audio = {f"{folder}/{utterance(i)}.flac" for folder in folders for i in range(len(PLAN))}
    return audio | {"README.md", "manifest.jsonl", "versions.json"}


def make(out: Path) -> list[str]:
    """Write the set into `out` and return what there is to say about each system. RecipeError if `out` holds other files."""
    present = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    if foreign := sorted(present - expected_files()):
        raise RecipeError(f"{out} holds files that are not of this set, such as {foreign[0]}. Choose an empty folder")
    texts = sentences()
    made = mixes(texts)
    lengths = [len(one.speech) - LEAD for one in made]
    for index, one in enumerate(made):
        save(out / "clean" / f"{utterance(index)}.flac", one.speech[LEAD:])
    rows, delays = [], {}
    for name, system in SYSTEMS.items():
        outputs = [system.process(one) for one in made]
        delays[name] = system_delay(system, [one.noisy for one in made], outputs, name)
        for index, output in enumerate(outputs):
            save(out / "systems" / name / f"{utterance(index)}.flac", shift(output, delays[name] + LEAD, lengths[index]))
            rows.append(manifest_row(name, index, texts[index], lengths[index]))
    (out / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (out / "versions.json").write_text(json.dumps(versions(), indent=2) + "\n")
    (out / "README.md").write_text(readme(texts, delays))
    return [f"{name}: {len(made)} clips, delay {late} samples removed" for name, late in delays.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 the set is made, 2 something is missing or failed."""
    parser = argparse.ArgumentParser(description="Make the example set of urgentmos.")
    parser.add_argument("--out", type=Path, default=Path("examples"), metavar="DIR", help="where to (default: examples)")
    out: Path = parser.parse_args(arguments).out
    try:
        if lines := how_to_install(*missing()):
            raise RecipeError(f"programs are missing. Install them and run this again:\n{lines}")
        print("\n".join(make(out)), file=sys.stderr)
    except RecipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
