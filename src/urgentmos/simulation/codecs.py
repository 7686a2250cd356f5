"""Speech and music codecs, and chains of them, in time with their input.

A coder here takes (T,) at RATE and gives what comes out of its decoder, late by whatever the codec takes. That delay is a
constant of codec and setting: it is measured once in a process on a made-up voice, not on every clip, where noise or
silence could mislead it. PyAV (FFmpeg) and libsndfile run in this process; Codec2 and Speex through pipes.
"""

import io
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from urgentmos.errors import UsageError, need
from urgentmos.simulation.align import By, delay, moved
from urgentmos.simulation.base import RATE, Apply, Degradation, Signal, Sources, fit

NARROW = 8_000  # Hz; the telephone's rate
TAIL = 0.3  # seconds of silence sent after the speech, so that a late codec still gives its end
PEAK = 0.95  # louder is turned down before a codec and up again after it: clipping is another degradation
CHUNK = 1024  # samples a frame for codecs that take any
PROGRAM_SECONDS = 120
# More than one Ogg page (255 packets): speexdec takes its delay out of the first page, unless that is the last as well.
SPEEX_SECONDS = 6.0


@dataclass(frozen=True)
class Stream:
    """One way to run a codec in FFmpeg. With a `container`, the stream passes through that file format in memory, for
    decoders that need its header."""

    encoder: str
    rate: int  # Hz
    bit_rate: int = 0  # bit/s; 0: the codec's own
    options: Mapping[str, str] = field(default_factory=dict)
    decoder: str = ""  # "": the encoder's name
    decoder_options: Mapping[str, str] = field(default_factory=dict)
    container: str = ""


def resampled(signal: np.ndarray, rate: int, to: int) -> np.ndarray:
    """(T,) at `rate` -> (T',) at `to`, without delay."""
    from urgentmos.audio.samples import resample

    return resample(np.asarray(signal, dtype=np.float32), rate, to)


# ---- FFmpeg


def encoded(signal: Signal, stream: Stream) -> tuple[list[bytes], Any]:
    """(T,) at RATE -> the packets of `stream` in order, and the encoder's context (its extradata sets up a decoder)."""
    encoder = _encoder(stream)
    packets = [p for frame in _frames(signal, stream.rate, encoder) for p in encoder.encode(frame)]
    return [bytes(p) for p in [*packets, *encoder.encode(None)]], encoder


def decoded(packets: list[bytes], stream: Stream, extradata: bytes | None = None) -> Signal:
    """The packets of `stream`, whole or damaged -> (T',) at RATE, late by the codec's delay."""
    av = need("av", "av")
    decoder = av.CodecContext.create(stream.decoder or stream.encoder, "r")
    decoder.sample_rate, decoder.layout, decoder.options = stream.rate, "mono", dict(stream.decoder_options)
    decoder.thread_count = 1
    if extradata:
        decoder.extradata = extradata
    frames = [frame for packet in [*map(av.Packet, packets), None] for frame in decoder.decode(packet)]
    return _heard(frames)


def _encoder(stream: Stream) -> Any:
    av = need("av", "av")
    context = av.CodecContext.create(stream.encoder, "w")
    _set_up(context, stream)
    context.open()
    return context


def _set_up(context: Any, stream: Stream) -> None:
    names = [f.name for f in context.codec.audio_formats or ()]
    context.sample_rate, context.layout = stream.rate, "mono"
    context.format = next((n for n in ("s16", "s16p", "fltp", "flt", "u8") if n in names), "s16")
    context.time_base, context.options = Fraction(1, stream.rate), dict(stream.options)
    context.thread_count = 1
    if stream.bit_rate:
        context.bit_rate = stream.bit_rate


