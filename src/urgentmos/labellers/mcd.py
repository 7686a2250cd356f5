"""Mel-cepstral distortion as the URGENT challenges compute it: SPTK mel-cepstra with c0, at the file's own rate.

Not pymcd: other frames, other analysis, c0 included. The alignment is FastDTW with radius 1 (Salvador and Chan 2007),
an approximation whose path is part of the label's definition. Reproduced is the path of the compiled extension of the
`fastdtw` package 0.3, which is what pip builds; its pure-Python twin differs by up to 1 % on warped speech.

Mel-cepstral analysis is that of SPTK (Tokuda et al. 1994; `mcep` with etype 1), for all frames of a clip at once.
"""

from functools import cache

import numpy as np

from urgentmos.audio.spectra import frames, projection_gain
from urgentmos.errors import MeasureError
from urgentmos.labellers import Measure, Settings, Signals

FRAME, HOP = 1024, 256  # samples at any rate: 64 ms at 16 kHz, 21 ms at 48 kHz
ORDER_AND_ALPHA = {
    8_000: (13, 0.31),
    16_000: (23, 0.42),
    22_050: (34, 0.45),
    24_000: (34, 0.46),
    32_000: (36, 0.50),
    44_100: (39, 0.53),
    48_000: (39, 0.55),
}
RADIUS = 1
ABOVE, LEFT, DIAGONAL = range(3)
EPS = 1e-6  # added to the periodogram
MIN_ITERATIONS, MAX_ITERATIONS, THRESHOLD = 2, 30, 1e-3  # of SPTK
TO_DB = 10 / np.log(10) * np.sqrt(2)


def load(settings: Settings) -> Measure:
    def measure(signals: Signals) -> dict[str, float]:
        reference, wave = signals.pair()
        if signals.rate not in ORDER_AND_ALPHA:
            rates = ", ".join(map(str, ORDER_AND_ALPHA))
            raise MeasureError(f"MCD is defined for {rates} Hz, not for {signals.rate} Hz. Resample the files")
        if len(wave) < FRAME:
            raise MeasureError(f"{len(wave)} samples are fewer than the {FRAME} of one frame of MCD")
        scaled = np.float32(projection_gain(reference, wave)) * wave
        order, alpha = ORDER_AND_ALPHA[signals.rate]
        return {"mcd": distortion(mel_cepstra(reference, order, alpha), mel_cepstra(scaled, order, alpha))}

    return measure


def distortion(a: np.ndarray, b: np.ndarray) -> float:
    """(F, D), (F', D) -> dB: mean over the warping path of 10/ln 10 * sqrt(2 * sum of squared differences)."""
    path = fast_dtw(a, b)
    return float(TO_DB * np.linalg.norm(a[path[:, 0]] - b[path[:, 1]], axis=1).mean())


