"""Clean speech -> contents -> degraded clips, with a manifest: the first step of the recipe.

Contents are cut from the recordings of one speaker each; test contents are of other speakers than training contents where a
corpus has many. Of every content there are the clean clip and several degraded ones, each with its chain of degradations in
`meta.simulation`. Where speech is scarce, `--voices` goes through the training recordings again, in another order and played
faster or slower, as other speakers: clean speech all the same, and labels are measured on it like on any other. Clips that
exist are not made again. Some degradations are held out: only test contents hear them.
"""

import argparse
import csv
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from jsonl import write_rows
from tqdm import tqdm

from urgentmos.audio.samples import load
from urgentmos.clips.inputs import audio_below
from urgentmos.errors import AudioError
from urgentmos.simulation import RATE, Sources, neural, simulate
from urgentmos.simulation.plan import plan_content, plan_enhancers, usable

# Seconds, and how many contents of ten are in that range. DNSMOS looks at 9.01 s and doubles what is shorter until it fills
# them: just above 4.5 and 9.01 s one window does.
LENGTHS = ((2.4, 4.4, 1), (4.55, 5.0, 7), (9.05, 9.95, 2))
TEST_SHARE = 0.1  # of contents
GAP = 0.15  # seconds between recordings that are joined
SPEEDS = ((0.84, 0.95), (1.05, 1.19))  # of recordings played again, so that they sound like other speakers
# Recordings of another colour: gains at these frequencies, each going on from its neighbour nearer to 1 kHz by a drawn step
# (mean and deviation, dB), so that highs may fall as in a handset or lows be missing as far from a wall.
COLOUR_HZ = (62, 125, 250, 500, 1000, 2000, 4000, 8000)
LOWER, HIGHER = ((0, 3), (-1, 4), (-3, 6), (-4, 8)), ((-2, 5), (-3, 6), (-5, 10))
HELD_OUT = ("speex_narrow", "speex_wide", "g723", "rnnoise", "latent_codec", "partials", "loss_pitch_bursty", "flutter", "room")

Speech = dict[tuple[str, str], list[tuple[str, float]]]  # (corpus, speaker) -> its files and their seconds


class Content(NamedTuple):
    """One stretch of clean speech."""

    name: str
    corpus: str
    speaker: str
    files: tuple[str, ...]  # joined
    seconds: float
    test: bool
    speed: float = 1.0
    colour: tuple[float, ...] = ()  # gains in dB at COLOUR_HZ, where it has another than its recordings


def recordings(folder: Path) -> Speech:
    """From the `index.csv` beside the folder, or from its subfolders."""
    index = folder.parent / "index.csv"
    found: Speech = {}
    if index.is_file():
        with index.open(encoding="utf-8", newline="") as rows:
            for row in csv.DictReader(rows):
                if row["kind"] == folder.name:
                    key = (row["source"], row["speaker"])
                    found.setdefault(key, []).append((str(folder.parent / row["file"]), float(row["seconds"])))
        return found
    for path in audio_below(folder):
        where = Path(folder, path)
        found.setdefault((folder.name, where.parent.name), []).append((str(where), soundfile.info(where).duration))
    return found


def contents(speech: Speech, seed: int, test_share: float = TEST_SHARE) -> Iterator[Content]:
    """Each recording once: joined with the next of its speaker until the drawn length is reached."""
    speakers: dict[str, int] = {}
    for corpus, _ in speech:
        speakers[corpus] = speakers.get(corpus, 0) + 1
    for (corpus, speaker), files in sorted(speech.items()):
        rng = np.random.default_rng([seed, zlib.crc32(f"{corpus}/{speaker}".encode())])
        alone = speakers[corpus] < 4  # then its sentences are divided, not its speakers
        of_test = rng.random() < test_share
        for number, (joined, seconds, _) in enumerate(_joined(files, rng)):
            test = bool(rng.random() < test_share) if alone else of_test
            yield Content(f"{corpus}-{speaker}-{number:03d}", corpus, speaker, joined, seconds, test)


def other_voices(speech: Speech, first: Sequence[Content], voice: int, seed: int) -> Iterator[Content]:
    """The recordings of training contents again: in another order, and each content at a speed of its own."""
    for (corpus, speaker), files in sorted(speech.items()):
        rng = np.random.default_rng([seed, voice, zlib.crc32(f"{corpus}/{speaker}".encode())])
        heard = {file for c in first if (c.corpus, c.speaker) == (corpus, speaker) and not c.test for file in c.files}
        again = [row for row in files if row[0] in heard]
        again = [again[i] for i in rng.permutation(len(again))]
        for number, (joined, seconds, speed) in enumerate(_joined(again, rng, SPEEDS)):
            other = f"{speaker}-voice{voice}"
            yield Content(f"{corpus}-{other}-{number:03d}", corpus, other, joined, seconds, False, speed)


