"""Packets that are lost, damaged or late, and what receivers make of the holes.

Which packets are lost follows from the seed in an order of its own: a higher rate loses all that a lower rate loses, and
more, so that the steps of a ladder have a certain order. Only packets that hold sound can be lost (a sender that stays
quiet in silence sends none), and at least one is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from urgentmos.simulation.align import moved
from urgentmos.simulation.base import RATE, Apply, Degradation, Signal, Sources, fit
from urgentmos.simulation.codecs import PEAK, TAIL, Stream, amr_stream, decoded, encoded, g722_stream, lag_of, opus_stream

MS = RATE // 1000
ACTIVE_DB = 40.0  # below the loudest packet; quieter ones hold nothing to lose
RAMP = 2 * MS  # of the joins
SHORTEST_PITCH, LONGEST_PITCH = round(RATE / 400), round(RATE / 60)  # samples
FADE_START, FADE_END = 20 * MS, 80 * MS  # into a hole, where repeated sound fades from 1 to 0

Conceal = Callable[[Signal, np.ndarray, np.random.Generator], Signal]


# ---- which packets


def lost_packets(active: np.ndarray, rate: float, burst: float, rng: np.random.Generator) -> np.ndarray:
    """`active` (F,) bool -> (F,) bool: `rate` (0..1) of the active packets, in runs of `burst` packets on average.

    burst 1: each packet alone. Longer: runs begin anywhere and last as in Gilbert's channel (geometric). The same `rng`
    state and burst give nested sets as the rate rises.
    """
    places = np.flatnonzero(active)
    wanted = min(len(places), max(1, round(rate * len(places)))) if rate > 0 else 0
    lost = np.zeros(len(active), dtype=bool)
    lost[_order(places, burst, rng)[:wanted]] = True
    return lost


def _order(places: np.ndarray, burst: float, rng: np.random.Generator) -> np.ndarray:
    """`places` (F,) in the order in which they are lost: run after run, each from its first packet on."""
    if burst <= 1:
        return np.asarray(rng.permutation(places))
    starts = rng.permutation(len(places))
    lengths = rng.geometric(1 / burst, size=len(places))
    runs = np.concatenate([np.arange(s, min(s + n, len(places))) for s, n in zip(starts, lengths, strict=True)] or [starts])
    _, first = np.unique(runs, return_index=True)
    return np.asarray(places[runs[np.sort(first)]])


def active_packets(signal: Signal, n_packet: int) -> np.ndarray:
    """(T,) -> (F,) bool: packets of `n_packet` samples within ACTIVE_DB of the loudest; the last one may be short."""
    frames = fit(signal, -(-len(signal) // n_packet) * n_packet).reshape(-1, n_packet)
    energy = np.square(frames, dtype=np.float64).mean(axis=1)
    return np.asarray((energy > energy.max(initial=0) * 10 ** (-ACTIVE_DB / 10)) & (energy > 0))


def holes(lost: np.ndarray, n_packet: int, n_samples: int) -> np.ndarray:
    """(F,) bool -> (n, 2): where each run of lost packets begins and ends, in samples."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], lost.astype(np.int8), [0]])))
    return np.minimum(edges.reshape(-1, 2) * n_packet, n_samples)


# ---- what fills a hole


def with_silence(signal: Signal, gaps: np.ndarray, _rng: np.random.Generator) -> Signal:
    """Nothing, cut in hard as a plain receiver does."""
    out = signal.copy()
    for start, end in gaps:
        out[start:end] = 0
    return out


def with_repetition(signal: Signal, gaps: np.ndarray, _rng: np.random.Generator) -> Signal:
    """The last signal played, as long as the hole or 20 ms, repeated and fading."""
    return _filled(signal, gaps, lambda past, n: np.resize(past[-min(n, 20 * MS) :], n))


def with_stutter(signal: Signal, gaps: np.ndarray, _rng: np.random.Generator) -> Signal:
    """The last 20 ms again and again at full level, as a buffer that nobody fills is played."""
    out = signal.copy()
    for start, end in gaps:
        if start:
            out[start:end] = np.resize(out[max(0, start - 20 * MS) : start], end - start)
        else:
            out[start:end] = 0
    return out


def with_pitch(signal: Signal, gaps: np.ndarray, _rng: np.random.Generator) -> Signal:
    """The last pitch period again and again, fading, in the manner of ITU-T G.711 Appendix I."""
    return _filled(signal, gaps, lambda past, n: np.resize(past[-pitch_period(past) :], n))


