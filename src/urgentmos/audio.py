"""Any recording -> mono float32 at the rate that is asked for, by one policy.

The policy, for every command and every model: channels are averaged; resampling is soxr HQ; nothing is trimmed; the
level stays as it is. What cannot be heard (missing, empty, undecodable, cut off, non-finite) raises AudioError, whose
sentence becomes the reason in the clip's row. What can be heard but deserves a word (silence, clipping, a band-limited
file that was upsampled) is a warning.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from math import fsum, sqrt
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from urgentmos.errors import AudioError, UsageError
from urgentmos.names import advice
from urgentmos.sources import is_elsewhere, opened

AV_SUFFIXES = frozenset({".m4a", ".mp4", ".aac", ".amr", ".webm", ".mka", ".wma", ".3gp"})
AUDIO_SUFFIXES = (
    frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au", ".caf", ".w64", ".rf64"}) | AV_SUFFIXES
)
AUDIO_ENDINGS = " ".join(sorted(AUDIO_SUFFIXES))  # for messages

SILENCE_RMS = 1e-4  # -80 dBFS: below it a clip counts as silent
CLIPPED_SHARE_WARNING = 1e-3
BAND_LIMIT_DB = 70.0  # below the strongest band by more than this, a band counts as empty
BAND_LIMITED_SHARE = 0.6  # of the Nyquist frequency; natural speech recorded at its rate reaches further
MIN_RATE, MAX_RATE = 1_000, 768_000
UNKNOWN_LENGTH = 2**62  # samples; libsndfile promises more where a header does not know, as in a FLAC from a pipe
OGG_PAGE_MAX = 65_307  # bytes
ANALYSIS_FRAME = 1024
ANALYSIS_BLOCK = 16  # frames at a time: so few that a pass needs little of a cache that others share
ANALYSIS_FRAMES_MAX = 64  # spread over the clip; of 677 clips of speech and noise, all frames call the same 18 band-limited
BLOCK = ANALYSIS_BLOCK * ANALYSIS_FRAME  # samples that one pass takes at a time


@dataclass(frozen=True)
class AudioInfo:
    """What one decoding tells about a recording besides its samples."""

    rate: int  # Hz, of the file
    channels: int
    n_samples: int  # a channel, at `rate`
    peak: float  # largest |x| after averaging the channels
    rms: float
    clipped_share: float  # of samples in flat runs at the clip's own peak
    bandwidth: float  # Hz; above it the long-term spectrum is empty
    note: str = ""  # what the decoder had to mend

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.n_samples / self.rate

    @property
    def silent(self) -> bool:
        return self.rms < SILENCE_RMS

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the clip's row; none for an ordinary recording."""
        if self.silent:
            said = [f"silence: the level is {_decibels(self.rms)}"]
        else:
            said = []
            if self.clipped_share > CLIPPED_SHARE_WARNING:
                said.append(f"clipping: {self.clipped_share:.1%} of the samples lie flat at the peak")
            if self.bandwidth < BAND_LIMITED_SHARE * self.rate / 2:
                said.append(f"band-limited: nothing above {self.bandwidth / 1000:.1f} kHz in a {self.rate / 1000:g} kHz file")
        return tuple([*said, self.note] if self.note else said)


@dataclass(frozen=True)
class Audio:
    """One recording, ready to be heard."""

    wave: np.ndarray  # (T,) float32, mono
    rate: int  # Hz, of `wave`
    info: AudioInfo  # about the recording as it was found


class Batch(NamedTuple):
    """Clips of one rate side by side. Audio never travels without its length."""

    wave: np.ndarray  # (B, T) float32, zero-padded right
    n_samples: np.ndarray  # (B,) int64
    ids: list[str]


def load(
    source: str | os.PathLike[str] | np.ndarray | Sequence[float], rate: int | None = None, *, sample_rate: int | None = None
) -> Audio:
    """A path or URL (or any place of `sources`), or samples with their `sample_rate` -> mono at `rate` (None: its own).

    Samples are (T,) or (C, T) or (T, C) with C < T; integers are scaled to +-1. Raises AudioError if the recording
    cannot be heard, UsageError if samples come without a sensible rate.
    """
    if isinstance(source, str | os.PathLike):
        samples, file_rate, note = decode(source)
        name = os.fspath(source)
    else:
        samples, file_rate, note, name = as_samples(source), check_rate(sample_rate), "", "the array"
    if samples.size == 0:
        raise AudioError(f"{name} holds no samples. Record or export it again")
    if strange := sum(np.count_nonzero(~np.isfinite(block)) for block in _blocks(samples)):
        raise AudioError(f"{name} holds {strange} samples that are not finite numbers. Export it again")
    wave = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    wave = np.ascontiguousarray(wave)
    info = describe(wave, file_rate, channels=samples.shape[1], note=note)
    return Audio(resample(wave, file_rate, rate or file_rate), rate or file_rate, info)