def coloured(content: Content, seed: int) -> Content:
    """The same content as another microphone would have heard it."""
    name = f"{content.name}-coloured"
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    low, high = (np.cumsum([rng.normal(*step) for step in steps]) for steps in (LOWER, HIGHER))
    return content._replace(name=name, colour=tuple(round(float(gain), 1) for gain in (*low[::-1], 0.0, *high)))


def _joined(
    files: Sequence[tuple[str, float]], rng: np.random.Generator, speeds: Sequence[tuple[float, float]] = ((1.0, 1.0),)
) -> Iterator[tuple[tuple[str, ...], float, float]]:
    """(files, seconds, speed) of one content after the other."""
    waiting: list[str] = []
    have, want, speed = 0.0, _length(rng), _speed(rng, speeds)
    for file, seconds in files:
        waiting.append(file)
        have += seconds / speed + GAP * (have > 0)
        if have >= want:
            yield tuple(waiting), want, speed
            waiting, have, want, speed = [], 0.0, _length(rng), _speed(rng, speeds)


def _speed(rng: np.random.Generator, speeds: Sequence[tuple[float, float]]) -> float:
    if len(speeds) == 1:
        return speeds[0][0]
    return round(float(rng.uniform(*speeds[int(rng.integers(len(speeds)))])), 3)


def _length(rng: np.random.Generator) -> float:
    shares = np.array([share for _, _, share in LENGTHS], dtype=float)
    low, high, _ = LENGTHS[int(rng.choice(len(LENGTHS), p=shares / shares.sum()))]
    return float(rng.uniform(low, high))


