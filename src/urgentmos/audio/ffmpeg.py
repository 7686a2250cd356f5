"""Recordings that FFmpeg's libraries decode (m4a, amr, webm, ...), of the containers in a short list.

FFmpeg would guess a format, and some formats are playlists that open other files and sockets. Here the first bytes decide, the
demuxer is named, and no protocol is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from urgentmos.audio import frames
from urgentmos.audio.containers import Part, PartView
from urgentmos.audio.streams import Stream, cut_off, length_sentence, undecodable
from urgentmos.errors import AudioError

STATED_SECONDS = 0.5  # by which the containers may misstate a duration: codecs delay and pad
OPTIONS = {"protocol_whitelist": "none"}

# The first bytes of the containers that libsndfile reads, too: FFmpeg knows more of the codecs in them.
_SOUND_FILES = {
    b"RIFF": "wav",
    b"RIFX": "wav",
    b"RF64": "wav",
    b"BW64": "wav",
    b"riff": "w64",
    b"fLaC": "flac",
    b"OggS": "ogg",
    b"FORM": "aiff",
    b"caff": "caf",
    b".snd": "au",
}


def installed() -> bool:
    """Whether FFmpeg's libraries are there."""
    from importlib.util import find_spec

    try:
        return find_spec("av") is not None
    except ValueError:  # a test, or a user, has hidden it
        return False


def demuxer(file: BinaryIO) -> str | None:
    """FFmpeg's name of the container that a file begins with; None if it is on no list. `file` is sought in."""
    file.seek(0)
    head = file.read(64)
    if head.startswith(b"ID3") and len(head) >= 10:  # ADTS may stand behind a tag, as in radio streams
        file.seek(frames.id3_size(head))
        head = file.read(64)
        return frames.demuxer_of(head) if frames.demuxer_of(head) == "aac" else None
    return frames.demuxer_of(head) or _SOUND_FILES.get(head[:4])


class AvStream(Stream):
    """A recording decoded by FFmpeg's libraries, with the demuxer that is named."""

    def __init__(self, where: str, file: BinaryIO, recordings: list[Part], container: str) -> None:
        super().__init__(where)
        self._file, self._parts, self._container = file, recordings, container
        self.n_samples = None
        self._seconds: list[float | None] = []  # that the containers state
        self._arrays = self._decoded(recordings[0])
        self._first = next(self._arrays, None)  # only a frame knows its channels
        self.channels = 1 if self._first is None else self._first.shape[1]
        self.holds_samples = self._first is not None

    def _decoded(self, part: Part) -> Iterator[np.ndarray]:
        """(t, C) float32 each."""
        import av

        count = 0
        try:
            view = PartView(self._file, part.start, part.end)
            with av.open(view, "r", format=self._container, options=OPTIONS, metadata_errors="replace") as container:
                if not container.streams.audio:
                    raise undecodable(self.where, "it holds no audio stream", part)
                stream = container.streams.audio[0]
                if stream.codec_context is None or not stream.rate:
                    raise undecodable(self.where, "its codec is not known", part)
                if not self._seconds:
                    self.rate = int(stream.rate)
                self._seconds.append(_stated_seconds(container, stream))
                # Packed samples: of planar frames of 8 and more channels PyAV reads planes past the end of its list.
                to_float = av.AudioResampler(format="flt", rate=self.rate)  # the layout stays
                for frame in container.decode(stream):
                    for out in to_float.resample(frame):
                        count += out.samples
                        yield _samples(out)
                for out in to_float.resample(None):
                    yield _samples(out)
        except (av.FFmpegError, ValueError) as e:
            if not (part.missing and count):  # of a file that was cut, the last frame may be half a one
                raise undecodable(self.where, getattr(e, "strerror", None) or e, part) from e

    def pieces(self, n: int) -> Iterator[np.ndarray]:
        decoded = 0
        for array in [] if self._first is None else _chained(self._first, self._arrays):
            decoded += len(array)
            yield array
        first = decoded
        for part in self._parts[1:]:
            for array in self._decoded(part):
                if array.shape[1] != self.channels:
                    unlike = f"it holds recordings of {self.channels} and of {array.shape[1]} channels"
                    raise undecodable(self.where, unlike, part)
                decoded += len(array)
                yield array
        self.warnings += cut_off(self._parts)
        stated = first / self.rate if len(self._parts) > 1 else self._seconds[0] if self._seconds else None
        if not self.warnings and stated and abs(stated - decoded / self.rate) > STATED_SECONDS:
            several = f" ({len(self._parts)} recordings, one after the other)" if len(self._parts) > 1 else ""
            self.warnings.append(length_sentence(stated, decoded / self.rate) + several)


def _samples(frame: Any) -> np.ndarray:
    """A frame of packed floats -> (t, C) float32."""
    channels = frame.layout.nb_channels
    plane = np.frombuffer(frame.planes[0], dtype=np.float32, count=frame.samples * channels)
    return plane.reshape(frame.samples, channels).copy()


def _chained(first: np.ndarray, others: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from others


def _stated_seconds(container: Any, stream: Any) -> float | None:
    """The duration that the container states; None where FFmpeg would only estimate it, or where it is that of a picture."""
    name = container.format.name
    if "mp4" in name and stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if "matroska" in name and container.duration is not None and len(container.streams) == 1:
        return float(container.duration / 1_000_000)
    return None


def missing_libraries(where: str) -> AudioError:
    """The error of a recording that only FFmpeg's libraries decode, where they are not installed."""
    return AudioError(f"{where} needs FFmpeg's libraries to decode. Install them with: pip install 'urgentmos[av]'")
