"""Whole files of every kind, made here: what mutations start from. Nothing is read from disk or depends on the day."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import soundfile

from conftest import voice
from fuzz.cases import Case, mutated, repaired

RATE = 16_000
SECONDS = 0.8  # of a seed; above the warning for very short clips
LONG_SECONDS = 31.0  # beyond the window of pocket


class Missing(Exception):
    """This machine cannot make the seed: a codec or a package is not there."""


@dataclass(frozen=True)
class Seed:
    """A whole file: its name is the file's, `text` says that it is made of words.

    seconds: of sound; `counted`: whether the file itself says how much there should be, so that a cut must be noticed.
    unpack, pack: for what is compressed, the bytes inside and back. searched: whether mutations start from it.
    """

    name: str
    make: Callable[[], bytes]
    text: bool = False
    seconds: float = SECONDS
    counted: bool = True
    searched: bool = True
    unpack: Callable[[bytes], bytes] | None = None
    pack: Callable[[bytes], bytes] | None = None

    @property
    def suffix(self) -> str:
        name = self.name.rpartition("/")[2]
        return name[name.index(".") :] if "." in name else ""


# ---- recordings


def sound(channels: int = 1, seconds: float = SECONDS, rate: int = RATE) -> np.ndarray:
    """(T, C) float32: the same voice in all channels, a little later in each."""
    wave = voice(1, seconds, rate)
    return np.stack([np.roll(wave, 3 * k) for k in range(channels)], axis=1)


def sixteen_bits(samples: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray((samples * 32767).astype(np.int16))


def by_sndfile(
    form: str, subtype: str, channels: int = 1, seconds: float = SECONDS, rate: int = RATE, endian: str | None = None
) -> bytes:
    out = io.BytesIO()
    try:
        samples = sound(channels, seconds, rate)
        samples = sixteen_bits(samples) if "_16" in subtype else samples
        soundfile.write(out, samples, rate, subtype=subtype, endian=endian, format=form)
    except (soundfile.LibsndfileError, ValueError) as e:
        raise Missing(f"{form} {subtype} of {channels} channels: {e}") from e
    return out.getvalue()


def by_ffmpeg(form: str, codec: str, layout: str = "mono", rate: int = RATE, seconds: float = SECONDS, **options: str) -> bytes:
    try:
        import av
    except ModuleNotFoundError as e:
        raise Missing("av is not installed") from e
    out = io.BytesIO()
    try:
        with av.open(out, "w", format=form, options=options) as container:
            stream = container.add_stream(codec, rate=rate, layout=layout)
            if codec == "wmav2":
                stream.bit_rate = 48_000
            samples = sixteen_bits(sound(stream.codec_context.channels, seconds, rate))
            convert = av.AudioResampler(av.Codec(codec, "w").audio_formats[0], layout, rate, frame_size=_frame_size(stream))
            frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
            frame.sample_rate = rate
            for part in [*convert.resample(frame), *convert.resample(None)]:
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
    except (av.FFmpegError, ValueError, RuntimeError) as e:
        raise Missing(f"{form} {codec} {layout}: {e}") from e
    return out.getvalue()


def _frame_size(stream: object) -> int | None:
    context = stream.codec_context  # type: ignore[attr-defined]
    if not context.is_open:
        context.open()
    return context.frame_size or None


CHANNELS = (1, 2, 3, 6, 8, 9, 16)
SNDFILE = {  # ending -> (container, subtypes, most channels)
    "wav": ("WAV", ("PCM_16", "PCM_24", "FLOAT", "PCM_U8"), 16),
    "flac": ("FLAC", ("PCM_16", "PCM_24"), 8),
    "ogg": ("OGG", ("VORBIS",), 8),
    "mp3": ("MP3", ("MPEG_LAYER_III",), 2),
    "aiff": ("AIFF", ("PCM_16", "FLOAT"), 16),
    "au": ("AU", ("PCM_16", "ULAW"), 16),
    "caf": ("CAF", ("PCM_16",), 16),
    "alac.caf": ("CAF", ("ALAC_16",), 8),
    "w64": ("W64", ("PCM_16",), 16),
    "rf64": ("RF64", ("PCM_16",), 16),
}
SINGLE = {  # coded WAVs, and containers that only libsndfile's own users meet
    "wav": ("ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610", "G721_32", "NMS_ADPCM_16", "DOUBLE"),
}
FOREIGN = ("WAVEX", "NIST", "VOC", "IRCAM", "PAF", "SVX", "AVR", "PVF", "HTK", "MAT4", "MAT5")
LAYOUTS = {"mono": 1, "stereo": 2, "3.0": 3, "5.1": 6, "7.1": 8, "hexadecagonal": 16}
FFMPEG = {  # ending -> (container, codec, rate, most channels, whether the file counts its samples)
    "m4a": ("ipod", "aac", 16_000, 8, True),
    "alac.m4a": ("ipod", "alac", 16_000, 6, True),
    "mp4": ("mp4", "aac", 16_000, 8, True),
    "3gp": ("3gp", "aac", 16_000, 2, True),
    "aac": ("adts", "aac", 16_000, 8, False),
    "opus": ("ogg", "libopus", 48_000, 8, True),
    "webm": ("webm", "libopus", 48_000, 8, True),
    "mka": ("matroska", "pcm_s16le", 16_000, 16, True),
    "ac3.mka": ("matroska", "ac3", 48_000, 6, True),
    "mp2.mka": ("matroska", "mp2", 16_000, 2, True),
    "wma": ("asf", "wmav2", 16_000, 2, False),
    "amr": ("amr", "libopencore_amrnb", 8_000, 1, False),
}


def recordings() -> Iterator[Seed]:
    for ending, (form, subtypes, most) in SNDFILE.items():
        for subtype in subtypes:
            for channels in (n for n in CHANNELS if n <= most):
                name = f"audio/{subtype.lower()}-{channels}ch.{ending}"
                yield Seed(name, lambda f=form, s=subtype, c=channels: by_sndfile(f, s, c))  # type: ignore[misc]
    for ending, subtypes in SINGLE.items():
        for subtype in subtypes:
            yield Seed(f"audio/{subtype.lower()}-1ch.{ending}", lambda s=subtype: by_sndfile("WAV", s, rate=8000))  # type: ignore[misc]
    yield Seed("audio/rifx-2ch.wav", lambda: by_sndfile("WAV", "PCM_16", 2, endian="BIG"))
    for form in FOREIGN:
        yield Seed(
            f"audio/{form.lower()}-1ch.wav",
            lambda f=form: by_sndfile(f, "PCM_16", rate=8000),
            counted=form in ("WAVEX", "NIST"),
        )  # type: ignore[misc]
    for ending, (form, codec, rate, most, counted) in FFMPEG.items():
        for layout, channels in LAYOUTS.items():
            if channels <= most:
                make = lambda f=form, c=codec, n=layout, r=rate: by_ffmpeg(f, c, n, r)  # noqa: E731
                yield Seed(f"audio/{codec}-{channels}ch.{ending}", make, counted=counted)
    yield from _long_recordings()


def _long_recordings() -> Iterator[Seed]:
    for ending, form, subtype in (("wav", "WAV", "PCM_16"), ("flac", "FLAC", "PCM_16"), ("ogg", "OGG", "VORBIS")):
        make = lambda f=form, s=subtype: by_sndfile(f, s, seconds=LONG_SECONDS, rate=8000)  # noqa: E731
        yield Seed(f"audio/long-{subtype.lower()}-1ch.{ending}", make, seconds=LONG_SECONDS)
    make = lambda: by_ffmpeg("matroska", "pcm_s16le", rate=8000, seconds=LONG_SECONDS)  # noqa: E731
    yield Seed("audio/long-pcm_s16le-1ch.mka", make, seconds=LONG_SECONDS)


# ---- tables

ROWS = [
    {"uid": "a", "audio_path": "ok.wav", "system_id": "x", "reference_id": "1", "duration": 0.8, "mos": 3.5},
    {"uid": "b", "audio_path": "ok.flac", "system_id": "y", "reference_id": "1", "duration": 0.8, "mos": 4},
    {"uid": "c", "audio_path": "ok.wav", "system_id": "x", "reference_id": "2", "duration": None, "mos": None},
    {"uid": "d", "audio_path": "missing.wav", "system_id": "y", "reference_id": "2", "duration": 0.8, "mos": 1.5},
]


def _delimited(separator: str) -> bytes:
    lines = [list(ROWS[0]), *([("" if x is None else str(x)) for x in row.values()] for row in ROWS)]
    return "".join(separator.join(line) + "\n" for line in lines).encode()


def _jsonl() -> bytes:
    rows = [
        {**{k: v for k, v in row.items() if k != "mos"}, "metrics": {"mos_overall": row["mos"]}, "meta": {"k": [1, "z"]}}
        for row in ROWS
    ]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _parquet(rows: list[dict[str, object]]) -> bytes:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as e:
        raise Missing("pyarrow is not installed") from e
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def manifests() -> Iterator[Seed]:
    yield Seed("manifest/rows.csv", lambda: _delimited(","), text=True)
    yield Seed("manifest/semicolon.csv", lambda: _delimited(";"), text=True)
    yield Seed("manifest/utf16.csv", lambda: _delimited(",").decode().encode("utf-16"))
    yield Seed("manifest/rows.tsv", lambda: _delimited("\t"), text=True)
    yield Seed("manifest/rows.jsonl", _jsonl, text=True)
    yield Seed("manifest/wav.scp", lambda: b"a ok.wav\nb ok.flac\nc missing.wav\n", text=True)
    yield Seed("manifest/rows.parquet", lambda: _parquet(list(ROWS)))  # type: ignore[arg-type]


# ---- shards


@cache
def ok(form: str = "WAV") -> bytes:
    return by_sndfile(form, "PCM_16")


def members() -> Mapping[str, bytes]:
    return {
        "x/1.wav": ok(),
        "x/1.json": json.dumps({"uid": "one", "reference_id": "1", "mos": 3.5}).encode(),
        "y/1.flac": ok("FLAC"),
        "y/2.wav": b"RIFF",
        "notes.txt": b"none",
        "x/" + "deep/" * 30 + "3.wav": ok(),
    }


def tar(form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in members().items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if form == tarfile.PAX_FORMAT and name.endswith("1.flac"):
                info.pax_headers = {"comment": "x", "size": str(len(data))}
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zipped(method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members().items():
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return out.getvalue()


def archives() -> Iterator[Seed]:
    import bz2
    import lzma

    yield Seed("archive/pax.tar", tar)
    yield Seed("archive/gnu.tar", lambda: tar(tarfile.GNU_FORMAT))
    yield Seed("archive/stored.zip", lambda: zipped(zipfile.ZIP_STORED))
    yield Seed("archive/deflated.zip", lambda: zipped(zipfile.ZIP_DEFLATED))
    packers = {
        "gz": (gzip.decompress, lambda data: gzip.compress(data, 1, mtime=0)),
        "bz2": (bz2.decompress, lambda data: bz2.compress(data, 1)),
        "xz": (lzma.decompress, lambda data: lzma.compress(data, preset=0)),
    }
    for ending, (unpack, pack) in packers.items():
        yield Seed(f"archive/pax.tar.{ending}", lambda p=pack: p(tar()), unpack=unpack, pack=pack)  # type: ignore[misc]
    cells = [
        {"audio": {"bytes": ok(), "path": "a.wav"}, "mos": 3.5},
        {"audio": {"bytes": ok("FLAC"), "path": None}, "mos": None},
    ]
    yield Seed("archive/cells.parquet", lambda: _parquet(cells))  # type: ignore[arg-type]


# ---- training configurations

CONFIG = """\
model: f1c1m1-dref
size: pocket
name: mine
net: {dim: 16, heads: 2, dropout: 0.1}
encoder:
  width: 16