def with_noise(signal: Signal, gaps: np.ndarray, rng: np.random.Generator) -> Signal:
    """Noise with the level and the spectrum of the last 20 ms, fading."""
    hiss = rng.standard_normal(len(signal))
    out = signal.copy()
    for start, end in gaps:
        past = out[max(0, start - 20 * MS) : start]
        noise = _coloured(hiss[start:end], past) * _fading(end - start)
        out[start:end] = noise
    return out


def _filled(signal: Signal, gaps: np.ndarray, continuation: Callable[[Signal, int], Signal]) -> Signal:
    """Each hole filled with a `continuation` of what was played before it, fading, and joined to what follows."""
    out = signal.copy()
    for start, end in gaps:
        past = out[max(0, start - 60 * MS) : start]
        if past.size == 0:
            out[start:end] = 0
            continue
        more = min(len(signal), end + RAMP)
        sound = continuation(past, more - start) * _fading(more - start)
        out[start:end] = sound[: end - start]
        rise = np.linspace(0, 1, more - end, endpoint=False, dtype=np.float32)
        out[end:more] = rise * signal[end:more] + (1 - rise) * sound[end - start :]
    return out


def _fading(n: int) -> np.ndarray:
    """(n,) float32: 1, then down to 0."""
    return np.interp(np.arange(n), [FADE_START, FADE_END], [1.0, 0.0]).astype(np.float32)


