"""Sound besides the talker: recorded and computed noise, other talkers, hum, wind, rooms and echoes.

SNR everywhere: the speech's level while active (`active_power`) over the noise's mean power, in dB. Everything random is
drawn before the setting is looked at, so that two settings with one seed differ in strength only: the same noise, the same
room.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy import fft, ndimage
from scipy import signal as dsp

from urgentmos.errors import UsageError
from urgentmos.simulation.base import RATE, Degradation, Signal, Sources, active_power, fit, power

SPEED_OF_SOUND = 343.0  # m/s
DIRECT = round(0.0025 * RATE)  # samples after the first arrival that the ear takes for the direct sound


def at_snr(speech: Signal, noise: np.ndarray, snr: float) -> Signal:
    """(T,), (T,) -> (T,): their sum, the noise without its mean and scaled so that active speech is `snr` dB above it."""
    noise = noise - noise.mean()
    gain = np.sqrt(active_power(speech) / power(noise) / 10 ** (snr / 10))
    return np.asarray(speech + gain * noise, dtype=np.float32)


def recorded(speech: Signal, rng: np.random.Generator, sources: Sources, /, *, snr: float) -> Signal:
    """A stretch of one of `sources.noises`."""
    return at_snr(speech, sources.stretch_of(_given(sources.noises, "noises", "noise"), speech.size, rng), snr)


def babble(speech: Signal, rng: np.random.Generator, sources: Sources, /, *, snr: float, voices: int) -> Signal:
    """`voices` of `sources.talkers` at once, equally loud."""
    talkers = _given(sources.talkers, "talkers", "babble")
    crowd = np.zeros(speech.size)
    for _ in range(voices):
        voice = sources.stretch_of(talkers, speech.size, rng)
        crowd += voice / np.sqrt(active_power(voice))
    return at_snr(speech, crowd, snr)


def coloured(speech: Signal, rng: np.random.Generator, _: Sources, /, *, snr: float, slope: float) -> Signal:
    """Steady noise whose power falls with frequency to the power of `slope`: 0 white, 1 pink, 2 brown (from 20 Hz up)."""
    return at_snr(speech, _steady(speech.size, slope, rng), snr)


def hum(speech: Signal, rng: np.random.Generator, _: Sources, /, *, snr: float) -> Signal:
    """Mains hum: 50 or 60 Hz, a little off and slowly drifting, with harmonics up to 3 kHz that fall by 2 to 6 dB an octave."""
    mains = float(rng.choice([50.0, 60.0])) * (1 + 0.002 * rng.standard_normal())
    fall = rng.uniform(0.35, 1.0)
    odd_louder = rng.uniform(0.25, 4)  # transformers favour odd harmonics, rectifiers even ones
    drift = 0.3 * np.sin(2 * np.pi * (0.1 * _seconds(speech.size) + rng.random()))
    phase = 2 * np.pi * mains * _seconds(speech.size) + drift
    noise = np.zeros(speech.size)
    for k in range(1, int(3000 / mains)):
        gain = k**-fall * (odd_louder if k % 2 else 1) * rng.uniform(0.3, 1)
        noise += gain * np.sin(k * phase + 2 * np.pi * rng.random())
    return at_snr(speech, noise, snr)


def wind(speech: Signal, rng: np.random.Generator, _: Sources, /, *, snr: float) -> Signal:
    """Wind on the microphone: noise below a few hundred Hz that comes in gusts."""
    cutoff = rng.uniform(150, 400)
    rumble = dsp.sosfilt(dsp.butter(2, cutoff, fs=RATE, output="sos"), _steady(speech.size, 1.0, rng))
    gusts = slow_curve(speech.size, rng.uniform(0.5, 2.0), rng)
    return at_snr(speech, rumble * np.exp(1.0 * gusts), snr)


def reverb(speech: Signal, rng: np.random.Generator, _: Sources, /, *, rt60: float, distance: float) -> Signal:
    """A living or meeting room: decay by 60 dB in `rt60` s, talker at `distance` m (at most 3.5). As loud as the dry speech.

    Room, places and the order of draws do not depend on the setting. The direct sound stays in time.
    """
    size = np.array([rng.uniform(6, 9), rng.uniform(5, 7), rng.uniform(2.5, 3.5)])
    mic = np.array([size[0] * rng.uniform(0.2, 0.3), size[1] * rng.uniform(0.2, 0.3), rng.uniform(1.1, 1.5)])
    towards = np.array([size[0] * rng.uniform(0.75, 0.85), size[1] * rng.uniform(0.75, 0.85), rng.uniform(1.2, 1.7)]) - mic
    talker = mic + distance * towards / np.linalg.norm(towards)
    response = room_response(size, talker, mic, rt60, rng)
    return as_loud(speech, dsp.fftconvolve(speech, response))


def room(speech: Signal, rng: np.random.Generator, sources: Sources, /, *, reverberant: float) -> Signal:
    """One of the measured `sources.rooms`, its reverberation `reverberant` dB above the direct sound. As loud as before.

    What comes within 2.5 ms of the first arrival counts as direct and is replaced by a pulse: the damage is the room, not
    the loudspeaker that it was measured with, and the result is in time.
    """
    rooms = _given(sources.rooms, "rooms", "room")
    measured = sources.hear(rooms[int(rng.integers(len(rooms)))])
    late = measured[_first_arrival(measured) + DIRECT :][: 4 * RATE]
    if late.size == 0 or not late.any():
        raise UsageError("a measured room has nothing after its direct sound: give impulse responses as rooms.")
    response = np.concatenate([np.zeros(DIRECT), late / np.sqrt(np.sum(np.square(late, dtype=np.float64)))])
    response *= 10 ** (reverberant / 20)
    response[0] = 1.0
    return as_loud(speech, dsp.fftconvolve(speech, response))


def echo(speech: Signal, rng: np.random.Generator, _: Sources, /, *, gain: float) -> Signal:
    """A discrete echo after 80 to 300 ms, `gain` dB (below 0) against the direct sound, and its echoes. As loud as the dry."""
    delay = round(rng.uniform(0.08, 0.3) * RATE)
    factor = 10 ** (gain / 20)
    out = speech.astype(np.float64)
    for start in range(delay, speech.size, delay):  # blocks of one delay: y[t] = x[t] + factor * y[t - delay]
        stop = min(start + delay, speech.size)
        out[start:stop] += factor * out[start - delay : stop - delay]
    return as_loud(speech, out)


def as_loud(speech: Signal, out: np.ndarray) -> Signal:
    """(T,) float32: the first T samples of `out`, with the mean power of `speech`."""
    out = fit(out, speech.size)
    return np.asarray(out * np.sqrt(power(speech) / power(out)), dtype=np.float32)


def slow_curve(n_samples: int, rate: float, rng: np.random.Generator) -> np.ndarray:
    """(T,) about -2..2: a smooth random curve through `rate` standard normal values a second."""
    knots = rng.standard_normal(int(n_samples / RATE * rate) + 5)
    return np.asarray(ndimage.map_coordinates(knots, [1 + rate * _seconds(n_samples)], order=3, mode="nearest"))


def room_response(size: np.ndarray, talker: np.ndarray, mic: np.ndarray, rt60: float, rng: np.random.Generator) -> np.ndarray:
    """Impulse response (T,) of a box of `size` (3,) m between two places (3,) m in it; sample 0 is the direct sound, 1.0.

    Image method (Allen and Berkley, JASA 65, 1979) for the first 0.2 s, with absorption after Eyring; images are moved by a
    few centimetres at random, since a perfect box rings (De Sena et al., IEEE TASLP 23, 2015). Noise that keeps decaying at
    the same pace continues it. Above 2 kHz, where walls and air absorb more, the decay takes 0.6 times `rt60`.
    """
    reach = 0.2 * SPEED_OF_SOUND
    direct = float(np.linalg.norm(talker - mic))
    distances, bounces = _images(size, talker, mic, reach + direct)
    distances = distances + np.where(bounces > 0, rng.uniform(-0.04, 0.04, distances.size), 0)
    places = np.round((distances - direct) / SPEED_OF_SOUND * RATE).astype(int).clip(0)
    n_samples = round(max(rt60, 0.2) * RATE)
    hiss = rng.standard_normal(n_samples)
    crossover = dsp.butter(2, 2000, fs=RATE, output="sos")
    low = _decaying(places, distances / direct, bounces, size, rt60, hiss)
    high = _decaying(places, distances / direct, bounces, size, 0.6 * rt60, hiss)
    reflected = high + dsp.sosfilt(crossover, low - high)
    # All images have one sign: without this they add up to a thump.
    reflected = dsp.sosfilt(dsp.butter(2, 60, "highpass", fs=RATE, output="sos"), reflected)
    reflected[0] += 1.0
    return np.asarray(reflected)


def _images(size: np.ndarray, talker: np.ndarray, mic: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances (N,) m, at most `reach`, and numbers of walls (N,) of the mirror images of `talker`, itself among them."""
    squares, walls = [], []
    for length, source, ear in zip(size, talker, mic, strict=True):
        n = np.arange(-int(reach / (2 * length)) - 1, int(reach / (2 * length)) + 2)
        squares.append(np.concatenate([2 * n * length + source - ear, 2 * n * length - source - ear]) ** 2)
        walls.append(np.concatenate([2 * abs(n), abs(n - 1) + abs(n)]))
    total = squares[0][:, None, None] + squares[1][:, None] + squares[2]
    near = total <= reach**2
    return np.sqrt(total[near]), (walls[0][:, None, None] + walls[1][:, None] + walls[2])[near]