def resample(wave: np.ndarray, rate: int, to: int) -> np.ndarray:
    """(T,) at `rate` -> (T',) at `to` by soxr HQ, the resampler of the URGENT challenges."""
    if rate == to:
        return wave
    import soxr

    return np.asarray(soxr.resample(wave, rate, to), dtype=np.float32)


def decode(path: str | os.PathLike[str]) -> tuple[np.ndarray, int, str]:
    """A recording, wherever it lies -> ((T, C) float32, rate, note). Raises AudioError with the decoder's own words."""
    where = os.fspath(path)
    _check_file(where)
    with opened(where) as (source, suffix):
        return _decode_av(source, where) if suffix in AV_SUFFIXES else _decode(source, where)


def _decode(source: str | BinaryIO, where: str) -> tuple[np.ndarray, int, str]:
    import soundfile

    try:
        with soundfile.SoundFile(source) as f:
            promised = f.frames
            if promised >= UNKNOWN_LENGTH:  # libsndfile cannot read what it cannot seek in
                return _decode_av(source, where)
            samples = f.read(dtype="float32", always_2d=True)
            rate, missing = f.samplerate, _missing_bytes(f.extra_info)
    except (soundfile.LibsndfileError, RuntimeError) as e:
        raise AudioError(f"{where} cannot be decoded: {_reason(e)}. Check that it is audio, and export it again") from e
    return _whole(samples, promised, rate, missing, source, where)


def _whole(
    samples: np.ndarray, promised: int, rate: int, missing: int, source: str | BinaryIO, where: str
) -> tuple[np.ndarray, int, str]:
    """What was decoded, with a note if the recording may be cut off; AudioError if it is."""
    if len(samples) < promised:
        raise AudioError(f"{where} is cut off: {len(samples)} of {promised} samples could be read. Copy or export it again")
    if len(samples) == 0:
        raise AudioError(f"{where} holds no samples. Record or export it again")
    if missing:
        return samples, rate, f"the file is shorter than its header says ({missing} bytes are missing)"
    return (
        samples,
        rate,
        "the file may be cut off: its last Ogg page does not end the stream" if _ogg_without_end(source) else "",
    )


def _reason(error: Exception) -> str:
    """What libsndfile says, without the path; of an MP3 without frames it says that there is no file."""
    said = str(error).split(": ", 1)[-1].strip().rstrip(".")
    return "it holds no audio that is known" if said.startswith("File does not exist") else said