def pitch_period(past: Signal) -> int:
    """(T,) -> samples after which its end repeats itself best, by normalised correlation of the last 20 ms."""
    n = min(20 * MS, len(past) // 2)
    longest = min(LONGEST_PITCH, len(past) - n)
    if longest <= SHORTEST_PITCH:
        return max(1, len(past))
    end = past[-n:].astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(past.astype(np.float64), n)[::-1][SHORTEST_PITCH : longest + 1]
    match = windows @ end / np.sqrt(np.square(windows).sum(axis=1) + 1e-9)
    return SHORTEST_PITCH + int(np.argmax(match))


def _coloured(white: np.ndarray, past: Signal) -> np.ndarray:
    """(n,) white noise through the spectrum of `past`, at its RMS."""
    if past.size == 0 or white.size == 0:
        return np.zeros(white.size, dtype=np.float32)
    shape = np.abs(np.fft.rfft(past * np.hanning(past.size), 512))
    grain = np.roll(np.fft.irfft(shape, 512), 256)  # zero phase, in the middle
    noise = np.convolve(white, grain)[256 : 256 + white.size]
    rms = np.sqrt(np.mean(np.square(past, dtype=np.float64)))
    return np.asarray(noise * rms / (np.sqrt(np.mean(noise**2)) + 1e-12), dtype=np.float32)


CONCEALMENTS: dict[str, Conceal] = {
    "noise": with_noise,
    "pitch": with_pitch,
    "repetition": with_repetition,
    "silence": with_silence,
    "stutter": with_stutter,
}


def lossy(
    signal: Signal,
    rng: np.random.Generator,
    _sources: Sources,
    /,
    rate: float,
    conceal: str,
    packet_ms: int = 20,
    burst: float = 1,
) -> Signal:
    """`rate` (0..1) of the packets lost in runs of `burst` packets, filled by one of CONCEALMENTS."""
    n_packet = packet_ms * MS
    lost = lost_packets(active_packets(signal, n_packet), rate, burst, rng)
    filled = CONCEALMENTS[conceal](signal, holes(lost, n_packet, len(signal)), rng)
    return filled.astype(np.float32)


def interleaved(
    signal: Signal, rng: np.random.Generator, _sources: Sources, /, rate: float, unit_ms: int = 5, depth: int = 4
) -> Signal:
    """Packets that carry every `depth`-th unit of a block of depth x depth units, so that a lost one leaves `depth` short
    holes instead of a long one; each repeats what was played before it."""
    n_unit = unit_ms * MS
    n_units = -(-len(signal) // n_unit)
    packet = np.arange(n_units) // depth**2 * depth + np.arange(n_units) % depth  # (units,): the packet that each is in
    active = np.zeros(packet.max(initial=-1) + 1, dtype=bool)
    active[packet[active_packets(signal, n_unit)]] = True
    lost = lost_packets(active, rate, 1, rng)
    return with_repetition(signal, holes(lost[packet], n_unit, len(signal)), rng).astype(np.float32)


# ---- what a codec's own decoder makes of it


@dataclass(frozen=True)
class Link:
    """A codec whose packets can be lost or damaged one by one."""

    stream: Callable[[float], Stream]
    packet_ms: int
    header: int  # bytes that bit errors spare
    erased: Callable[[bytes], bytes] | None = None  # what a receiver is given in place of a lost packet


def _opus_gap(packet: bytes) -> bytes:
    """A packet of one empty frame: the decoder conceals it (RFC 6716, section 3.2.1 and 4)."""
    return bytes([packet[0] & 0xFC])


def _amr_gap(_packet: bytes) -> bytes:
    """A frame of type NO_DATA (RFC 4867, section 4.3.2)."""
    return bytes([15 << 3])


LINKS: dict[str, Link] = {
    "amr": Link(amr_stream, 20, header=1, erased=_amr_gap),
    "g722": Link(lambda kbps: g722_stream(int(kbps)), 20, header=0),
    "opus": Link(opus_stream, 20, header=1, erased=_opus_gap),
}


def erased(
    signal: Signal, rng: np.random.Generator, _sources: Sources, /, link: str, kbps: float, rate: float, burst: float = 1
) -> Signal:
    """Coded by one of LINKS; `rate` (0..1) of the packets lost, and concealed by the codec's decoder."""
    gap = LINKS[link].erased
    if gap is None:
        raise ValueError(f"{link} has no concealment of its own")

    def lose(packets: list[bytes], active: np.ndarray) -> list[bytes]:
        lost = lost_packets(active, rate, burst, rng)
        return [gap(p) if i < len(lost) and lost[i] else p for i, p in enumerate(packets)]

    return _over(signal, link, kbps, lose)


def bit_errors(signal: Signal, rng: np.random.Generator, _sources: Sources, /, link: str, kbps: float, rate: float) -> Signal:
    """Coded by one of LINKS; each bit behind the packets' headers flipped with probability `rate` (0..1)."""
    spared = LINKS[link].header

    def flip(packets: list[bytes], _active: np.ndarray) -> list[bytes]:
        return [p[:spared] + _flipped(p[spared:], rate, rng) for p in packets]

    return _over(signal, link, kbps, flip)


def _flipped(data: bytes, rate: float, rng: np.random.Generator) -> bytes:
    errors = np.packbits(rng.random(8 * len(data)) < rate)  # one draw a bit, so that rates nest
    return bytes(np.frombuffer(data, dtype=np.uint8) ^ errors)


def _over(signal: Signal, link: str, kbps: float, damage: Callable[[list[bytes], np.ndarray], list[bytes]]) -> Signal:
    """(T,) -> (T,): encoded, its packets damaged, decoded, in time. `damage` gets the packets and which ones hold sound."""
    stream = LINKS[link].stream(kbps)
    gain = np.float32(min(1.0, PEAK / (float(np.abs(signal).max(initial=0)) + 1e-9)))
    packets, encoder = encoded(fit(gain * signal, len(signal) + round(TAIL * RATE)), stream)
    active = active_packets(signal, LINKS[link].packet_ms * MS)
    out = decoded(damage(packets, active), stream, encoder.extradata)
    return np.asarray(np.clip(fit(moved(out, -lag_of(link, {"kbps": kbps})), len(signal)), -1, 1) / gain)


# ---- late packets


def jitter(
    signal: Signal, rng: np.random.Generator, _sources: Sources, /, late_ms: float, every_s: float = 0.8, smooth: bool = True
) -> Signal:
    """Playout that falls behind by up to `late_ms` and catches up, about once in `every_s` seconds.

    smooth: by stretching and squeezing (overlap-add at the best match); otherwise by a hole and, later, a skip. The length
    stays, and the end is in time again.
    """
    lateness = _lateness(len(signal), rng, every_s) * late_ms * MS
    if smooth:
        return _warped(signal, lateness)
    steps = np.where(lateness > 0.5 * late_ms * MS, round(late_ms * MS), 0)
    out = signal[np.maximum(np.arange(len(signal)) - steps, 0)].astype(np.float32)
    for start in np.flatnonzero(np.diff(steps) > 0) + 1:
        out[start : start + round(late_ms * MS)] = 0
    return out


def _lateness(n_samples: int, rng: np.random.Generator, every_s: float) -> np.ndarray:
    """(T,) 0..1: one rise and fall in each stretch of about `every_s` seconds, 0 at both ends."""
    n_bumps = max(1, round(n_samples / RATE / every_s))
    edges = np.linspace(0, n_samples, n_bumps + 1)
    width = n_samples / n_bumps
    at, height = [0.0], [0.0]
    for left in edges[:-1]:
        inner = left + width * (np.array([0.05, 0.35, 0.6, 0.95]) + rng.uniform(-0.04, 0.04, 4))
        at += list(inner)
        height += [0.0, 1.0, 1.0, 0.0]
    return np.asarray(np.interp(np.arange(n_samples), [*at, float(n_samples)], [*height, 0.0]))


def _warped(signal: Signal, lateness: np.ndarray) -> Signal:
    """(T,) read `lateness` (T,) samples late, by overlap-add of 20 ms pieces placed where they match what was played."""
    half = 10 * MS
    window = np.hanning(2 * half + 1)[:-1].astype(np.float32)
    search = 5 * MS
    padded = np.pad(signal, (half + search, 3 * half + search))
    out = np.zeros(len(signal) + 4 * half, dtype=np.float32)
    played = 0  # where in `padded` the piece after the last one would naturally begin
    for start in range(0, len(signal) + half, half):
        late = round(lateness[min(start, len(signal) - 1)]) if len(signal) else 0
        wanted = max(0, start + search - late)
        best = _best_match(padded, wanted, played, search, half) if late else wanted  # in time again, whatever the join
        out[start : start + 2 * half] += window * padded[best : best + 2 * half]
        played = best + half
    return out[half : half + len(signal)]


def _best_match(padded: Signal, wanted: int, played: int, search: int, half: int) -> int:
    """The offset within `search` of `wanted` at which the signal is most like its stretch at `played`."""
    low = max(0, wanted - search)
    high = min(len(padded) - 2 * half, wanted + search)
    template = padded[played : played + half]
    windows = np.lib.stride_tricks.sliding_window_view(padded[low : high + half], half)
    match = windows @ template / np.sqrt(np.square(windows).sum(axis=1) + 1e-6)
    if match.max() <= 0:
        return wanted
    return low + int(np.argmax(match))


# ---- degradations

RATES = (0.02, 0.05, 0.1, 0.18, 0.28, 0.4)


def _loss(name: str, conceal: str, packet_ms: int = 20, burst: float = 1, rates: tuple[float, ...] = RATES) -> Degradation:
    setting = {"conceal": conceal, "packet_ms": packet_ms, "burst": burst}
    return Degradation(name, "loss", tuple({"rate": r, **setting} for r in rates), lossy)


def _codec(name: str, apply: Apply, rates: tuple[float, ...], **setting: Any) -> Degradation:
    return Degradation(name, "loss", tuple({"rate": r, **setting} for r in rates), apply, packages=("av",))


BIT_RATES = (0.0003, 0.001, 0.003, 0.01, 0.03)
DEGRADATIONS: tuple[Degradation, ...] = (
    _loss("loss_silence", "silence"),
    _loss("loss_silence_short", "silence", packet_ms=10),
    _loss("loss_silence_bursty", "silence", burst=3),
    _loss("loss_repetition", "repetition"),
    _loss("loss_repetition_long", "repetition", packet_ms=40),
    _loss("loss_repetition_bursty", "repetition", burst=3),
    _loss("loss_pitch", "pitch"),
    _loss("loss_pitch_short", "pitch", packet_ms=10),
    _loss("loss_pitch_bursty", "pitch", burst=3),
    _loss("loss_noise", "noise"),
    _loss("loss_noise_long", "noise", packet_ms=60),
    _loss("loss_noise_bursty", "noise", burst=4),
    _loss("loss_stutter", "stutter", packet_ms=60, rates=(0.03, 0.07, 0.14, 0.25, 0.4)),
    Degradation(
        "loss_interleaved",
        "loss",
        tuple({"rate": r, "unit_ms": 5, "depth": 4} for r in (0.02, 0.05, 0.1, 0.2, 0.35)),
        interleaved,
    ),
    _codec("loss_opus", erased, RATES, link="opus", kbps=24),
    _codec("loss_opus_bursty", erased, RATES, link="opus", kbps=16, burst=3),
    _codec("loss_amr", erased, RATES, link="amr", kbps=12.2),
    _codec("loss_amr_bursty", erased, RATES, link="amr", kbps=7.95, burst=3),
    _codec("bit_errors_amr", bit_errors, (0.001, 0.003, 0.01, 0.03, 0.08), link="amr", kbps=12.2),
    _codec("bit_errors_g722", bit_errors, BIT_RATES, link="g722", kbps=64),
    Degradation("jitter", "loss", tuple({"late_ms": m, "every_s": 0.8, "smooth": True} for m in (10, 25, 50, 90, 150)), jitter),
    Degradation(
        "jitter_holes", "loss", tuple({"late_ms": m, "every_s": 0.8, "smooth": False} for m in (5, 15, 35, 70, 120)), jitter
    ),
)