def _decaying(
    places: np.ndarray, spread: np.ndarray, bounces: np.ndarray, size: np.ndarray, rt60: float, hiss: np.ndarray
) -> np.ndarray:
    """(T,): all reflections for one decay time, without the direct sound; then `hiss` (T,) with the decay of the room."""
    volume, surface = float(np.prod(size)), 2 * float(size[0] * size[1] + size[0] * size[2] + size[1] * size[2])
    # Eyring: rt60 = 24 ln(10) V / (-c S ln(1 - absorption)); a wall reflects the square root of 1 - absorption.
    log_kept = -24 * np.log(10) * volume / (SPEED_OF_SOUND * surface * rt60)
    # Paths along a low ceiling meet few walls and would ring on for half as long again; in a furnished room they do not.
    kept = np.minimum(np.exp(0.5 * log_kept * bounces), 10 ** (-3 * places / RATE / rt60))
    gains = np.where(bounces > 0, kept / spread, 0)
    early = round(0.2 * RATE)
    out = np.zeros(hiss.size)
    inside = places < early
    out[:early] = np.bincount(places[inside], gains[inside], minlength=early)
    seam = out[early - RATE // 20 : early]
    level = seam.std() * 10 ** (-3 * 0.025 / rt60)  # at the end of the seam, from its middle
    after = np.arange(hiss.size - early) / RATE
    out[early:] = level * hiss[early:] * 10 ** (-3 * after / rt60)
    return out


def _first_arrival(response: np.ndarray) -> int:
    """The start of a measured impulse response: the peak of the first millisecond that comes near its loudest."""
    loud = np.abs(response)
    onset = int(np.argmax(loud > 0.5 * loud.max()))
    return onset + int(np.argmax(loud[onset : onset + RATE // 1000]))


def _steady(n_samples: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """(T,) Gaussian noise with power falling as 1 / frequency ** slope above 20 Hz."""
    size = fft.next_fast_len(max(n_samples, RATE), real=True)
    frequencies = np.maximum(np.arange(size // 2 + 1) * RATE / size, 20)
    spectrum = fft.rfft(rng.standard_normal(size)) * frequencies ** (-slope / 2)
    return np.asarray(fft.irfft(spectrum, size)[:n_samples])


def _seconds(n_samples: int) -> np.ndarray:
    return np.arange(n_samples) / RATE


def _given(files: Sequence[Path], what: str, name: str) -> Sequence[Path]:
    if not files:
        raise UsageError(f"{name} needs recordings: give Sources({what}=[...]), or leave this degradation out.")
    return files


def _snrs(*values: float, **others: float) -> tuple[dict[str, float], ...]:
    return tuple({"snr": value, **others} for value in values)


def _additive(name: str, apply: Callable[..., Signal], ladder: tuple[dict[str, float], ...]) -> Degradation:
    return Degradation(name, "noise", ladder, apply)


_ROOMS = ((0.12, 0.3), (0.2, 0.6), (0.3, 0.9), (0.45, 1.2), (0.7, 1.7), (1.1, 2.3), (1.8, 3.0))  # s, m

DEGRADATIONS = (
    _additive("noise", recorded, _snrs(45, 35, 26, 18, 10, 0, -10)),
    _additive("babble", babble, _snrs(40, 30, 22, 15, 8, 0, -8, voices=6)),
    _additive("talker", babble, _snrs(40, 30, 20, 12, 6, 0, -6, voices=1)),
    _additive("white", coloured, _snrs(50, 40, 30, 22, 14, 4, -6, slope=0.0)),
    _additive("pink", coloured, _snrs(45, 35, 26, 18, 10, 0, -10, slope=1.0)),
    _additive("brown", coloured, _snrs(35, 25, 16, 8, 0, -8, -16, slope=2.0)),
    _additive("hum", hum, _snrs(40, 30, 20, 12, 4, -4, -12)),
    _additive("wind", wind, _snrs(36, 27, 18, 9, 0, -9, -18)),
    Degradation("reverb", "room", tuple({"rt60": rt60, "distance": distance} for rt60, distance in _ROOMS), reverb),
    Degradation("room", "room", tuple({"reverberant": level} for level in (-34, -26, -19, -12, -6, 0, 7)), room),
    Degradation("echo", "room", tuple({"gain": gain} for gain in (-30, -23, -17, -12, -8, -4, -1)), echo),
)
