"""Where pocket fails: what it says of things that are no clean read English speech. For the model card's known failures.

Prints mean `mos_overall` of clean clips by corpus with the SRCC over all its clips, then of synthesised speech (examples/clean,
and espeak-ng where it is installed), whispered speech (WORLD without voice), a chord, noise, a tone and near-silence.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from evaluate import predicted
from scipy.stats import spearmanr
from targets import column, read

import urgentmos
from urgentmos.audio.samples import load as load_audio
from urgentmos.judges.base import Predictor
from urgentmos.simulation import RATE, chain_step, degradations, simulate

SENTENCES = (
    "The kettle sings before the water boils.",
    "Three green boats left the harbour at noon.",
    "Please read the letter twice.",
)


def by_corpus(model: Predictor, rows: list[dict]) -> None:
    told, known = predicted(model, rows)["mos_overall"], column(rows, "mos_overall")
    print("| speech | clean clips | predicted | pseudo-label | SRCC over all its clips | n |\n|---|---|---|---|---|---|")
    for corpus in sorted({row["meta"]["speech"] for row in rows}):
        own = np.array([row["meta"]["speech"] == corpus for row in rows]) & np.isfinite(known)
        clean = own & np.array([not row["meta"]["simulation"] for row in rows])
        if own.sum() > 20:
            srcc = spearmanr(told[own], known[own])[0]
            means = f"{told[clean].mean():.2f} | {known[clean].mean():.2f}"
            print(f"| {corpus} | {clean.sum()} | {means} | {srcc:.2f} | {own.sum()} |")


def spoken(voice: str, folder: Path) -> list[np.ndarray]:
    waves = []
    for k, text in enumerate(SENTENCES):
        path = folder / f"{k}.wav"
        subprocess.run(["espeak-ng", "-v", voice, "-w", str(path), text], check=True, capture_output=True)
        waves.append(load_audio(path, RATE).wave)
    return waves


def strange(examples: Path, rows: list[dict]) -> dict[str, list[np.ndarray]]:
    """name -> waves (T,)."""
    time = np.arange(5 * RATE) / RATE
    rng = np.random.default_rng(0)
    chord = sum(np.sin(2 * np.pi * f * time) / k for f in (220.0, 277.2, 329.6) for k in (1, 2, 3))
    clean = [load_audio(row["audio_path"], RATE).wave for row in rows if row["system_id"] == "clean"][:8]
    found = {
        "clean speech, for comparison": clean,
        "the same, whispered by WORLD": [simulate(w, [chain_step("world_whisper", 4, k)]) for k, w in enumerate(clean)]
        if not degradations()["world_whisper"].missing()
        else [],
        "synthesised (examples/clean)": [load_audio(path, RATE).wave for path in sorted(examples.glob("clean/*.flac"))],
        "a chord, fading": [(0.05 * chord * np.exp(-time)).astype(np.float32)],
        "a tone": [(0.1 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)],
        "white noise": [(0.1 * rng.standard_normal(5 * RATE)).astype(np.float32)],
        "silence with dither": [(1e-5 * rng.standard_normal(5 * RATE)).astype(np.float32)],
    }
    try:
        with tempfile.TemporaryDirectory() as folder:
            found["espeak-ng, English"] = spoken("en-gb", Path(folder))
    except (FileNotFoundError, subprocess.CalledProcessError):
        print("espeak-ng is not installed: left out")
    return {name: waves for name, waves in found.items() if waves}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--examples", type=Path, default=Path("examples"))
    args = parser.parse_args()
    model = urgentmos.load(args.model)
    rows = read([args.test])
    by_corpus(model, rows)
    print("\n| sound | n | mean mos_overall | from | to |\n|---|---|---|---|---|")
    for name, waves in strange(args.examples, rows).items():
        told = [model.score(wave, sample_rate=RATE).metrics["mos_overall"] or np.nan for wave in waves]
        print(f"| {name} | {len(told)} | {np.mean(told):.2f} | {min(told):.2f} | {max(told):.2f} |")


if __name__ == "__main__":
    main()