def clean_speech(content: Content) -> np.ndarray:
    """(T,) float32 at RATE, faded at its end, where a word may have been cut. AudioError if a file cannot be read."""
    parts: list[np.ndarray] = []
    for file in content.files:
        if parts:
            parts.append(np.zeros(int(GAP * RATE), np.float32))
        parts.append(load(file, round(RATE / content.speed)).wave)  # as if they were at RATE: faster, or slower
    wave = np.concatenate(parts)[: int(content.seconds * RATE)]
    if content.colour:
        wave = filtered(wave, content.colour)
    fade = int(0.02 * RATE)
    wave[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return wave


def filtered(wave: np.ndarray, colour: Sequence[float]) -> np.ndarray:
    """(T,) -> (T,) float32 with these gains, as loud as before or as full scale allows."""
    hertz = np.maximum(np.fft.rfftfreq(len(wave), 1 / RATE), COLOUR_HZ[0])
    gains = np.interp(np.log2(hertz), np.log2(COLOUR_HZ), colour)
    out = np.fft.irfft(np.fft.rfft(wave) * 10 ** (gains / 20), len(wave))
    out *= min(np.sqrt(np.mean(wave**2) / np.mean(out**2)), 0.95 / np.abs(out).max()) if out.any() else 1
    return np.asarray(out, dtype=np.float32)


def make(content: Content, chains: Sequence[list[dict]], sources: Sources, out: Path) -> list[dict]:
    """The clips of one content as manifest rows; a clip that a degradation makes inaudible is left out."""
    try:
        clean = clean_speech(content)
    except AudioError as e:
        print(f"left out: {e}")
        return []
    if np.sqrt(np.mean(clean**2)) < 3e-3:
        return []
    reference = out / "clips" / f"{content.name}.clean.flac"
    rows = []
    for number, chain in enumerate(chains):
        path = reference if not chain else out / "clips" / f"{content.name}.{number:02d}.flac"
        if not path.exists():
            try:
                wave = simulate(clean, chain, sources)
            except RuntimeError as e:  # one clip of thousands: not worth the others
                print(f"left out {path.stem}: {e}")
                continue
            if np.sqrt(np.mean(wave**2)) < 1e-4:
                continue
            unfinished = path.with_name(f"{path.stem}.part")
            soundfile.write(unfinished, wave, RATE, format="FLAC", subtype="PCM_16")
            unfinished.rename(path)
        rows.append(
            {
                "uid": path.stem,
                "audio_path": f"clips/{path.name}",
                "system_id": "clean" if not chain else "+".join(f"{s['name']}.{s['step']}" for s in chain) + f"#{number}",
                "reference_id": content.name,
                "corpus": "simulated",
                "duration": round(len(clean) / RATE, 4),
                "reference_path": f"clips/{reference.name}",
                "metrics": {},
                "meta": {
                    "simulation": chain,
                    "speaker": content.speaker,
                    "speech": content.corpus,
                    "speed": content.speed,
                    **({"colour": content.colour} if content.colour else {}),
                    "recordings": ["/".join(Path(file).parts[-2:]) for file in content.files],
                },
            }
        )
    return rows


def job(item: tuple) -> list[dict]:
    """One content, in a process of its own; an error names the content."""
    content, chains, sources, out = item
    try:
        return make(content, chains, sources, out)
    except Exception as e:
        raise RuntimeError(f"{content.name}: {e}") from e


def everywhere(work: Sequence[tuple], cluster: str) -> list[list[dict]]:
    """All contents over the cores of this machine ("local") or of a Ray cluster that sees the same folders, in order."""
    import ray

    ray.init(address=cluster, log_to_driver=False)
    task = ray.remote(num_cpus=1, max_retries=3)(job)
    return list(tqdm((ray.get(one) for one in [task.remote(item) for item in work]), total=len(work), disable=None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True, help="folder of clean speech, one subfolder per speaker")
    parser.add_argument("--noise", type=Path, required=True)
    parser.add_argument("--rooms", type=Path, required=True, help="folder of impulse responses")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=12.0, help="of clips, clean ones included, if the speech suffices [12]")
    parser.add_argument("--clips", type=int, default=7, help="per content, the clean one included [7]")
    parser.add_argument("--voices", type=int, default=0, help="times that training speech is used again as other speakers [0]")
    parser.add_argument(
        "--enhancers", type=int, default=0, metavar="N", help="N contents more, whose clips are enhancers of one mixture [0]"
    )
    parser.add_argument(
        "--coloured", type=int, default=0, metavar="N", help="N contents more, as other microphones would have heard them [0]"
    )
    parser.add_argument("--test-share", type=float, default=TEST_SHARE, help="of contents [%(default)s]")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--cluster", metavar="local|ADDRESS", help="let Ray spread the contents")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    (args.out / "clips").mkdir(parents=True, exist_ok=True)
    speech = recordings(args.speech)
    first = list(contents(speech, args.seed, args.test_share))
    rng, chosen = np.random.default_rng(args.seed), []
    for voice in range(args.voices + 1):
        found = list(other_voices(speech, first, voice, args.seed)) if voice else first
        chosen += [found[i] for i in rng.permutation(len(found))]
    sources = {}
    for test in (False, True):  # test contents hear noises of their own
        files = [[Path(folder, p) for p in audio_below(folder)] for folder in (args.noise, args.rooms)]
        noises, rooms = ([f for k, f in enumerate(each) if (k % 10 == 0) == test] for each in files)
        talkers = [Path(c.files[0]) for c in chosen if c.test == test]
        sources[test] = Sources(noises, talkers, rooms or files[1])
    families = {False: usable((*HELD_OUT, *neural.NAMES)), True: usable(neural.NAMES)}
    work, seconds = [], 0.0
    for content in chosen:
        if seconds > args.hours * 3600:
            break
        chains = plan_content(
            np.random.default_rng([args.seed, zlib.crc32(content.name.encode())]), args.clips, families[content.test]
        )
        work.append((content, chains, sources[content.test], args.out))
        seconds += content.seconds * len(chains)
    again = list(other_voices(speech, first, args.voices + 1, args.seed))
    for i in np.random.default_rng([args.seed, 1]).permutation(len(again))[: args.enhancers]:
        rng = np.random.default_rng([args.seed, zlib.crc32(again[i].name.encode())])
        work.append((again[i], plan_enhancers(rng, args.clips), sources[False], args.out))
    again = list(other_voices(speech, first, args.voices + 2, args.seed))
    for i in np.random.default_rng([args.seed, 2]).permutation(len(again))[: args.coloured]:
        content = coloured(again[i], args.seed)
        rng = np.random.default_rng([args.seed, zlib.crc32(content.name.encode())])
        work.append((content, plan_content(rng, args.clips, families[False]), sources[False], args.out))
    if args.cluster:
        made = everywhere(work, args.cluster)
    else:
        with ProcessPoolExecutor(args.jobs) as pool:
            made = list(tqdm(pool.map(job, work), total=len(work), unit="content", disable=None))
    for test, name in ((False, "train"), (True, "test")):
        rows = [row for (content, *_), clips in zip(work, made, strict=True) if content.test == test for row in clips]
        write_rows(args.out / f"{name}.jsonl", rows)
        print(f"{sum(row['duration'] for row in rows) / 3600:.2f} h")


if __name__ == "__main__":
    main()
