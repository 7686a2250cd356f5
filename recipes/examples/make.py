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
from typing import Literal

import numpy as np
import numpy.typing as npt
import soundfile
from example_signals import (
    LEAD,
    MAX_DELAY,
    RATE,
    Mix,
    Wave,
    delay,
    make_noise,
    mix,
    resample,
    set_level,
    shift,
    spectral_delay,
    trim,
    wiener,
)

HERE = Path(__file__).resolve().parent
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
class System:
    """One column of the set. `process` takes a signal with its LEAD and returns its output, late by a constant delay."""

    process: Callable[[Wave], Wave]
    about: str
    hears: Literal["noisy", "clean"] = "noisy"
    parametric: bool = False  # keeps no waveform, so its delay shows in the spectrogram only

    def source(self, mixed: Mix) -> Wave:
        """What the system is given of a content."""
        return mixed.noisy if self.hears == "noisy" else mixed.speech


# One sentence of sentences.txt each. Noises and SNRs are spread so that no voice meets one noise only.
PLAN = (
    Content("flite-slt", "pink", 5.0),
    Content("espeak-ng-en-gb", "babble", 10.0),
    Content("flite-rms", "traffic", 2.5),
    Content("festival-slt-hts", "hum", 5.0),
    Content("flite-awb", "babble", 7.5),
    Content("espeak-ng-scotland", "pink", 10.0),
    Content("flite-slt", "traffic", 5.0),
    Content("espeak-ng-en-us-f3", "hum", 2.5),
    Content("flite-rms", "babble", 7.5),
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
NEEDS_FESTIVAL = {"cmu_us_slt_arctic_hts": "festvox-us-slt-hts"}
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


def through(wave: Wave, steps: Callable[[Path, Path], None]) -> Wave:
    """`wave` (T,) through programs that read and write 16-bit WAV files; `steps` gets the two paths."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before.wav"), Path(folder, "after.wav")
        soundfile.write(before, to_int16(wave), RATE)
        steps(before, after)
        return read(after)


def read(path: Path) -> Wave:
    """(T,) float64 at RATE, channels averaged."""
    wave, rate = soundfile.read(path, always_2d=True)
    return resample(wave.mean(axis=1), rate, RATE)


def to_int16(wave: Wave) -> npt.NDArray[np.int16]:
    """(T,) in [-1, 1] rounded to 16 bits without dither, so that two runs agree."""
    return np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)


# Speech


def speak(voice: str, text: str) -> Wave:
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
    "espeak-ng-en-gb": lambda text, wav: ("espeak-ng", "-v", "en-gb", "-s", "160", "-f", text, "-w", wav),
    "espeak-ng-scotland": lambda text, wav: ("espeak-ng", "-v", "en-gb-scotland", "-s", "160", "-f", text, "-w", wav),
    "espeak-ng-en-us-f3": lambda text, wav: ("espeak-ng", "-v", "en-us+f3", "-s", "160", "-f", text, "-w", wav),
}


# Systems: each takes and gives (T,) with the LEAD; the output may be longer and late


def afftdn(wave: Wave) -> Wave:
    def steps(before: Path, after: Path) -> None:
        run("ffmpeg", "-v", "error", "-i", before, "-af", "afftdn=nr=20:nf=-25", "-c:a", "pcm_s16le", "-bitexact", after)

    return through(wave, steps)


def sox_noisered(wave: Wave) -> Wave:
    def steps(before: Path, after: Path) -> None:
        profile = before.with_name("profile")
        run("sox", before, "-n", "trim", "0", f"{LEAD}s", "noiseprof", profile)
        run("sox", "-D", before, after, "noisered", profile, "0.25")

    return through(wave, steps)


def opus_6k(wave: Wave) -> Wave:
    def steps(before: Path, after: Path) -> None:
        coded = before.with_suffix(".opus")
        run("opusenc", "--quiet", "--bitrate", "6", "--speech", "--serial", "1", before, coded)
        run("opusdec", "--quiet", "--rate", str(RATE), "--no-dither", coded, after)

    return through(wave, steps)


def codec2(wave: Wave) -> Wave:
    raw = to_int16(resample(wave, RATE, 8000)).astype("<i2").tobytes()
    raw += bytes(2 * MAX_DELAY)  # else the last frames would stay in the coder
    decoded = run("c2dec", "2400", "-", "-", stdin=run("c2enc", "2400", "-", "-", stdin=raw))
    return resample(np.frombuffer(decoded, "<i2") / 32768, 8000, RATE)


def noisereduce(wave: Wave) -> Wave:
    from noisereduce import reduce_noise

    return np.asarray(reduce_noise(wave, RATE, stationary=False, n_jobs=1))


@cache
def rnnoise_library() -> ctypes.CDLL:
    """The C library inside the package pyrnnoise, whose Python part needs an audio stack that we have no use for."""
    spec = importlib.util.find_spec("pyrnnoise")
    folder = Path(str(spec.origin)).parent if spec else HERE
    ending = {"Darwin": "dylib", "Windows": "dll"}.get(platform.system(), "so")
    files = sorted(folder.glob(f"*rnnoise.{ending}"))
    if not files:
        raise RecipeError(f"no RNNoise library for {platform.system()} in {folder}. {how_to_install([], ['pyrnnoise'])}")
    library = ctypes.CDLL(str(files[0]))
    library.rnnoise_create.restype = ctypes.c_void_p
    library.rnnoise_create.argtypes = [ctypes.c_void_p]
    library.rnnoise_destroy.argtypes = [ctypes.c_void_p]
    library.rnnoise_process_frame.restype = ctypes.c_float
    library.rnnoise_process_frame.argtypes = [ctypes.c_void_p] * 3
    return library


def rnnoise(wave: Wave) -> Wave:
    library, rate = rnnoise_library(), 48_000
    size = library.rnnoise_get_frame_size()
    scaled = resample(wave, RATE, rate) * 32768  # the network was trained on the range of 16-bit samples
    frames = np.pad(scaled, (0, -len(scaled) % size + 4 * size)).astype(np.float32).reshape(-1, size)
    state = library.rnnoise_create(None)
    try:
        for frame in frames:
            library.rnnoise_process_frame(state, frame.ctypes.data, frame.ctypes.data)
    finally:
        library.rnnoise_destroy(state)
    return resample(frames.reshape(-1) / np.float64(32768), rate, RATE)


SYSTEMS = {
    "noisy": System(lambda wave: wave, "no processing"),
    "afftdn": System(afftdn, "ffmpeg afftdn, spectral denoiser: 20 dB at most, noise floor set to -25 dB"),
    "sox_noisered": System(sox_noisered, "SoX noisered (0.25) with the noise profile of the second before the speech"),
    "noisereduce": System(noisereduce, "noisereduce, non-stationary spectral gate"),
    "rnnoise": System(rnnoise, "RNNoise (Valin 2018), recurrent network, run at 48 kHz"),
    "wiener": System(wiener, "Wiener filter with decision-directed SNR, written for this recipe"),
    "codec2": System(codec2, "the noisy signal through Codec2 at 2400 b/s, 8 kHz", parametric=True),
    "clean_opus_6k": System(
        opus_6k, "the clean signal through Opus at 6 kb/s: what noise-free low bit rate costs", hears="clean"
    ),
}


# Alignment


def common_delay(name: str, found: Sequence[int], tolerance: int) -> int:
    """The constant delay of a system, in samples: the median. RecipeError if a content is over `tolerance` away from it."""
    middle = int(np.median(found))
    if max(abs(late - middle) for late in found) > tolerance:
        raise RecipeError(f"{name} has no constant delay: {list(found)} samples. Look at its options in {Path(__file__).name}")
    return middle


def system_delay(name: str, made: Sequence[Mix], outputs: Sequence[Wave]) -> int:
    """The constant delay of SYSTEMS[name], from what it made of all contents."""
    system = SYSTEMS[name]
    if system.parametric:  # a vocoder mangles noise, so clean speech tells; it sets its pulses anew, so less exactly
        found = [spectral_delay(one.speech, system.process(one.speech)) for one in made]
        return common_delay(name, found, tolerance=RATE // 250)
    found = [delay(system.source(one), output) for one, output in zip(made, outputs, strict=True)]
    return common_delay(name, found, tolerance=RATE // 1000)


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


def save(path: Path, wave: Wave) -> None:
    """(T,) as 16-bit FLAC at RATE; RecipeError if it would clip."""
    if np.abs(wave).max() > 1:
        raise RecipeError(f"{path.name} of {path.parent.name} would clip. Lower LEVEL_DB")
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, to_int16(wave), RATE, format="FLAC", subtype="PCM_16", compression_level=1.0)


def manifest_row(name: str, index: int, text: str, samples: int) -> dict[str, object]:
    """One row of the manifest; paths relative to it."""
    row, utt, system = PLAN[index], utterance(index), SYSTEMS[name]
    mixture = {"voice": row.voice, "noise": row.noise, "snr_db": row.snr_db}
    return {
        "uid": f"{name}:{utt}",
        "audio_path": f"systems/{name}/{utt}.flac",
        "system_id": name,
        "reference_id": utt,
        "corpus": "examples",
        "duration": samples / RATE,
        "reference_path": f"clean/{utt}.flac",
        "metrics": {},
        "meta": {"text": text, **mixture, "system": system.about, "system_input": system.hears},
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

All speech is synthetic (formant and statistical voices, no recorded segments), all noise computed. To measure
instead of predict: `urgentmos label examples/manifest.jsonl --metrics pesq,estoi,dnsmos_ovrl`.

| system | what it is | its delay, removed (ms) |
|---|---|---|
{systems}

| content | sentence | voice | noise | SNR (dB) |
|---|---|---|---|---|
{contents}

## How it was made

`python recipes/examples/make.py --out examples` wrote every file here, this one too; `recipes/examples/README.md` tells
how and what it needs. Each enhancer hears one second of noise before the speech; that second is cut off afterwards.
`codec2` makes a new waveform from parameters, so intrusive metrics judge it hard; it and `clean_opus_6k` are narrow-band.

## Licence

CC0 1.0: to the extent possible under law, the authors of urgentmos waive all rights to the files in this folder.
https://creativecommons.org/publicdomain/zero/1.0/
"""


def expected_files() -> set[str]:
    """All that the recipe writes, relative to its output folder."""
    folders = ["clean", *(f"systems/{name}" for name in SYSTEMS)]
    audio = {f"{folder}/{utterance(i)}.flac" for folder in folders for i in range(len(PLAN))}
    return audio | {"README.md", "manifest.jsonl", "versions.json"}


def aligned_outputs(made: Sequence[Mix]) -> tuple[dict[str, list[Wave]], dict[str, int]]:
    """({system: one (T,) a content, without LEAD and delay, as long as the clean signal}, {system: its delay in samples})."""
    outputs, delays = {}, {}
    for name, system in SYSTEMS.items():
        raw = [system.process(system.source(one)) for one in made]
        delays[name] = system_delay(name, made, raw)
        outputs[name] = [shift(x, delays[name] + LEAD, len(one.speech) - LEAD) for x, one in zip(raw, made, strict=True)]
    return outputs, delays


def make(out: Path) -> dict[str, int]:
    """Write the set into `out`; {system: delay removed, in samples}. RecipeError if `out` holds files that are not ours."""
    present = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    if foreign := sorted(present - expected_files()):
        raise RecipeError(f"{out} holds files that are not of this set, such as {foreign[0]}. Choose an empty folder")
    texts = sentences()
    made = mixes(texts)
    outputs, delays = aligned_outputs(made)  # all of it before the first file, so that a failure leaves `out` as it was
    for index, one in enumerate(made):
        save(out / "clean" / f"{utterance(index)}.flac", one.speech[LEAD:])
    rows = []
    for name, waves in outputs.items():
        for index, wave in enumerate(waves):
            save(out / "systems" / name / f"{utterance(index)}.flac", wave)
            rows.append(manifest_row(name, index, texts[index], len(wave)))
    (out / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (out / "versions.json").write_text(json.dumps(versions(), indent=2) + "\n")
    (out / "README.md").write_text(readme(texts, delays))
    return delays


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 the set is made, 2 something is missing or failed."""
    parser = argparse.ArgumentParser(description="Make the example set of urgentmos.")
    parser.add_argument("--out", type=Path, default=Path("examples"), metavar="DIR", help="where to (default: examples)")
    out: Path = parser.parse_args(arguments).out
    try:
        if lines := how_to_install(*missing()):
            raise RecipeError(f"programs are missing. Install them and run this again:\n{lines}")
        delays = make(out)
    except RecipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{out}: {len(delays)} systems x {len(PLAN)} contents; delays removed, in samples: {delays}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
