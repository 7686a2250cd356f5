"""Clips of a neural vocoder: sentences of a Piper voice, and the same decoded from damaged latents.

A Piper voice is a VITS: text -> latents (192 numbers, 86 times a second) -> a GAN decoder. A neural codec sends such latents
with fewer bits or less often, and its decoder rings, buzzes and slurs as this one does: what other degradations only imitate.
The reference signal of a content is what the undamaged latents say. Sentences mean nothing and are made up; contents are played
faster or slower, as other speakers.
"""

import argparse
import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from jsonl import write_rows
from simulate import SPEEDS
from tqdm import tqdm

from urgentmos.simulation.base import RATE
from urgentmos.simulation.transforms import codebook, nearest_code

VOICE_RATE = 22_050  # Hz
LATENTS = "/Mul_7_output_0"  # what the decoder of a Piper voice is given, (1, D, F)
SCALES = (0.667, 1.0, 0.8)  # noise, length, noise of durations: Piper's own
SECONDS = (4.55, 5.0)  # as simulate.LENGTHS has it
KINDS_PER_CONTENT = 3  # each in two strengths
LEVEL = 0.05  # RMS

WORDS = {
    "adjective": "quiet early broken yellow careful hollow distant frozen gentle sharp wooden narrow cheerful dusty seventh",
    "noun": "lantern river pigeon journal kitchen valley orchestra bicycle thunder fisherman garden message village shadow",
    "verb": "follows measures forgets covers visits changes pushes welcomes watches borrows judges catches teaches shelters",
}
PERSON = ("adjective", "noun")
PLACES = "by the church, under the old bridge, over the mountains, near the zoo, in July, behind the theatre, for two hours"


def sentence(rng: np.random.Generator) -> str:
    def one(words: list[str]) -> str:
        return words[int(rng.integers(len(words)))]

    def clause() -> str:
        who, does, what = ([one(WORDS[kind].split()) for kind in kinds] for kinds in (PERSON, ("verb",), PERSON))
        return f"the {' '.join(who)} {does[0]} the {' '.join(what)} {one(PLACES.split(', '))}"

    return f"{clause()} and {clause()}."


class Voice:
    """A Piper voice in two halves."""

    def __init__(self, path: Path) -> None:
        import onnx
        import onnxruntime
        from onnx.utils import Extractor

        whole = onnx.load(path)
        for place, node in enumerate(node for node in whole.graph.node if node.op_type == "RandomNormalLike"):
            node.attribute.append(onnx.helper.make_attribute("seed", float(place)))  # or no two runs would say the same
        halves = Extractor(whole)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.speak, self.decode = (
            onnxruntime.InferenceSession(halves.extract_model(*ends).SerializeToString(), options)
            for ends in ((["input", "input_lengths", "scales"], [LATENTS]), ([LATENTS], ["output"]))
        )
        settings = json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))
        self.accent, self.ids = settings["espeak"]["voice"], settings["phoneme_id_map"]

    def latents(self, text: str) -> np.ndarray:
        """(D, F) float32: the next saying of this voice, which draws noise."""
        spoken = subprocess.run(
            ["espeak-ng", "-q", "--ipa", "-v", self.accent, text], capture_output=True, text=True, check=True
        )
        places = [self.ids["^"][0], 0]
        for sound in f"{' '.join(spoken.stdout.split())}.":
            places += [*self.ids.get(sound, ()), 0] if sound in self.ids else []
        given = np.array([[*places, self.ids["$"][0]]], dtype=np.int64)
        length = np.array([given.shape[1]], dtype=np.int64)
        asked = {"input": given, "input_lengths": length, "scales": np.array(SCALES, dtype=np.float32)}
        return np.asarray(self.speak.run(None, asked)[0][0])

    def wave(self, latents: np.ndarray, speed: float) -> np.ndarray:
        """(D, F) -> (T,) at RATE, played at `speed`."""
        made = self.decode.run(None, {LATENTS: latents[None].astype(np.float32)})[0].reshape(-1)
        return np.asarray(soxr.resample(made, VOICE_RATE * speed, RATE), dtype=np.float32)


# ---- damage of latents (D, F) -> (D, F)


def noisy(latents: np.ndarray, seed: int, share: float) -> np.ndarray:
    """Noise of `share` of their deviation."""
    return latents + share * latents.std() * np.random.default_rng(seed).standard_normal(latents.shape)


def coded(latents: np.ndarray, seed: int, codes: int) -> np.ndarray:
    """Each frame by the nearest of `codes` frames."""
    rows = latents.T.astype(float)
    book = codebook(np.random.default_rng(seed), rows, codes)
    return np.asarray(book[nearest_code(rows, book)].T)


