"""A spectrogram as a small PNG with a palette, in numpy and zlib."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from urgentmos.audio.spectra import centred_stft

WIDTH, HEIGHT = 720, 160  # pixels at most, as the charts have in a browser
RANGE_DB = 80.0  # below the loudest bin; what is lower is drawn as silence
FAINTEST_DB = -40.0  # what a clip is drawn against at least: digital silence stays dark
LEVELS = 48  # colours; more make the file larger and look the same
SHORTEST_WINDOW = 0.025  # seconds: harmonics of a voice are resolved
# From dark to light with steadily rising luminance, so that loudness can be read without colour vision.
ANCHORS = np.array([(8, 8, 24), (52, 24, 92), (128, 38, 108), (206, 70, 76), (246, 142, 52), (252, 226, 140)], dtype=float)


def spectrogram(wave: np.ndarray, rate: int) -> str:
    """(T,) float32 -> data URL of a PNG: time to the right, 0 Hz at the bottom and half the rate at the top, in dB."""
    hop = max(1, round(0.008 * rate))
    hop = max(hop, -(-len(wave) // (4 * WIDTH)))
    n_fft = 1 << int(np.ceil(np.log2(max(SHORTEST_WINDOW * rate, 64))))
    power = np.abs(centred_stft(np.asarray(wave, dtype=np.float32), n_fft, hop)) ** 2  # (F, D)
    small = _shrunk(_shrunk(power, WIDTH).T, HEIGHT)  # (D, F)
    level = 10 * np.log10(np.maximum(small, 1e-12))
    place = np.clip((level - max(level.max(), FAINTEST_DB)) / RANGE_DB + 1, 0, 1)
    index = np.round(place * (LEVELS - 1)).astype(np.uint8)[::-1]
    return "data:image/png;base64," + base64.b64encode(png(index, palette())).decode("ascii")


def _shrunk(x: np.ndarray, size: int) -> np.ndarray:
    """(N, K) -> (min(N, size), K): means of neighbours."""
    if len(x) <= size:
        return x
    edges = np.arange(size + 1) * len(x) // size
    sums = np.add.reduceat(x, edges[:-1], axis=0)
    return np.asarray(sums / np.diff(edges)[:, None])


def palette() -> np.ndarray:
    """(LEVELS, 3) uint8."""
    place = np.linspace(0, len(ANCHORS) - 1, LEVELS)
    columns = [np.interp(place, np.arange(len(ANCHORS)), ANCHORS[:, k]) for k in range(3)]
    return np.round(np.stack(columns, axis=1)).astype(np.uint8)


def png(index: np.ndarray, colours: np.ndarray) -> bytes:
    """(H, W) uint8 indices, (N, 3) uint8 -> a PNG file (ISO/IEC 15948: colour type 3, no filter)."""
    height, width = index.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), index], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", colours.tobytes()), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