def probe(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """(n_samples, rate, channels) from the header alone; AudioError as in `decode`."""
    import soundfile

    where = os.fspath(path)
    _check_file(where)
    with opened(where) as (source, suffix):
        if suffix not in AV_SUFFIXES:
            try:
                info = soundfile.info(source)
            except (soundfile.LibsndfileError, RuntimeError) as e:
                raise AudioError(f"{where} cannot be decoded: {_reason(e)}. Check that it is audio, and export it again") from e
            if info.frames < UNKNOWN_LENGTH:
                return info.frames, info.samplerate, info.channels
        samples, rate, _ = _decode_av(source, where)
    return samples.shape[0], rate, samples.shape[1]


def as_samples(source: Any) -> np.ndarray:
    """Array or list -> (T, C) float32 in +-1. Integers are scaled by their type's range; the longer axis is time."""
    try:
        array = np.asarray(source)
    except ValueError as e:
        raise AudioError("the lists in the list differ in length. Pass (T,), (T, C) or (C, T)") from e
    if array.dtype == object or array.dtype.kind not in "iuf":
        raise AudioError(f"samples of type {array.dtype} are not audio. Pass integers or floats")
    if array.ndim not in (1, 2):
        raise AudioError(f"an array of shape {array.shape} is not one recording. Pass (T,), (T, C) or (C, T)")
    if array.dtype.kind == "u":
        half = float(np.iinfo(array.dtype).max // 2 + 1)
        array = (array.astype(np.float64) - half) / half
    elif array.dtype.kind == "i" and isinstance(source, np.ndarray):
        array = array / float(np.iinfo(array.dtype).max + 1)
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused as such
        array = array.astype(np.float32)
    if array.ndim == 1:
        return array[:, None]
    return array if array.shape[0] >= array.shape[1] else array.T


def check_rate(rate: Any) -> int:
    """A sampling rate in Hz, or UsageError."""
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer):
        if isinstance(rate, float | np.floating) and rate.is_integer():
            return check_rate(int(rate))
        raise UsageError(f"sample_rate={rate!r} is not a whole number of Hz. Pass, for example, sample_rate=16000")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise UsageError(f"sample_rate={rate} is outside {MIN_RATE}..{MAX_RATE} Hz")
    return int(rate)


def describe(wave: np.ndarray, rate: int, channels: int = 1, note: str = "") -> AudioInfo:
    """(T,) -> what there is to say about it, without a copy of it."""
    peaks = [max(float(block.max()), -float(block.min())) for block in _blocks(wave)]
    rms = sqrt(_energy(wave) / len(wave))
    return AudioInfo(rate, channels, len(wave), max(peaks), rms, clipped_share(wave, peaks), bandwidth(wave, rate), note)


def _blocks(samples: np.ndarray) -> Iterator[np.ndarray]:
    """(T, ...) -> views of (BLOCK, ...), the last one shorter."""
    return (samples[start : start + BLOCK] for start in range(0, len(samples), BLOCK))


def _energy(wave: np.ndarray) -> float:
    """Sum of squares in float64."""
    return fsum(float(exact @ exact) for exact in (block.astype(np.float64) for block in _blocks(wave)))


def clipped_share(wave: np.ndarray, peaks: Sequence[float]) -> float:
    """Share of samples in runs of three or more at the clip's own peak: clipped speech, also when scaled down later.

    peaks: the largest |x| of each of the wave's blocks; those that do not reach the clip's peak need not be searched.
    """
    flat = max(peaks) * (1 - 1e-4)
    if max(peaks) < SILENCE_RMS:
        return 0.0
    found = [k * BLOCK + np.flatnonzero(np.abs(b) >= flat) for k, b in enumerate(_blocks(wave)) if peaks[k] >= flat]
    where = np.concatenate(found)
    if len(where) < 3:
        return 0.0
    ends = np.flatnonzero(np.diff(where, append=len(wave) + 1) != 1)  # of the runs
    lengths = np.diff(ends, prepend=-1)
    return float(lengths[lengths >= 3].sum()) / len(wave)


def bandwidth(wave: np.ndarray, rate: int) -> float:
    """Hz up to which the long-term spectrum is not empty (BAND_LIMIT_DB below its strongest band)."""
    if len(wave) < ANALYSIS_FRAME:
        return rate / 2
    from scipy import fft  # several transforms at once in float32: a sixth of the time of numpy's

    n_frames = min(len(wave) // ANALYSIS_FRAME, ANALYSIS_FRAMES_MAX)
    hop = len(wave) // n_frames
    frames = wave[: n_frames * hop].reshape(n_frames, hop)[:, :ANALYSIS_FRAME]
    window = _analysis_window()
    squares = np.zeros(ANALYSIS_FRAME + 2)  # real, imaginary, real, ...
    for start in range(0, n_frames, ANALYSIS_BLOCK):
        parts = fft.rfft(frames[start : start + ANALYSIS_BLOCK] * window, axis=1).view(np.float32)
        squares += np.einsum("fk,fk->k", parts, parts)
    power = squares[0::2] + squares[1::2]
    smooth = np.convolve(power, np.ones(9) / 9, mode="same")
    full = np.flatnonzero(smooth > smooth.max() * 10 ** (-BAND_LIMIT_DB / 10))
    return rate / 2 if full.size == 0 else float(min(full[-1] + 1, ANALYSIS_FRAME // 2) * rate / ANALYSIS_FRAME)


@cache
def _analysis_window() -> np.ndarray:
    """Blackman: its side lobes lie 58 dB and more below, so that strong bass does not look like treble."""
    window = np.blackman(ANALYSIS_FRAME).astype(np.float32)
    window.setflags(write=False)
    return window


def collate(waves: Sequence[np.ndarray], ids: Sequence[str]) -> Batch:
    """(T_i,) each -> one zero-padded Batch."""
    n_samples = np.array([len(w) for w in waves], dtype=np.int64)
    wave = np.zeros((len(waves), int(n_samples.max(initial=0))), dtype=np.float32)
    for row, w in zip(wave, waves, strict=True):
        row[: len(w)] = w
    return Batch(wave, n_samples, list(ids))


def duration_batches(durations: Sequence[float], max_seconds: float, max_padding: float = 0.1) -> Iterator[list[int]]:
    """Indices of clips, batch by batch: similar lengths together, at most `max_seconds` of padded audio in each.

    A batch also ends where a further clip would raise its share of padding above `max_padding`. A clip longer than
    `max_seconds` travels alone. Longest first, so that memory runs out at once or not at all.
    """
    order = sorted(range(len(durations)), key=lambda i: (-durations[i], i))
    batch: list[int] = []
    real = 0.0
    for i in order:
        if batch:
            padded = durations[batch[0]] * (len(batch) + 1)
            if padded > max_seconds or 1 - (real + durations[i]) / padded > max_padding:
                yield batch
                batch, real = [], 0.0
        batch.append(i)
        real += durations[i]
    if batch:
        yield batch


def _check_file(where: str) -> None:
    if is_elsewhere(where):  # whoever opens it says what is wrong
        return
    if not os.path.exists(where):
        raise AudioError(f"{where} does not exist. {advice(where)}")
    if os.path.isdir(where):
        raise AudioError(f"{where} is a folder, not a recording. Remove it or name the files in it")
    if not os.path.isfile(where):
        raise AudioError(f"{where} is a device or a pipe, not a recording. Copy it into a file")
    if os.path.getsize(where) == 0:
        raise AudioError(f"{where} is empty (0 bytes). Record or copy it again")
    if not os.access(where, os.R_OK):
        raise AudioError(f"{where} may not be read. Change its permissions")


def _missing_bytes(log: str) -> int:
    """Bytes by which a wav's data chunk falls short of its header, from libsndfile's log ("data : 64000 (should be 100)").

    Headers of streams say 0 or 0xFFFFFFFF because the length was not known when they were written: nothing is missing.
    """
    for line in log.splitlines():
        words = line.replace("(", " ").replace(")", " ").split()
        if words[:2] == ["data", ":"] and "should" in words:
            promised, held = int(words[2]), int(words[-1])
            return 0 if promised in (0, 0xFFFFFFFF) or promised >= 0x7FFFF000 else max(0, promised - held)
    return 0


def _ogg_without_end(source: str | BinaryIO) -> bool:
    """True for an Ogg file whose last page is incomplete or does not end the stream (RFC 3533): libsndfile does not tell."""
    with open(source, "rb") if isinstance(source, str) else nullcontext(source) as f:
        f.seek(0)
        if f.read(4) != b"OggS":
            return False
        f.seek(max(0, f.seek(0, os.SEEK_END) - OGG_PAGE_MAX))
        tail = f.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27:
        return True
    lacing = page[27 : 27 + page[26]]
    return not page[5] & 4 or len(page) < 27 + page[26] + sum(lacing)


def _decode_av(source: str | BinaryIO, where: str) -> tuple[np.ndarray, int, str]:
    """Containers that libsndfile does not read (m4a, amr, webm, ...), through FFmpeg's libraries."""
    try:
        import av
    except ModuleNotFoundError as e:
        raise AudioError(f"{where} needs FFmpeg's libraries to decode. Install them with: pip install 'urgentmos[av]'") from e
    try:
        if not isinstance(source, str):
            source.seek(0)
        with av.open(source, "r") as container:
            if not container.streams.audio:
                raise AudioError(f"{where} holds no audio stream. Check that it is audio")
            stream = container.streams.audio[0]
            rate = int(stream.rate)
            to_float = av.AudioResampler(format="fltp", rate=rate)  # the sample format only: rate and layout stay
            blocks = [out.to_ndarray() for frame in container.decode(stream) for out in to_float.resample(frame)]
            blocks += [out.to_ndarray() for out in to_float.resample(None)]
    except (av.FFmpegError, ValueError) as e:
        raise AudioError(f"{where} cannot be decoded: {e}. Check that it is audio, and export it again") from e
    samples = np.concatenate(blocks, axis=1) if blocks else np.zeros((1, 0), dtype=np.float32)
    return np.ascontiguousarray(samples.T, dtype=np.float32), rate, ""


def _decibels(amplitude: float) -> str:
    return "digital zero" if amplitude == 0 else f"{20 * np.log10(amplitude):.0f} dBFS"
