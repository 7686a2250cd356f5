"""Descriptions of recordings: level, silence, clipping, bandwidth, channels that cancel.

All is counted block by block on a grid that begins where the file begins, so it is the same whether it is read at once
or in windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from math import isfinite, log10, sqrt

import numpy as np

from urgentmos.common.clip_warnings import BAND_LIMITED, CHANNELS, CLIPPING, LEVEL, NOTHING_LEFT, SHORT, SILENCE
from urgentmos.errors import AudioError

SILENCE_RMS = 1e-4  # -80 dBFS: below it a frame counts as silent
FRAMES_PER_SECOND = 50
SPEECH_SECONDS = 0.1  # of frames above SILENCE_RMS; less of them is no speech, unless it is half of the clip
SHORT_SECONDS = 0.5
FULL_SCALE_WARNING = 8.0  # 18 dB above full scale; floating-point files reach some dB
INTEGER_PEAK = 100.0  # no gain does that: these are integers in floats
CANCELLED = 0.5  # of the power that the average would have if the channels were independent
CANCELLED_SECTION = 0.25  # the same in sections of a second, where independent channels scatter
CANCELLED_SHARE = 0.1  # of the sections with sound
WHOLLY_CANCELLED = 10 ** (-50 / 20)  # of the level of the channels: what is left is noise
CLIPPED_SHARE_WARNING = 1e-3
BAND_LIMIT_DB = 70.0  # below the strongest band by more than this, a band counts as empty
BAND_LIMITED_SHARE = 0.6  # of the Nyquist frequency; natural speech recorded at its rate reaches further
ANALYSIS_FRAME = 1024
ANALYSIS_BLOCK = 16  # frames at a time: so few that a pass needs little of a cache that others share
ANALYSIS_FRAMES_MAX = 64  # of a block; of 677 clips of speech and noise, all frames call the same 18 band-limited
SECTIONS = 10  # of one second each in a block


@dataclass(frozen=True)
class AudioInfo:
    """Facts about a recording besides its samples, measured while it is decoded."""

    rate: int  # Hz, of the file
    channels: int
    n_samples: int  # a channel, at `rate`
    peak: float  # largest |x| after averaging the channels
    rms: float
    clipped_share: float  # of samples in flat runs at the clip's own peak
    bandwidth: float  # Hz; above it the long-term spectrum is empty
    mean: float = 0.0  # DC, largest |mean| of a channel
    loudest: float = 0.0  # largest |x| of any channel
    active_seconds: float = 0.0  # of frames above SILENCE_RMS in any channel, DC left out
    active_rms: float = 0.0  # level of the loudest channel, DC left out
    silent: bool = False  # it holds no speech: less than SPEECH_SECONDS of such frames
    cancelled: str = ""  # how much of the level averaging the channels leaves, if they cancel
    notes: tuple[str, ...] = ()  # what the decoder found: kinds "cut off" and "length"

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.n_samples / self.rate

    @property
    def cancels_wholly(self) -> bool:
        """Whether averaging the channels leaves next to nothing of them."""
        return NOTHING_LEFT in self.cancelled

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the clip's row, each opening with its kind; none for an ordinary recording."""
        sentences = [f"{SILENCE}: {self._silence()}"] if self.silent else []
        if self.cancelled:
            sentences.append(f"{CHANNELS}: {self.cancelled}; score one channel, or invert one of them")
        sentences += self.notes
        if self.loudest > FULL_SCALE_WARNING:
            cure = "scale the samples to -1..1"
            if self.loudest > INTEGER_PEAK:
                cure = "divide the samples by 32768 if they are 16-bit integers, or pass them as int16"
            sentences.append(f"{LEVEL}: the peak is {self.loudest:.0f} times full scale; {cure}")
        if not self.silent:
            if self.clipped_share > CLIPPED_SHARE_WARNING:
                sentences.append(f"{CLIPPING}: {self.clipped_share:.1%} of the samples lie flat at the peak")
            if self.bandwidth < BAND_LIMITED_SHARE * self.rate / 2:
                band, rate = self.bandwidth / 1000, self.rate / 1000
                sentences.append(f"{BAND_LIMITED}: nothing above {band:.1f} kHz in a {rate:g} kHz file")
        if self.duration < SHORT_SECONDS:
            sentences.append(f"{SHORT}: {self.duration:.3g} s; a score of less than {SHORT_SECONDS:g} s says little")
        return tuple(sentences)

    def _silence(self) -> str:
        """Why there is no speech."""
        if self.loudest == 0:
            return "the level is digital zero"
        if self.active_seconds > 0:
            return f"only {self.active_seconds:.2g} s of it are above -80 dBFS"
        if self.mean >= SILENCE_RMS:
            return f"a constant level of {self.mean:.2g} (DC) and nothing else"
        return f"the level is {_decibels(self.active_rms)}"


