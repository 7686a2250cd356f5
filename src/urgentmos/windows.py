"""Long recordings in pieces: equal windows no longer than a model takes, decoded and resampled as a stream.

A two-hour file costs the memory of one window. A file that fits into one window is what `audio.load` gives.
"""

from collections.abc import Iterator
from dataclasses import replace
from math import ceil

import numpy as np

from urgentmos.audio import AV_SUFFIXES, Audio, AudioInfo, describe, load, probe
from urgentmos.errors import AudioError

BLOCK_SECONDS = 10.0  # decoded at a time


def windows(path: str, rate: int, seconds: float) -> Iterator[Audio]:
    """The recording at `rate` in equal windows of at most `seconds`; each with its own info. AudioError as in `load`."""
    n_samples, file_rate, _ = probe(path)
    count = ceil(n_samples / (seconds * file_rate))
    if count <= 1 or path.lower().endswith(tuple(AV_SUFFIXES)):
        yield from split(load(path, rate), seconds)
        return
    edges = [n_samples * rate * (k + 1) // (count * file_rate) for k in range(count)]
    held: list[np.ndarray] = []
    infos: list[AudioInfo] = []
    start = passed = 0
    for block, info in _blocks(path, file_rate, rate):
        held.append(block)
        infos += [info] if info else []
        passed += len(block)
        while len(edges) > 1 and passed >= edges[0]:
            wave = np.concatenate(held)
            cut = edges.pop(0) - start
            yield Audio(np.ascontiguousarray(wave[:cut]), rate, merge(infos))
            held, infos, start = [wave[cut:]], infos[-1:], start + cut
    if passed > start:
        yield Audio(np.concatenate(held), rate, merge(infos))


def split(audio: Audio, seconds: float) -> Iterator[Audio]:
    """A recording in memory in equal windows of at most `seconds`."""
    count = ceil(len(audio.wave) / (seconds * audio.rate))
    if count <= 1:
        yield audio
        return
    for piece in np.array_split(audio.wave, count):
        yield Audio(np.ascontiguousarray(piece), audio.rate, audio.info)


def _blocks(path: str, file_rate: int, rate: int) -> Iterator[tuple[np.ndarray, AudioInfo | None]]:
    """Mono blocks at `rate`, with what there is to say about the samples they come from.

    AudioError if the file ends early or holds samples that are not finite numbers.
    """
    import soundfile
    import soxr

    stream = soxr.ResampleStream(file_rate, rate, 1, dtype="float32") if file_rate != rate else None
    read = 0
    try:
        with soundfile.SoundFile(path) as f:
            promised = f.frames
            for block in f.blocks(int(BLOCK_SECONDS * file_rate), dtype="float32", always_2d=True):
                read += len(block)
                if not np.isfinite(block).all():
                    raise AudioError(f"{path} holds samples that are not finite numbers. Export it again")
                mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float64).astype(np.float32)
                info = describe(mono, file_rate, block.shape[1])
                yield np.asarray(mono if stream is None else stream.resample_chunk(mono)), info
    except (soundfile.LibsndfileError, RuntimeError) as e:
        raise AudioError(f"{path} cannot be decoded: {e}. Check that it is audio, and export it again") from e
    if read < promised:
        raise AudioError(f"{path} is cut off: {read} of {promised} samples could be read. Copy or export it again")
    if stream is not None:
        yield np.asarray(stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)), None


def merge(infos: list[AudioInfo]) -> AudioInfo:
    """What the windows together say about the recording."""
    n_samples = sum(i.n_samples for i in infos)
    share = [i.n_samples / n_samples for i in infos]
    return replace(
        infos[0],
        n_samples=n_samples,
        peak=max(i.peak for i in infos),
        rms=float(np.sqrt(sum(s * i.rms**2 for s, i in zip(share, infos, strict=True)))),
        clipped_share=sum(s * i.clipped_share for s, i in zip(share, infos, strict=True)),
        bandwidth=max(i.bandwidth for i in infos),
    )