def _frames(signal: Signal, rate: int, context: Any) -> list[Any]:
    """(T,) at RATE -> audio frames in the form that the open encoder `context` takes."""
    av = need("av", "av")
    name = context.format.name
    samples = _as_format(resampled(signal, RATE, rate), name)
    size = context.frame_size or CHUNK
    samples = np.pad(samples, (0, -len(samples) % size), constant_values=128 if name == "u8" else 0)
    frames = []
    for start in range(0, len(samples), size):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + size], format=name, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        frames.append(frame)
    return frames


def _as_format(wave: np.ndarray, name: str) -> np.ndarray:
    """(T,) float -> (T,) in FFmpeg's sample format `name`."""
    if name.startswith("flt"):
        return np.ascontiguousarray(wave, dtype=np.float32)
    within = np.clip(wave, -1, 1)
    return (
        np.asarray(np.round(128 + 127 * within), np.uint8) if name == "u8" else np.asarray(np.round(32767 * within), np.int16)
    )


def _heard(frames: list[Any]) -> Signal:
    """Decoded frames -> (T',) at RATE."""
    if not frames:
        return np.zeros(0, dtype=np.float32)
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 127
    elif samples.dtype.kind == "i":
        samples = samples.astype(np.float32) / (np.iinfo(samples.dtype).max + 1)
    return resampled(samples, frames[0].sample_rate, RATE)


def _through_stream(signal: Signal, stream: Stream) -> Signal:
    if stream.container:
        return _through_container(signal, stream)
    packets, encoder = encoded(signal, stream)
    return decoded(packets, stream, encoder.extradata)


def _through_container(signal: Signal, stream: Stream) -> Signal:
    av = need("av", "av")
    file = io.BytesIO()
    with av.open(file, "w", format=stream.container) as out:
        track = out.add_stream(stream.encoder, rate=stream.rate)
        _set_up(track.codec_context, stream)
        track.codec_context.open()
        for frame in [*_frames(signal, stream.rate, track.codec_context), None]:
            out.mux(track.encode(frame))
    file.seek(0)
    with av.open(file) as back:
        return _heard(list(back.decode(audio=0)))


# ---- libsndfile


def _through_soundfile(signal: Signal, rate: int, form: str, subtype: str, level: float | None = None) -> Signal:
    import soundfile

    file = io.BytesIO()
    wave = resampled(signal, RATE, rate)
    with soundfile.SoundFile(file, "w", rate, 1, subtype, format=form, compression_level=level) as out:
        for start in range(0, len(wave), CHUNK):  # libsndfile's Vorbis overflows its stack on long writes
            out.write(wave[start : start + CHUNK])
    file.seek(0)
    samples, _ = soundfile.read(file, dtype="float32")
    return resampled(samples, rate, RATE)


# ---- programs


def _through_programs(signal: Signal, rate: int, encode: list[str], decode: list[str]) -> Signal:
    """Raw 16-bit samples at `rate` through two programs that read and write pipes."""
    pcm = _as_format(resampled(signal, RATE, rate), "s16").tobytes()
    samples = np.frombuffer(_piped(decode, _piped(encode, pcm)), dtype="<i2")
    return resampled(samples.astype(np.float32) / 32768, rate, RATE)


def _piped(command: list[str], data: bytes) -> bytes:
    try:
        done = subprocess.run(command, input=data, capture_output=True, check=True, timeout=PROGRAM_SECONDS)
    except FileNotFoundError as e:
        raise UsageError(f"{command[0]} is not installed. Install it, or leave this degradation out") from e
    except subprocess.TimeoutExpired as e:
        raise UsageError(f"{command[0]} took more than {PROGRAM_SECONDS} s. Try again, or leave this degradation out") from e
    except subprocess.CalledProcessError as e:
        reason = e.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise UsageError(f"{' '.join(command)} failed: {reason[0]}. Check its version, or leave this degradation out") from e
    return done.stdout


# ---- coders: (T,) at RATE -> (T',) at RATE, late


def opus(signal: Signal, kbps: float, band: str = "full") -> Signal:
    """RFC 6716; band "narrow" keeps 4 kHz."""
    return _through_stream(signal, opus_stream(kbps, band))


