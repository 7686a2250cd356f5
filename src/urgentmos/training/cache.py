"""Features of frozen encoders on disk, so that a frozen encoder runs once per clip and not once per epoch.

One .npy per clip and encoder, fp16: (layers + 1, F, D) where the layers' weights are learned, (1, F, D) where the last
layer is used. A file is written whole or not at all, so filling the cache goes on where it stopped. The name of a file is
a fingerprint of the encoder with its weights, the recording's path, size and time, and the length that is used.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from urgentmos.audio.samples import collate
from urgentmos.clips.clip import Clip
from urgentmos.errors import AudioError, UsageError
from urgentmos.files import replacing
from urgentmos.nets.encoder import Encoder, normalised
from urgentmos.nets.layers import layer_sum, zero_padding


class FeatureCache:
    """The cache of all encoders of one net. UsageError if one of them learns, since its features would not last."""

    def __init__(self, folder: str | Path, encoders: Sequence[Encoder], max_seconds: float) -> None:
        learning = [e.config.kind for e in encoders if not e.config.frozen]
        if learning:
            raise UsageError(f"the features of a {learning[0]} encoder that learns cannot be cached. Leave out cache=.")
        self.folder = Path(folder)
        self.marks = [f"{fingerprint(encoder)}:{max_seconds:g}" for encoder in encoders]

    def path(self, clip: Clip, encoder: int) -> Path:
        """The path of a clip's features, written or not. AudioError if the recording is not there."""
        full = os.path.realpath(clip.audio_path)
        try:
            about = os.stat(full)
        except OSError as e:
            raise AudioError(f"{clip.audio_path} cannot be opened ({e.strerror})") from e
        text = f"{self.marks[encoder]}\0{full}\0{about.st_size}\0{about.st_mtime_ns}"
        name = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=20).hexdigest()
        return self.folder / name[:2] / f"{name}.npy"

    def load(self, clip: Clip) -> list[np.ndarray]:
        """One (L, F, D) float16 per encoder. AudioError if they are not there."""
        frames = []
        for k in range(len(self.marks)):
            path = self.path(clip, k)
            try:
                frames.append(np.load(path, allow_pickle=False))
            except (OSError, ValueError) as e:
                raise AudioError(f"{clip.audio_path} has no cached features ({path.name})") from e
        return frames

    def fill(
        self,
        clips: Sequence[Clip],
        encoders: Sequence[Encoder],
        read: Callable[[Clip], np.ndarray],
        device: str,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> int:
        """Make what is missing; the number of clips whose features were made. A clip that cannot be read is passed over."""
        count = 0
        for done, clip in enumerate(clips, start=1):
            try:
                missing = [k for k in range(len(encoders)) if not self.path(clip, k).exists()]
                wave = read(clip) if missing else None
            except AudioError:
                missing, wave = [], None
            for k in missing:
                assert wave is not None
                _write(self.path(clip, k), clip_states(encoders[k].to(device), wave, device))
            count += bool(missing)
            if progress:
                progress("encoding", done, len(clips))
        return count


def fingerprint(encoder: Encoder) -> str:
    """Of an encoder's configuration and weights; the layer weights, which are learned, do not count."""
    digest = hashlib.blake2b(json.dumps(encoder.config.to_dict(), sort_keys=True).encode(), digest_size=16)
    for name, value in sorted(encoder.state_dict().items()):
        if name != "weights":
            digest.update(name.encode())
            digest.update(
                value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
                if value.ndim
                else str(value.item()).encode()
            )
    return digest.hexdigest()


def clip_states(encoder: Encoder, wave: np.ndarray, device: str = "cpu") -> np.ndarray:
    """(T,) -> (L, F, D) float16 of one clip alone: all states where their weights are learned, else the last."""
    batch = collate([wave], [""])
    x, n = torch.from_numpy(batch.wave).to(device), torch.from_numpy(batch.n_samples).to(device)
    with torch.no_grad():
        states = encoder.states(normalised(x, n) if encoder.config.normalise else x, n)
    frames = int(encoder.n_frames(n)[0])
    kept = states if encoder.weights is not None else states[-1:]
    together = torch.stack([state[0, :frames] for state in kept]).float()
    limit = torch.finfo(torch.float16).max
    return np.asarray(together.clamp(-limit, limit).half().cpu().numpy())


def branch(encoder: Encoder, states: Sequence[np.ndarray | None], device: torch.device) -> tuple[Tensor, Tensor]:
    """Cached states of B clips, None for a clip without -> what the encoder returns: frames (B, F, D), n_frames (B,)."""
    depth = 1 if encoder.weights is None else len(encoder.weights)
    nothing = np.zeros((depth, 1, encoder.dim), dtype=np.float16)
    arrays = [nothing if state is None else state for state in states]
    n = torch.tensor([array.shape[1] for array in arrays], device=device)
    padded = np.zeros((depth, len(arrays), int(n.max()), encoder.dim), dtype=np.float16)
    for k, array in enumerate(arrays):
        padded[:, k, : array.shape[1]] = array
    layers = list(torch.from_numpy(padded).to(device).float())
    frames = layers[-1] if encoder.weights is None else layer_sum(layers, encoder.weights)
    return zero_padding(frames, n), n


def _write(path: Path, states: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, sync=False) as file:
        np.save(file, states)
