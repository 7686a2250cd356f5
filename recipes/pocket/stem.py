"""A model with a cheaper stem (fewer channels, a rectifier) that is taught to say what the old stem said; all else stays.

    python stem.py MODEL --data taught.jsonl rest.jsonl --channels 16 48 96 128 --out OUT

The old network is the teacher, so clips need no labels. Compared are the states of its encoder (the stem's output and those of
the layers behind it, which are kept as they are), each by its squared error over its variance; halves of clips at other speeds
are heard as well as whole ones. The new stem begins with the old one's weights, less the channels that weigh least.
"""

import argparse
import copy
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np
import torch
from jsonl import read_rows
from torch import Tensor, nn

from urgentmos.audio import samples as audio
from urgentmos.models.folder import build, load, save
from urgentmos.nets.conv import ConvEncoder
from urgentmos.nets.layers import valid_mask
from urgentmos.training.augment import Augment

RATE = 16_000
SPEED, CROP = 0.1, 0.5  # as far as clips are changed: 0.9 to 1.1 times, and half of a clip at least
CLIPS = 8  # in a batch
REPORT = 100  # steps
OF_THE_OLD = ("version", "format", "config", "validation", "intervals", "verdict_temperature")


def thinner(stem: dict[str, Tensor], channels: Sequence[int]) -> dict[str, Tensor]:
    """The weights of a stem -> those of one with so many channels: of each layer those whose output weighs most in the next.

    The last layer keeps all that it has.
    """
    state = dict(stem)
    for i, n in enumerate(channels[:-1]):
        heard = state[f"convs.{i + 1}.weight"]  # (next, channels, 3, 3), of channels that a batch norm gave one size
        kept = (heard.square().sum(dim=(0, 2, 3)) * state[f"norms.{i}.weight"].square()).topk(n).indices.sort().values
        for name, value in state.items():
            if name.startswith((f"convs.{i}.", f"norms.{i}.")) and value.ndim:
                state[name] = value[kept]
        state[f"convs.{i + 1}.weight"] = heard[:, kept]
    return state


def renewed(teacher: nn.Module, channels: Sequence[int]) -> nn.Module:
    """The same network with another stem."""
    config = copy.deepcopy(teacher.config.to_dict())
    config["encoders"][0]["model"] |= {"channels": list(channels), "activation": "relu"}
    net = build("urgentmos", config)
    prefix = "encoders.0.stem."
    old = teacher.state_dict()
    stem = thinner({name.removeprefix(prefix): value for name, value in old.items() if name.startswith(prefix)}, channels)
    net.load_state_dict(old | {prefix + name: value for name, value in stem.items()})
    return net.eval().requires_grad_(False)


def error(student: ConvEncoder, teacher: ConvEncoder, wave: Tensor, n_samples: Tensor) -> Tensor:
    """Mean over the states: squared error over variance, of frames inside the clips."""
    n = 1 + n_samples // teacher.sizes.hop
    with torch.no_grad():
        mel = teacher.mel(wave, n_samples)
        wanted = teacher.states_of(mel, n)
    said = student.states_of(mel, n)
    inside = valid_mask(teacher.n_frames(n_samples), said[0].shape[1])
    return torch.stack([(s - w)[inside].square().mean() / w[inside].var() for s, w in zip(said, wanted, strict=True)]).mean()


def batches(paths: Sequence[Path], seed: int, shortest: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Clips without end, each heard in part and at a speed of its own: (B, T) and (B,)."""
    rng, augment = np.random.default_rng(seed), Augment(SPEED, CROP, seed)

    def heard(index: int) -> list[np.ndarray]:
        drawn = [paths[i] for i in rng.choice(len(paths), CLIPS, replace=False)]
        return augment([audio.load(path, RATE).wave for path in drawn], [str(path) for path in drawn], index, shortest)

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(heard, 0)
        for index in count(1):
            batch = audio.collate(coming.result(), [""] * CLIPS)
            coming = pool.submit(heard, index)
            yield torch.from_numpy(batch.wave), torch.from_numpy(batch.n_samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="manifests of clips, with labels or without")
    parser.add_argument("--channels", type=int, nargs="+", required=True, help="of the stem's layers")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--lr", type=float, default=2e-3, help="falls to 0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    paths = sorted({manifest.parent / row["audio_path"] for manifest in args.data for row in read_rows(manifest)})
    loaded = load(args.model)
    net = renewed(loaded.net, args.channels)
    student, teacher = net.encoders[0], loaded.net.encoders[0]
    student.stem.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(student.stem.parameters(), lr=args.lr, weight_decay=0.0)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, args.steps)
    coming = batches(paths, args.seed, teacher.min_samples)
    errors: list[float] = []
    for step, (wave, n_samples) in zip(range(1, args.steps + 1), coming, strict=False):
        loss = error(student, teacher, wave, n_samples)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        errors.append(float(loss.detach()))
        if step % REPORT == 0:
            print(f"step {step}: error {np.mean(errors[-REPORT:]):.4f}", flush=True)
    kept = {key: value for key, value in loaded.info.items() if key not in OF_THE_OLD}
    save(args.out, net.eval(), {**kept, "started_from": {"name": kept["name"], "version": loaded.info["version"]}})


if __name__ == "__main__":
    main()