def mel_cepstra(wave: np.ndarray, order: int, alpha: float) -> np.ndarray:
    """(T,) -> (F, order + 1) mel-cepstra of Hamming-windowed frames, by Newton-Raphson as SPTK's `mcep`.

    Minimises the mean of |X|^2 / exp(2 log H) + 2 log H over the warped spectrum H. All steps of SPTK are linear but
    one exponential, so they are three matrices; a frame stops where SPTK would stop.
    """
    window = np.hamming(FRAME) / np.linalg.norm(np.hamming(FRAME))  # of unit power, as SPTK makes it
    windowed = frames(wave.astype(np.float64), FRAME, HOP) * window
    return np.concatenate([_newton(block, order, alpha) for block in np.array_split(windowed, len(windowed) // 512 + 1)])


def _newton(windowed: np.ndarray, order: int, alpha: float) -> np.ndarray:
    """(F, FRAME) -> (F, order + 1)"""
    to_mel, to_log_spectrum, to_correlation = _transforms(order, alpha)
    power = np.abs(np.fft.rfft(windowed, axis=1)) ** 2 + EPS  # (F, bins)
    mel = np.log(power) @ to_mel  # (F, order + 1)
    before = np.fft.irfft(np.log(power), axis=1)[:, 0] / 2  # c[0], as SPTK starts its test of convergence
    warp = (-alpha) ** np.arange(order + 1)
    i = np.arange(order + 1)
    toeplitz, hankel = np.abs(i[:, None] - i), i[:, None] + i
    active = np.arange(len(mel))
    for iteration in range(1, MAX_ITERATIONS + 1):
        residual = power[active] / np.exp(2 * (mel[active] @ to_log_spectrum))
        r = residual @ to_correlation  # (F, 2 * order + 1)
        if iteration >= MIN_ITERATIONS:
            running = np.abs((r[:, 0] - before[active]) / r[:, 0]) >= THRESHOLD
            before[active] = r[:, 0]
            active, r = active[running], r[running]
        if not len(active):
            break
        step = np.linalg.solve(r[:, toeplitz] + r[:, hankel], (r[:, : order + 1] - warp)[..., None])
        mel[active] += step[..., 0]
    return np.asarray(mel)


@cache
def _transforms(order: int, alpha: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices (right-multiplied): log power spectrum -> mel-cepstrum (bins, M+1), mel-cepstrum -> log amplitude
    spectrum (M+1, bins), residual spectrum -> warped correlation (bins, 2M+1), with M = order.
    """
    half = FRAME // 2
    bins = np.arange(half + 1)
    cosines = np.cos(2 * np.pi * np.outer(bins, bins) / FRAME)  # (bins, lags)
    weights = np.where((bins == 0) | (bins == half), 1.0, 2.0) / FRAME
    inverse = weights[:, None] * cosines  # real, even spectrum -> its lags 0..half
    ends = np.where((bins == 0) | (bins == half), 0.5, 1.0)
    to_mel = (inverse * ends) @ _warping(half, order, alpha)
    back = _warping(order, half, -alpha)
    return to_mel, back @ cosines.T, inverse @ _correlation_warping(half, 2 * order, alpha)


def _warping(n_in: int, n_out: int, alpha: float) -> np.ndarray:
    """(n_in + 1, n_out + 1): cepstrum on one frequency axis -> on the axis warped by the all-pass alpha (`freqt`)."""
    state = np.zeros((n_out + 1, n_in + 1))  # columns: the response to each input coefficient
    unit = np.eye(n_in + 1)
    for i in range(n_in, -1, -1):
        old = state
        state = np.empty_like(old)
        state[0] = unit[i] + alpha * old[0]
        if n_out >= 1:
            state[1] = (1 - alpha**2) * old[0] + alpha * old[1]
        for j in range(2, n_out + 1):
            state[j] = old[j - 1] + alpha * (old[j] - state[j - 1])
    return state.T


def _correlation_warping(n_in: int, n_out: int, alpha: float) -> np.ndarray:
    """(n_in + 1, n_out + 1): the transpose relation, for correlations (`frqtr`)."""
    state = np.zeros((n_out + 1, n_in + 1))
    unit = np.eye(n_in + 1)
    for i in range(n_in, -1, -1):
        old = state
        state = np.empty_like(old)
        state[0] = unit[i]
        if n_out >= 1:
            state[1] = alpha * (old[1] - state[0]) + old[0]
        for j in range(2, n_out + 1):
            state[j] = old[j - 1] + alpha * (old[j] - state[j - 1])
    return state.T


def fast_dtw(a: np.ndarray, b: np.ndarray, radius: int = RADIUS) -> np.ndarray:
    """(F, D), (F, D) -> (steps, 2) indices of the warping path found at half the resolution and refined."""
    if min(len(a), len(b)) < radius + 2:
        return _dtw(a, b, np.zeros(len(a), dtype=int), np.full(len(a), len(b)))
    coarse = fast_dtw(_halve(a), _halve(b), radius)
    return _dtw(a, b, *_window(coarse, len(a), len(b), radius))


def _halve(x: np.ndarray) -> np.ndarray:
    """Means of neighbouring frames; an odd last frame is dropped."""
    even = len(x) - len(x) % 2
    return np.asarray((x[0:even:2] + x[1:even:2]) / 2)


def _window(path: np.ndarray, n_a: int, n_b: int, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Coarse path -> for each fine row the first column and the end of the columns that may be visited.

    Each coarse row reaches from its predecessor's first column to its successor's last, `radius` further on both
    sides, and opens two fine rows of twice the width. Rows past the coarse path repeat its last one.
    """
    rows, columns = path.T
    n_rows = rows[-1] + 1
    first = np.full(n_rows, columns[-1])
    last = np.zeros(n_rows, dtype=int)
    np.minimum.at(first, rows, columns)
    np.maximum.at(last, rows, columns)
    row = np.arange(n_rows)
    low = np.maximum(0, first[np.maximum(0, row - radius)] - radius)
    high = np.minimum(columns[-1], last[np.minimum(n_rows - 1, row + radius)]) + radius
    coarse = np.minimum(np.arange(n_a) // 2, n_rows - 1)
    return 2 * low[coarse], np.minimum(n_b, 2 * high[coarse] + 2)


def _dtw(a: np.ndarray, b: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Best path from (0, 0) to the end through the cells start[i] <= j < end[i].

    Ties prefer the diagonal, then a step in `b`. A diagonal step into the column just past the row above is not
    considered: an oddity of the compiled `fastdtw`, kept because labels carry it.
    """
    widths = end - start
    rows = np.repeat(np.arange(len(a)), widths)
    columns = np.arange(len(rows)) - np.repeat(np.cumsum(widths) - widths, widths) + np.repeat(start, widths)
    costs = np.linalg.norm(a[rows] - b[columns], axis=1).tolist()
    infinity = float("inf")
    steps: list[list[int]] = []  # of each cell: ABOVE, LEFT or DIAGONAL
    above: list[float] = []
    above_start = k = 0
    for low, width in zip(start.tolist(), widths.tolist(), strict=True):
        here: list[float] = []
        moves: list[int] = []
        left = infinity
        for up in range(low - above_start, low - above_start + width):
            inside = up < len(above)
            from_above = above[up] if inside else infinity
            diagonal = above[up - 1] if inside and up > 0 else infinity
            if k == 0:
                left, move = 0.0, DIAGONAL
            elif from_above < left and from_above < diagonal:
                left, move = from_above, ABOVE
            elif left < diagonal:
                move = LEFT
            else:
                left, move = diagonal, DIAGONAL
            left += costs[k]
            k += 1
            here.append(left)
            moves.append(move)
        steps.append(moves)
        above, above_start = here, low
    return _trace(steps, start.tolist(), len(b))


def _trace(steps: list[list[int]], start: list[int], n_b: int) -> np.ndarray:
    """Moves of each cell -> (steps, 2) from (0, 0) to the last cell."""
    i, j = len(steps) - 1, n_b - 1
    path = []
    while i >= 0 and j >= 0:
        path.append((i, j))
        move = steps[i][j - start[i]]
        i, j = i - (move != LEFT), j - (move != ABOVE)
    return np.array(path[::-1])