def _decibels(amplitude: float) -> str:
    return "digital zero" if amplitude == 0 else f"{20 * log10(amplitude):.0f} dBFS"


def frame_length(rate: int) -> int:
    """Samples of a frame of 20 ms."""
    return max(1, rate // FRAMES_PER_SECOND)


def section_length(rate: int) -> int:
    """Samples of a second, a whole number of frames."""
    return FRAMES_PER_SECOND * frame_length(rate)


def block_length(rate: int) -> int:
    """Samples of the blocks that a Meter takes: SECTIONS seconds."""
    return SECTIONS * section_length(rate)


class Meter:
    """Takes a recording block by block, gives back its average over the channels, and describes it at the end."""

    def __init__(self, name: str, rate: int, channels: int) -> None:
        self.name, self.rate, self.channels = name, rate, channels
        self.n_samples = 0
        self.strange = 0  # samples that are not finite
        self.loudest = 0.0
        self._frame = frame_length(rate)
        self._flats = Flats()
        self._energy = 0.0
        self._sums = np.zeros(channels)
        self._power: np.ndarray | None = None
        self._active = 0  # samples in active frames
        self._framed = 0  # samples in frames
        self._varying = np.zeros(channels)  # energies without DC, of the channels
        self._varying_mono = 0.0
        self._sections = self._cancelling = 0

    @property
    def refused(self) -> bool:
        """Whether the blocks so far cannot be judged; `info` raises the reason."""
        return self.strange > 0

    def add(self, block: np.ndarray) -> np.ndarray:
        """(t, C) float32 -> (t,) float32. All blocks but the last are `block_length` long."""
        section = section_length(self.rate)
        return self.add_sections(block[start : start + section] for start in range(0, len(block), section))

    def add_sections(self, sections: Iterable[np.ndarray]) -> np.ndarray:
        """The same for a block in sections of one second, of which one at a time is held."""
        waves = []
        for section in sections:
            wave = section[:, 0] if self.channels == 1 else section.mean(axis=1, dtype=np.float64).astype(np.float32)
            waves.append(np.ascontiguousarray(wave))
            self._add_section(section, waves[-1])
        mono = waves[0] if len(waves) == 1 else np.concatenate(waves)
        if not self.refused and len(mono) >= ANALYSIS_FRAME:
            power = spectrum(mono)
            self._power = power if self._power is None else self._power + power
        self.n_samples += len(mono)
        return mono

    def info(self, notes: tuple[str, ...] = ()) -> AudioInfo:
        """The description of all blocks so far. AudioError if the recording cannot be judged."""
        if self.n_samples == 0:
            why = f" ({notes[0]})" if notes else ""
            raise AudioError(f"{self.name} holds no samples{why}. Record or export it again")
        if self.strange:
            raise AudioError(f"{self.name} holds {self.strange} samples that are not finite numbers. Export it again")
        n = self.n_samples
        rms = sqrt(self._energy / n)
        needed = min(SPEECH_SECONDS * self.rate, self._framed / 2)
        silent = self._active < needed or self._active == 0
        return AudioInfo(
            rate=self.rate,
            channels=self.channels,
            n_samples=n,
            peak=self._flats.peak,
            rms=rms,
            clipped_share=self._flats.total() / n,
            bandwidth=self.rate / 2 if self._power is None else bandwidth(self._power, self.rate),
            mean=float(np.abs(self._sums).max() / n),
            loudest=self.loudest,
            active_seconds=self._active / self.rate,
            active_rms=sqrt(float(self._varying.max()) / max(1, self._framed)),
            silent=silent,
            cancelled="" if silent else self._cancelled(),
            notes=notes,
        )

    def _add_section(self, block: np.ndarray, mono: np.ndarray) -> None:
        """At most one second."""
        high = max(float(block.max()), -float(block.min()))
        if not isfinite(high):
            self.strange += int(np.count_nonzero(~np.isfinite(block)))
        if self.refused:
            return
        self.loudest = max(self.loudest, high)
        peak = high if self.channels == 1 else max(float(mono.max()), -float(mono.min()))
        self._flats.add(mono, peak)
        exact = mono.astype(np.float64)
        self._energy += float(exact @ exact)
        size = self._frame
        whole = len(block) // size * size
        if whole == 0 and self._framed:
            self._sums += block.sum(axis=0, dtype=np.float64)
            return
        if whole == 0:  # all there is
            size = whole = len(block)
        sums, energies = _frame_sums(exact[:whole].reshape(-1, size, 1))
        mono_energy = _without_mean(sums, energies, size)[:, 0]
        if self.channels == 1:
            self._sums += sums.sum() + exact[whole:].sum()
            varying = mono_energy[:, None]
        else:
            self._sums += block.sum(axis=0, dtype=np.float64)
            varying = _without_mean(*_frame_sums(block[:whole].astype(np.float64).reshape(-1, size, self.channels)), size)
        active = varying.max(axis=1) >= size * SILENCE_RMS**2
        self._active += int(np.count_nonzero(active)) * size
        self._framed += whole
        self._varying += varying.sum(axis=0)
        if self.channels > 1:
            own, mixed = float(varying.sum()), float(mono_energy.sum())
            self._varying_mono += mixed
            if own >= whole * SILENCE_RMS**2:
                self._sections += 1
                self._cancelling += mixed < CANCELLED_SECTION * own / self.channels**2

    def _cancelled(self) -> str:
        """How much averaging leaves, if it leaves less than half of what independent channels would."""
        if self.channels == 1:
            return ""
        own = float(self._varying.sum())
        of = f"averaging the {self.channels} channels leaves"
        if self._varying_mono < CANCELLED * own / self.channels**2:
            share = self._varying_mono * self.channels / own
            return f"{of} {_left(share)} of their level"
        if self._sections and self._cancelling >= CANCELLED_SHARE * self._sections:
            return f"in {self._cancelling} of {self._sections} s {of} next to nothing of their level"
        return ""


def _left(share: float) -> str:
    return "nothing" if share < WHOLLY_CANCELLED**2 else f"{10 * log10(share):.0f} dB"


def _frame_sums(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(F, L, C) float64 -> (F, C) sums and energies."""
    return samples.sum(axis=1), np.einsum("flc,flc->fc", samples, samples)


def _without_mean(sums: np.ndarray, energies: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(np.maximum(0.0, energies - sums**2 / size))


class Flats:
    """Counts samples in runs of three or more at the clip's own peak: clipped speech, also when scaled down later."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._count = 0  # in runs that have ended
        self._open = 0  # length of the run that reaches the end of what was taken

    def add(self, wave: np.ndarray, peak: float) -> None:
        """(t,) with its largest |x|; a part that does not reach the clip's peak need not be searched."""
        if peak > self.peak:
            if self.peak < peak * (1 - 1e-4):
                self._count = self._open = 0
            self.peak = peak
        flat = self.peak * (1 - 1e-4)
        if peak < flat:
            self._close()
            return
        where = np.flatnonzero(np.abs(wave) >= flat)
        ends = np.flatnonzero(np.diff(where, append=len(wave) + 1) != 1)  # of the runs
        lengths = np.diff(ends, prepend=-1)
        if where[0] == 0:
            lengths[0] += self._open
        else:
            self._close()
        self._open = 0
        if where[-1] == len(wave) - 1:
            self._open = int(lengths[-1])
            lengths = lengths[:-1]
        self._count += int(lengths[lengths >= 3].sum())

    def _close(self) -> None:
        self._count += self._open if self._open >= 3 else 0
        self._open = 0

    def total(self) -> int:
        """Samples so far; a wave below SILENCE_RMS has none."""
        if self.peak < SILENCE_RMS:
            return 0
        return self._count + (self._open if self._open >= 3 else 0)


def spectrum(wave: np.ndarray) -> np.ndarray:
    """(T,) of at least ANALYSIS_FRAME samples -> power of up to ANALYSIS_FRAMES_MAX frames spread over it, summed."""
    from scipy import fft  # several transforms at once in float32: a sixth of the time of numpy's

    n_frames = min(len(wave) // ANALYSIS_FRAME, ANALYSIS_FRAMES_MAX)
    hop = len(wave) // n_frames
    parts = wave[: n_frames * hop].reshape(n_frames, hop)[:, :ANALYSIS_FRAME]
    window = _analysis_window()
    squares = np.zeros(ANALYSIS_FRAME + 2)  # real, imaginary, real, ...
    for start in range(0, n_frames, ANALYSIS_BLOCK):
        bins = fft.rfft(parts[start : start + ANALYSIS_BLOCK] * window, axis=1).view(np.float32)
        squares += np.einsum("fk,fk->k", bins, bins)
    return np.asarray(squares[0::2] + squares[1::2])


def bandwidth(power: np.ndarray, rate: int) -> float:
    """Hz up to which a long-term spectrum is not empty (BAND_LIMIT_DB below its strongest band)."""
    smooth = np.convolve(power, np.ones(9) / 9, mode="same")
    full = np.flatnonzero(smooth > smooth.max() * 10 ** (-BAND_LIMIT_DB / 10))
    return rate / 2 if full.size == 0 else float(min(full[-1] + 1, ANALYSIS_FRAME // 2) * rate / ANALYSIS_FRAME)


@cache
def _analysis_window() -> np.ndarray:
    """Blackman: its side lobes lie 58 dB and more below, so that strong bass does not look like treble."""
    window = np.blackman(ANALYSIS_FRAME).astype(np.float32)
    window.setflags(write=False)
    return window


def blocks_of(samples: np.ndarray, rate: int) -> Iterator[np.ndarray]:
    """(T, C) -> views of `block_length` samples, the last one shorter."""
    size = block_length(rate)
    return (samples[start : start + size] for start in range(0, len(samples), size))