def opus_stream(kbps: float, band: str = "full") -> Stream:
    """20 ms packets of one frame each, at a constant rate and the effort that a phone can afford."""
    options = {"application": "voip", "vbr": "off", "frame_duration": "20", "compression_level": "5"}
    return Stream("libopus", RATE, round(1000 * kbps), options | ({"cutoff": "4000"} if band == "narrow" else {}))


def amr(signal: Signal, kbps: float) -> Signal:
    """AMR narrowband, 3GPP TS 26.071."""
    return _through_stream(signal, amr_stream(kbps))


def amr_stream(kbps: float) -> Stream:
    return Stream("libopencore_amrnb", NARROW, round(1000 * kbps))


def g722(signal: Signal, kbps: int) -> Signal:
    """ITU-T G.722 at 64, 56 or 48 kbit/s; the lower rates drop bits in the decoder, as the standard has it."""
    return _through_stream(signal, g722_stream(kbps))


def g722_stream(kbps: int) -> Stream:
    return Stream("g722", RATE, decoder_options={"bits_per_codeword": str(kbps // 8)})


def g726(signal: Signal, kbps: int) -> Signal:
    """ITU-T G.726 at 40, 32, 24 or 16 kbit/s."""
    return _through_stream(signal, Stream("g726", NARROW, 1000 * kbps, container="wav"))


def g723(signal: Signal) -> Signal:
    """ITU-T G.723.1 at 6.3 kbit/s."""
    return _through_stream(signal, Stream("g723_1", NARROW, 6300))


def realaudio(signal: Signal) -> Signal:
    """RealAudio 1.0 at 8 kbit/s."""
    return _through_stream(signal, Stream("real_144", NARROW))


def mp3(signal: Signal, kbps: int, rate: int = RATE) -> Signal:
    """MPEG-2 (2.5 at 8 kHz) layer III by LAME."""
    return _through_stream(signal, Stream("libmp3lame", rate, 1000 * kbps, decoder="mp3float"))


def mp2(signal: Signal, kbps: int) -> Signal:
    """MPEG-2 layer II."""
    return _through_stream(signal, Stream("mp2", RATE, 1000 * kbps, decoder="mp2float"))


def aac(signal: Signal, kbps: float) -> Signal:
    """MPEG-4 AAC-LC by FFmpeg's encoder."""
    return _through_stream(signal, Stream("aac", RATE, round(1000 * kbps)))


def wma(signal: Signal, kbps: int) -> Signal:
    """Windows Media Audio 2."""
    return _through_stream(signal, Stream("wmav2", RATE, 1000 * kbps, container="asf"))


def ac3(signal: Signal, kbps: int) -> Signal:
    """Dolby AC-3 at 48 kHz."""
    return _through_stream(signal, Stream("ac3", 48_000, 1000 * kbps))


def sbc(signal: Signal, kbps: int) -> Signal:
    """Bluetooth's subband codec."""
    return _through_stream(signal, Stream("sbc", RATE, 1000 * kbps))


def nellymoser(signal: Signal, rate: int) -> Signal:
    """Flash's speech codec, 2 bits a sample."""
    return _through_stream(signal, Stream("nellymoser", rate))


def dfpwm(signal: Signal, rate: int) -> Signal:
    """One bit a sample: delta modulation with a step that adapts."""
    return _through_stream(signal, Stream("dfpwm", rate))


def gsm(signal: Signal) -> Signal:
    """GSM 06.10 full rate, 13 kbit/s."""
    return _through_soundfile(signal, NARROW, "WAV", "GSM610")


def g711(signal: Signal, law: str, level_db: float) -> Signal:
    """ITU-T G.711 by `law` "mu" or "a" of speech at `level_db` (RMS, dB full scale), brought back to its own level."""
    rms = float(np.sqrt(np.mean(np.square(signal, dtype=np.float64)))) + 1e-9
    gain = 10 ** (level_db / 20) / rms
    gain = min(gain, PEAK / (float(np.abs(signal).max()) + 1e-9))
    return _through_soundfile(gain * signal, NARROW, "AU", {"mu": "ULAW", "a": "ALAW"}[law]) / np.float32(gain)


def adpcm(signal: Signal, kind: str, rate: int) -> Signal:
    """4 bits a sample at `rate`; kind "ima" or "ms"."""
    return _through_soundfile(signal, rate, "WAV", {"ima": "IMA_ADPCM", "ms": "MS_ADPCM"}[kind])


def vorbis(signal: Signal, quality: float) -> Signal:
    """Ogg Vorbis; quality 0..1."""
    return _through_soundfile(signal, RATE, "OGG", "VORBIS", 1 - quality)


def codec2(signal: Signal, mode: str) -> Signal:
    """Codec2, a sinusoidal coder; `mode`: bit/s."""
    return _through_programs(signal, NARROW, ["c2enc", mode, "-", "-"], ["c2dec", mode, "-", "-"])


def speex(signal: Signal, quality: int, band: str) -> Signal:
    """Speex at quality 0..10; band "narrow" (8 kHz) or "wide" (16 kHz)."""
    rate, word = (NARROW, "-n") if band == "narrow" else (RATE, "-w")
    raw = ["--rate", str(rate), "--le", "--16bit"]
    encode = ["speexenc", *raw, word, "--quality", str(quality), "-", "-"]
    sent = fit(signal, max(len(signal), round(SPEEX_SECONDS * RATE)))
    return _through_programs(sent, rate, encode, ["speexdec", "-", "-"])


CODERS: dict[str, Callable[..., Signal]] = {
    "aac": aac,
    "ac3": ac3,
    "adpcm": adpcm,
    "amr": amr,
    "codec2": codec2,
    "dfpwm": dfpwm,
    "g711": g711,
    "g722": g722,
    "g723": g723,
    "g726": g726,
    "gsm": gsm,
    "mp2": mp2,
    "mp3": mp3,
    "nellymoser": nellymoser,
    "opus": opus,
    "realaudio": realaudio,
    "sbc": sbc,
    "speex": speex,
    "vorbis": vorbis,
    "wma": wma,
}
# Where the delay is the same at all rates, it is measured where the wave survives best.
CLEAREST: dict[str, dict[str, Any]] = {"amr": {"kbps": 12.2}, "opus": {"kbps": 32}, "speex": {"quality": 10}}
PROGRAMS = {"codec2": ("c2enc", "c2dec"), "speex": ("speexenc", "speexdec")}  # what a coder needs, if not PyAV
LIBSNDFILE = frozenset({"adpcm", "g711", "gsm", "vorbis"})
PARAMETRIC = frozenset({"codec2"})  # their waveform is their own


# ---- in time


def coded(signal: Signal, coder: str, setting: Mapping[str, Any]) -> Signal:
    """(T,) -> (T,): through one of CODERS, its delay taken out, at the level that it came with."""
    gain = min(1.0, PEAK / (float(np.abs(signal).max(initial=0)) + 1e-9))
    sent = fit(np.float32(gain) * signal, len(signal) + round(TAIL * RATE))
    out = CODERS[coder](sent, **setting)
    out = fit(moved(out, -lag_of(coder, setting)), len(signal))
    return out / np.float32(gain)


def lag_of(coder: str, setting: Mapping[str, Any]) -> int:
    """Samples at RATE by which one of CODERS is late at `setting`, measured once on `probe`."""
    return _lag(coder, json.dumps({**setting, **CLEAREST.get(coder, {})}, sort_keys=True))


@cache
def _lag(coder: str, setting: str) -> int:
    by: By = "envelope" if coder in PARAMETRIC else "both"
    return delay(probe(), CODERS[coder](fit(probe(), probe().size + round(TAIL * RATE)), **json.loads(setting)), by=by)


@cache
def probe() -> Signal:
    """(T,) 3 s of a made-up voice: pulses of a wandering pitch through wandering formants, in syllables, with hisses."""
    from scipy.signal import lfilter

    rng = np.random.default_rng(0)
    t = np.arange(3 * RATE) / RATE
    pitch = 120 + 25 * np.sin(2 * np.pi * 0.6 * t) + 10 * np.sin(2 * np.pi * 1.7 * t)
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0) + 0.02 * rng.standard_normal(t.size)
    voice = np.zeros(t.size)
    for start in range(0, t.size, 2400):  # a new vowel every 150 ms
        part = np.pad(pulses[start : start + 2400], (0, 800))
        for centre in (rng.uniform(300, 800), rng.uniform(900, 2200), rng.uniform(2300, 3200)):
            radius = np.exp(-np.pi * 90 / RATE)
            part = lfilter([1.0], [1, -2 * radius * np.cos(2 * np.pi * centre / RATE), radius**2], part)
        part = part[: t.size - start] / (np.abs(part).max() + 1e-9)
        voice[start : start + part.size] += part
    syllables = np.clip(np.sin(2 * np.pi * 2.3 * t + 2 * np.sin(2 * np.pi * 0.4 * t)) + 0.4, 0, 1)
    hiss = np.clip(-np.sin(2 * np.pi * 2.3 * t) - 0.6, 0, 1) * rng.standard_normal(t.size)
    wave = voice * syllables + 0.15 * hiss
    return np.asarray(0.5 * wave / np.abs(wave).max(), dtype=np.float32)


# ---- degradations


def _one(coder: str) -> Apply:
    """Through one coder, `passes` times."""

    def apply(signal: Signal, _rng: np.random.Generator, _sources: Sources, /, passes: int = 1, **setting: Any) -> Signal:
        for _ in range(passes):
            signal = coded(signal, coder, setting)
        return signal

    return apply


def chain(signal: Signal, _rng: np.random.Generator, _sources: Sources, /, stages: list[list[Any]]) -> Signal:
    """One coder after another; a stage is [coder, its setting]."""
    for coder, setting in stages:
        signal = coded(signal, coder, setting)
    return signal


HANDOVERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("amr", {"kbps": 7.95}),
    ("gsm", {}),
    ("opus", {"kbps": 12}),
    ("mp3", {"kbps": 24}),
    ("g726", {"kbps": 24}),
    ("aac", {"kbps": 16}),
)


def handed_over(signal: Signal, rng: np.random.Generator, _sources: Sources, /, passes: int) -> Signal:
    """Through the first `passes` of HANDOVERS in an order that the seed decides, so that more passes go on from fewer."""
    for index in rng.permutation(len(HANDOVERS))[:passes]:
        coder, setting = HANDOVERS[index]
        signal = coded(signal, coder, setting)
    return signal


def _codec(name: str, coder: str, *ladder: dict[str, Any]) -> Degradation:
    packages = () if coder in PROGRAMS or coder in LIBSNDFILE else ("av",)
    return Degradation(name, "codec", ladder, _one(coder), PROGRAMS.get(coder, ()), packages)


def _chain(name: str, *stages: tuple[str, dict[str, Any]]) -> Degradation:
    """Each setting goes one stage further than the one before."""
    whole = [[coder, setting] for coder, setting in stages]
    return Degradation(name, "codec", tuple({"stages": whole[: n + 1]} for n in range(len(whole))), chain, packages=("av",))


DEGRADATIONS: tuple[Degradation, ...] = (
    _codec("opus", "opus", *({"kbps": k} for k in (32, 20, 14, 10, 6))),
    _codec("opus_narrow", "opus", *({"kbps": k, "band": "narrow"} for k in (20, 12, 9, 7))),
    _codec("opus_again", "opus", *({"kbps": 10, "passes": n} for n in (1, 2, 3, 5))),
    _codec("mp3", "mp3", *({"kbps": k} for k in (64, 40, 32, 24, 16, 8))),
    _codec("mp3_narrow", "mp3", *({"kbps": k, "rate": NARROW} for k in (32, 24, 16, 8))),
    _codec("mp3_again", "mp3", *({"kbps": 32, "passes": n} for n in (1, 2, 4, 7))),
    _codec("mp2", "mp2", *({"kbps": k} for k in (64, 48, 32, 24, 16, 8))),
    _codec("aac", "aac", *({"kbps": k} for k in (96, 48, 32, 20, 12, 8))),
    _codec("wma", "wma", *({"kbps": k} for k in (64, 40, 32, 24))),
    _codec("ac3", "ac3", *({"kbps": k} for k in (96, 64, 48, 32))),
    _codec("sbc", "sbc", *({"kbps": k} for k in (96, 64, 48, 32, 24))),
    _codec("vorbis", "vorbis", *({"quality": q} for q in (0.7, 0.4, 0.2, 0.0))),
    _codec("amr", "amr", *({"kbps": k} for k in (12.2, 7.95, 5.9, 4.75))),
    _codec("amr_again", "amr", *({"kbps": 7.95, "passes": n} for n in (1, 2, 3, 5))),
    _codec("gsm", "gsm", *({"passes": n} for n in (1, 2, 3, 5))),
    _codec("g723", "g723", *({"passes": n} for n in (1, 2, 3, 5))),
    _codec("realaudio", "realaudio", *({"passes": n} for n in (1, 2, 3, 4))),
    _codec("g722", "g722", *({"kbps": k} for k in (64, 56, 48))),
    _codec("g726", "g726", *({"kbps": k} for k in (40, 32, 24, 16))),
    _codec("mu_law", "g711", *({"law": "mu", "level_db": d} for d in (-26, -46, -56, -66, -74))),
    _codec("a_law", "g711", *({"law": "a", "level_db": d} for d in (-26, -46, -54, -60, -66))),
    _codec("adpcm_ima", "adpcm", *({"kind": "ima", "rate": r} for r in (16_000, 8_000, 6_000, 4_000))),
    _codec("adpcm_ms", "adpcm", *({"kind": "ms", "rate": r} for r in (16_000, 8_000, 5_500, 4_000))),
    _codec("nellymoser", "nellymoser", *({"rate": r} for r in (44_100, 22_050, 16_000, 11_025, 8_000))),
    _codec("dfpwm", "dfpwm", *({"rate": r} for r in (192_000, 96_000, 48_000, 32_000, 24_000, 16_000))),
    _codec("codec2", "codec2", *({"mode": m} for m in ("3200", "2400", "1600", "700C", "450"))),
    _codec("codec2_again", "codec2", *({"mode": "3200", "passes": n} for n in (1, 2, 3, 5))),
    _codec("speex_narrow", "speex", *({"quality": q, "band": "narrow"} for q in (10, 7, 4, 2, 0))),
    _codec("speex_wide", "speex", *({"quality": q, "band": "wide"} for q in (10, 7, 5, 3, 1, 0))),
    _chain(
        "phone_to_web",
        ("g711", {"law": "a", "level_db": -26}),
        ("amr", {"kbps": 12.2}),
        ("opus", {"kbps": 8}),
        ("g726", {"kbps": 24}),
        ("mp3", {"kbps": 16}),
    ),
    _chain(
        "web_to_phone",
        ("aac", {"kbps": 32}),
        ("mp3", {"kbps": 32}),
        ("opus", {"kbps": 16}),
        ("amr", {"kbps": 6.7}),
        ("gsm", {}),
    ),
    Degradation("handed_over", "codec", tuple({"passes": n} for n in (1, 2, 4, 6)), handed_over, packages=("av",)),
)
