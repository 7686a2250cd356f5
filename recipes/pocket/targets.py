"""What pocket's `mos_overall` is taught: a pseudo-label, since no human scores are at hand to train on; and known orders.

A consensus of measured metrics, each standardised over the training clips, weighted by WEIGHTS, and put on the MOS scale by
a straight line fitted to the human overall scores of P.835 (its only use here). `--compare` prints how every consensus that
was considered correlates with those scores: the weights were chosen by it.

Within a content the pseudo-labels are then made to agree with what is known from how the clips were made: what came of a clip
by further damage, or by a stronger setting of the same, is not better than it. Known orders are also written as pair rows,
with a CMOS of at least LEAST.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jsonl import read_rows, write_rows
from scipy.stats import pearsonr, spearmanr

from urgentmos.simulation import known_orders
from urgentmos.training.data import is_held_out

WEIGHTS = {"distill_mos": 1.0, "pesq": 0.5, "pesqc2": 0.5, "plcmos": 0.5}
CANDIDATES: tuple[dict[str, float], ...] = (
    {"distill_mos": 1},
    {"pesq": 1},
    {"pesqc2": 1},
    {"plcmos": 1},
    {"dnsmos_ovrl": 1},
    {"estoi": 1},
    {"distill_mos": 1, "dnsmos_ovrl": 1},
    {"distill_mos": 1, "plcmos": 1},
    {"distill_mos": 1, "pesq": 0.5, "pesqc2": 0.5},
    WEIGHTS,
    {**WEIGHTS, "estoi": 0.5},
    {**WEIGHTS, "dnsmos_ovrl": 0.5},
)
# Of the line from that consensus to the MOS scale, as fitted for the shipped weights: used where no P.835 clips are given.
SLOPE, OFFSET = 0.983, 3.217
LEAST = 0.1
NEEDED = ("distill_mos", "plcmos")  # the rest of the consensus needs a reference signal, which some clips lack
# PLCMOS was made for gaps in clean speech, and takes noise that drowns the speech for something good (examples/clean in white
# noise at 14, 4 and -6 dB: 2.3, 2.7, 3.6). So its weight falls to nothing between these two values of DNSMOS BAK.
IN_QUIET = {"plcmos": (2.0, 3.5)}
BACKGROUND = "dnsmos_bak"
# Their clips are out of time with the clean signal, on purpose: what compares sample by sample says too little of them.
OUT_OF_TIME = ("jitter", "jitter_holes", "world_warped")
# A network makes the wave of these anew (vocoder.py). PESQ wants the same wave: it rates them six tenths of a deviation
# below Distill-MOS, other vocoders one tenth. So it has no vote on them.
REGENERATED = "latent_"
INTRUSIVE = ("pesq", "pesqc2", "estoi", "sdr", "lsd", "mcd")
ROUNDS = 200
PSEUDO = "predicted by the recipe's pseudo-label, in agreement with known orders"


def read(paths: Iterable[Path]) -> list[dict]:
    """The rows of labelled manifests that have any label, their paths made absolute, without labels that mean nothing.

    A clip that several manifests have is one row. The first manifest that knows a label has the say.
    """
    clips: dict[str, dict] = {}
    for path in paths:
        for row in read_rows(path):
            if not any(value is not None for value in row["metrics"].values()):
                continue  # it could not be heard; where only some labels are missing, the others count
            for key in ("audio_path", "reference_path"):
                row[key] = str((path.parent / row[key]).resolve()) if row.get(key) else None
            first = clips.setdefault(row["audio_path"], row)
            known = {n: v for n, v in first["metrics"].items() if v is not None}
            sources = {n: s for n, s in first.get("sources", {}).items() if n in known}
            others = {n: s for n, s in row.get("sources", {}).items() if n not in known}
            first["metrics"], first["sources"] = {**row["metrics"], **known}, {**others, **sources}
    for row in clips.values():
        if any(step["name"] in OUT_OF_TIME for step in row["meta"].get("simulation", ())):
            row["metrics"] = {name: None if name in INTRUSIVE else value for name, value in row["metrics"].items()}
    return list(clips.values())


def column(rows: Sequence[dict], metric: str) -> np.ndarray:
    """(B,) with NaN where missing."""
    values = [row["metrics"].get(metric) for row in rows]
    return np.array([np.nan if value is None else value for value in values], dtype=float)


class Consensus:
    """Standardised metrics, weighted; fitted to the MOS scale of a listening test."""

    def __init__(
        self,
        weights: dict[str, float],
        training: Sequence[dict],
        human: Sequence[dict],
        in_quiet: Mapping[str, tuple[float, float]] = IN_QUIET,
    ) -> None:
        self.weights, self.in_quiet = weights, in_quiet
        known = {name: column(training, name) for name in weights}
        self.mean = {name: float(np.nanmean(values)) for name, values in known.items()}
        self.std = {name: float(np.nanstd(values)) for name, values in known.items()}
        self.slope, self.offset = np.polyfit(self.raw(human), opinions(human), 1) if human else (SLOPE, OFFSET)

    def raw(self, rows: Sequence[dict]) -> np.ndarray:
        """(B,) the mean of those of its metrics that are known, NaN where one of NEEDED is not."""
        known = {name: (column(rows, name) - self.mean[name]) / self.std[name] for name in self.weights}
        weights = np.stack([np.where(np.isfinite(x), self.weights[n] * self._heed(n, rows), 0.0) for n, x in known.items()])
        values = np.stack([np.nan_to_num(x) for x in known.values()])
        total = weights.sum(axis=0)
        mean = (weights * values).sum(axis=0) / np.where(total > 0, total, 1)
        lacking = np.any([np.isnan(x) for name, x in known.items() if name in NEEDED], axis=0) | (total == 0)
        return np.asarray(np.where(lacking, np.nan, mean))

    def _heed(self, metric: str, rows: Sequence[dict]) -> np.ndarray:
        """(B,) from 0 to 1: the part of its weight that a metric has on clips made like these, on a background like theirs."""
        if metric in INTRUSIVE:
            anew = [any(s["name"].startswith(REGENERATED) for s in r["meta"].get("simulation", ())) for r in rows]
            return np.where(anew, 0.0, 1.0)
        if metric not in self.in_quiet:
            return np.ones(len(rows))
        low, high = self.in_quiet[metric]
        return np.clip((np.nan_to_num(column(rows, BACKGROUND), nan=high) - low) / (high - low), 0.0, 1.0)

    def mos(self, rows: Sequence[dict]) -> np.ndarray:
        """(B,) from 1 to 5."""
        return np.clip(self.slope * self.raw(rows) + self.offset, 1.0, 5.0)


def opinions(rows: Sequence[dict]) -> np.ndarray:
    return np.array([row["meta"]["human"]["mos_overall"] for row in rows])


def pair_accuracy(rows: Sequence[dict], told: np.ndarray) -> float:
    """Share of pairs within a content, with different human scores, whose order is right."""
    human, right = opinions(rows), []
    for i, a in enumerate(rows):
        for j in range(i):
            if a["reference_id"] == rows[j]["reference_id"] and human[i] != human[j]:
                right.append((told[i] - told[j]) * (human[i] - human[j]) > 0)
    return float(np.mean(right))


def ordered(values: np.ndarray, orders: Sequence[tuple[int, int]]) -> np.ndarray:
    """The values moved as little as it takes until, for every (better, worse), the first is not smaller."""
    out = values.copy()
    for _ in range(ROUNDS):
        wrong = [(i, j) for i, j in orders if out[i] < out[j] - 1e-3]
        if not wrong:
            break
        for i, j in wrong:
            out[i] = out[j] = (out[i] + out[j]) / 2
    return out


def teach(rows: Sequence[dict], told: np.ndarray) -> list[dict]:
    """Fill in `mos_overall`: told (B,), made to agree with the known orders; return those as pair rows."""
    told = told.copy()
    contents: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        contents.setdefault(f"{row['corpus']}/{row['reference_id']}", []).append(place)
    pairs = []
    for places in contents.values():
        places = [place for place in places if np.isfinite(told[place])]
        made = [place for place in places if "simulation" in rows[place]["meta"]]
        orders = known_orders([rows[place]["meta"]["simulation"] for place in made])
        moved = ordered(told[made], orders)
        told[made] = moved
        for i, j in orders:
            a, b = rows[made[i]], rows[made[j]]
            pairs.append(
                {
                    "uids": [a["uid"], b["uid"]],
                    "audio_paths": [a["audio_path"], b["audio_path"]],
                    "durations": [a["duration"], b["duration"]],
                    "metrics": {"mos_overall": round(max(float(moved[i] - moved[j]), LEAST), 4)},
                    "sources": {"mos_overall": PSEUDO},
                    "scope": "reference",
                }
            )
    for row, value in zip(rows, told, strict=True):
        row["metrics"]["mos_overall"] = round(float(value), 4) if np.isfinite(value) else None
        row["sources"] = {**row.get("sources", {}), "mos_overall": PSEUDO}
    return pairs


def divided(rows: Sequence[dict], valid_share: float) -> tuple[list[dict], list[dict]]:
    """(for training, for validation) by content. A recording of validation is heard at no other speed in training, either."""
    again = [row["meta"].get("speed", 1) != 1 for row in rows]
    held = [is_held_out(r["reference_id"], valid_share) and not a for r, a in zip(rows, again, strict=True)]
    validation = [row for row, h in zip(rows, held, strict=True) if h]
    return apart([row for row, h in zip(rows, held, strict=True) if not h], validation), validation


def apart(rows: Sequence[dict], validation: Sequence[dict]) -> list[dict]:
    """The rows that share no recording with any of validation."""
    kept = {file for row in validation for file in row["meta"].get("recordings", ())}
    return [row for row in rows if kept.isdisjoint(row["meta"].get("recordings", ()))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, nargs="+", help="labelled manifests")
    parser.add_argument("--scale", type=Path, nargs="*", help="manifests whose clips set means and deviations [LABELS]")
    parser.add_argument("--human", type=Path, help="labelled P.835 clips with meta.human")
    parser.add_argument("--compare", action="store_true", help="print the candidates and how they do; needs --human")
    parser.add_argument("--valid-share", type=float, default=0.0, help="of contents, for OUT.valid.jsonl, by their names [0]")
    parser.add_argument("--out", type=Path, required=True, help="writes OUT.jsonl and OUT.pairs.jsonl, known orders")
    args = parser.parse_args()
    rows, human = read(args.labels), read([args.human] if args.human else [])
    scale = read(args.scale) if args.scale else rows
    if args.compare:
        for weights, in_quiet in [*((w, IN_QUIET if len(w) > 1 else {}) for w in CANDIDATES), (WEIGHTS, {})]:
            one = Consensus(weights, scale, human, in_quiet)
            told, heard = one.raw(human), opinions(human)
            lcc, srcc, pairs = pearsonr(told, heard)[0], spearmanr(told, heard)[0], pair_accuracy(human, told)
            what = " + ".join(f"{weight:g} {name}" for name, weight in weights.items())
            print(f"LCC {lcc:.3f} SRCC {srcc:.3f} pairs {pairs:.3f} {what}{', PLCMOS in quiet' if in_quiet else ''}")
    consensus = Consensus(WEIGHTS, scale, human)
    print(f"mos_overall = {consensus.slope:.3f} x the consensus + {consensus.offset:.3f}")
    orders = teach(rows, consensus.mos(rows))
    training, validation = divided(rows, args.valid_share)
    heard = {row["audio_path"] for row in training}
    write_rows(Path(f"{args.out}.jsonl"), training)
    write_rows(Path(f"{args.out}.pairs.jsonl"), [row for row in orders if row["audio_paths"][0] in heard])
    if args.valid_share:
        write_rows(Path(f"{args.out}.valid.jsonl"), validation)


if __name__ == "__main__":
    main()