data: [train.jsonl, more.jsonl]
valid: [valid.jsonl]
lr: 3e-5
steps: 1000
batch_seconds: 60.0
metric_weights: {mos_overall: 2, pesq: 0.5}
symmetric: true
ties: released
seed: 0
"""
URGENT_PK = "model: urgent-pk\nnet: {encoder: mel}\nepochs: 2\ndelta: 0.3\ndata: train.jsonl\n"


def configs() -> Iterator[Seed]:
    yield Seed("config/urgentmos.yaml", CONFIG.encode, text=True)
    yield Seed("config/urgent-pk.yml", URGENT_PK.encode, text=True)


# ---- requests: the query, a line break, and the body


def form(files: list[tuple[str, str, bytes]], texts: list[tuple[str, str]] = [], boundary: str = "xyz") -> bytes:  # noqa: B006
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{text}'.encode() for name, text in texts]
    parts += [
        f'Content-Disposition: form-data; name="{field}"; filename="{name}"\r\nContent-Type: audio/wav\r\n\r\n'.encode() + data
        for field, name, data in files
    ]
    return b"".join(f"--{boundary}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()


def requests() -> Iterator[Seed]:
    wav, flac = ok(), ok("FLAC")
    named = [("files", "x/1.wav", wav), ("files", "y/1.wav", wav), ("files", "x/2.flac", flac), ("files", "y/2.wav", wav)]
    texts = [("system_id", "x"), ("reference_id", "1"), ("system_id", "y"), ("reference_id", "1")]
    bodies = {
        "score": (
            "/v1/score?metrics=mos_overall&timeline=true&format=json",
            form([("files", "a.wav", wav), ("files", "b.flac", flac)]),
        ),
        "score-csv": ("/v1/score?format=csv", form([("files", "a.wav", wav)])),
        "compare": ("/v1/compare", form([("a", "new.wav", wav), ("b", "old.flac", flac)])),
        "rank": ("/v1/rank?scoring=binary&confidence=0.95&samples=100&seed=1", form(named)),
        "rank-mos": (
            "/v1/rank?scoring=mos&samples=100&format=csv",
            form([("files", "p.wav", wav), ("files", "q.wav", wav)], texts),
        ),
    }
    for name, (address, body) in bodies.items():
        yield Seed(f"request/{name}.query", lambda a=address: a.encode(), text=True)  # type: ignore[misc]
        yield Seed(f"request/{name}.body", lambda b=body: b)  # type: ignore[misc]


def request_of(name: str, data: bytes) -> tuple[bytes, bytes]:
    """(address, body) of a case: one half is the mutated one, the other half that of the same request."""
    stem, _, part = name.rpartition(".")
    other = {"query": "body", "body": "query"}[part]
    halves = {part: data, other: seed_named(f"{stem}.{other}").make()}
    return halves["query"], halves["body"]


# ---- all of them


def kinds() -> Mapping[str, Callable[[], Iterator[Seed]]]:
    from fuzz.models import checkpoints

    return {
        "audio": recordings,
        "manifest": manifests,
        "archive": archives,
        "checkpoint": checkpoints,
        "config": configs,
        "request": requests,
        "selftest": selftests,
    }


def selftests() -> Iterator[Seed]:
    for deed in ("nothing", "crash", "hang", "raise", "memory", "connect", "execute", "write"):
        yield Seed(f"selftest/{deed}", deed.encode)


KINDS = ("audio", "manifest", "archive", "checkpoint", "config", "request")


@cache
def seeds(kind: str) -> tuple[Seed, ...]:
    return tuple(kinds()[kind]())


def seed_named(name: str) -> Seed:
    found = [seed for seed in seeds(name.split("/")[0]) if seed.name == name]
    if not found:
        raise KeyError(f"there is no seed {name}")
    return found[0]


@cache
def content(name: str) -> bytes:
    """The bytes of a seed. Missing if this machine cannot make it."""
    return seed_named(name).make()


def bytes_of(case: Case) -> bytes:
    """What the case stands for. Missing if this machine cannot make its seed."""
    seed, data = seed_named(case.seed), content(case.seed)
    names = [other.name for other in seeds(case.seed.split("/")[0])]

    def others(number: int) -> bytes:
        try:
            return content(names[number % len(names)])
        except Missing:
            return data

    inside = case.repaired and seed.unpack is not None and seed.pack is not None
    if inside:
        data = seed.unpack(data)  # type: ignore[misc]
    data = mutated(data, case.mutations, others)
    if case.repaired:
        data = repaired(data)
    return seed.pack(data) if inside else data  # type: ignore[misc]