def rounded(latents: np.ndarray, seed: int, size: float) -> np.ndarray:
    """Each number to a multiple of `size` deviations."""
    step = size * latents.std()
    return np.asarray(np.round(latents / step) * step)


def held(latents: np.ndarray, seed: int, frames: int) -> np.ndarray:
    """A frame sent and `frames` - 1 not."""
    return np.repeat(latents[:, ::frames], frames, axis=1)[:, : latents.shape[1]]


def blurred(latents: np.ndarray, seed: int, frames: int) -> np.ndarray:
    """Means over `frames` frames."""
    return np.stack([np.convolve(row, np.ones(frames) / frames, "same") for row in latents])


Damage = Callable[..., np.ndarray]
LADDERS: dict[str, tuple[Damage, tuple[dict[str, Any], ...]]] = {
    "latent_noise": (noisy, tuple({"share": x} for x in (0.6, 0.9, 1.3, 1.8))),
    "latent_codes": (coded, tuple({"codes": n} for n in (128, 48, 16, 6))),
    "latent_rounding": (rounded, tuple({"size": x} for x in (1.4, 2.0, 2.6, 3.2))),
    "latent_hold": (held, tuple({"frames": n} for n in (2, 3, 4, 6))),
    "latent_blur": (blurred, tuple({"frames": n} for n in (3, 5, 9, 15))),
}


def chains(rng: np.random.Generator) -> list[list[dict[str, Any]]]:
    """The clean clip, and two strengths of each of some kinds of damage, described like chains of urgentmos.simulation."""
    found: list[list[dict[str, Any]]] = [[]]
    for name in rng.permutation(list(LADDERS))[:KINDS_PER_CONTENT]:
        ladder, seed = LADDERS[str(name)][1], int(rng.integers(2**31))
        for step in sorted(int(k) for k in rng.choice(len(ladder), 2, replace=False)):
            found.append([{"name": str(name), "setting": ladder[step], "step": step, "seed": seed}])
    return found


def content(voice: Voice, name: str, rng: np.random.Generator, out: Path) -> list[dict[str, Any]]:
    """The clips of one made-up sentence as manifest rows."""
    low, high = SPEEDS[int(rng.integers(len(SPEEDS)))]
    speed = 1.0 if rng.random() < 0.2 else round(float(rng.uniform(low, high)), 3)
    said, n_samples = voice.latents(sentence(rng)), int(rng.uniform(*SECONDS) * RATE)
    rows = []
    for number, chain in enumerate(chains(rng)):
        latents = said
        for step in chain:
            latents = partial(LADDERS[step["name"]][0], seed=step["seed"], **step["setting"])(latents)
        wave = voice.wave(latents, speed)[:n_samples]
        wave = np.pad(wave, (0, n_samples - len(wave)))
        wave *= min(LEVEL / (np.sqrt(np.mean(wave**2)) + 1e-9), 0.99 / (np.abs(wave).max() + 1e-9))
        path = out / "clips" / f"{name}.{f'{number:02d}' if chain else 'clean'}.flac"
        soundfile.write(path, wave, RATE, subtype="PCM_16")
        rows.append(
            {
                "uid": path.stem,
                "audio_path": f"clips/{path.name}",
                "system_id": "clean" if not chain else f"{chain[0]['name']}.{chain[0]['step']}#{number}",
                "reference_id": name,
                "corpus": "vocoder",
                "duration": round(n_samples / RATE, 4),
                "reference_path": f"clips/{name}.clean.flac",
                "metrics": {},
                "meta": {"simulation": chain, "speech": "piper", "speed": speed, "recordings": []},
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voice", type=Path, required=True, help="VOICE.onnx of Piper, with VOICE.onnx.json beside it")
    parser.add_argument("--contents", type=int, default=80, help="for training [%(default)s]")
    parser.add_argument("--test", type=int, default=12, help="contents for the test [%(default)s]")
    parser.add_argument("--out", type=Path, required=True, help="writes clips/, vocoder.train.jsonl and vocoder.test.jsonl")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    (args.out / "clips").mkdir(parents=True, exist_ok=True)
    voice = Voice(args.voice)
    for part, first, count in (("train", 0, args.contents), ("test", 100_000, args.test)):
        rows = []
        for number in tqdm(range(count), disable=None):
            rng = np.random.default_rng([args.seed, first + number])
            rows += content(voice, f"{args.voice.stem}-{part}{number:03d}", rng, args.out)
        write_rows(args.out / f"vocoder.{part}.jsonl", rows)


if __name__ == "__main__":
    main()
