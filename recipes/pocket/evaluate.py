"""How good a model is, on what it never heard: every head, the pairs, human scores, real enhancers, robustness.

Prints Markdown; `--out` also keeps the numbers as JSON. Intervals are bootstraps over contents. TEST is what `targets.py` made
of the test manifest, so its `mos_overall` is the pseudo-label.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from jsonl import read_rows
from scipy.stats import pearsonr, spearmanr
from simulate import HELD_OUT
from targets import column, opinions, pair_accuracy, read

import urgentmos
from urgentmos.audio.samples import load as load_audio
from urgentmos.clips.clip import Clip
from urgentmos.judges.base import Predictor
from urgentmos.simulation import RATE, chain_step, degradations, simulate

PEERS = ("distill_mos", "dnsmos_ovrl", "plcmos", "pesq", "pesqc2")
LADDERS = ("white", "opus", "amr", "mnru", "lowpass", "clip", "loss_silence", "world_envelope")
SAMPLES = 500
MOST_PAIRS = 3000


def clips_of(rows: Sequence[dict]) -> list[Clip]:
    return [
        Clip(r["uid"], r["audio_path"], r["system_id"], r["reference_id"], r["corpus"], r["duration"], metrics={}) for r in rows
    ]


def covered(model: Predictor, rows: Sequence[dict]) -> dict[str, float]:
    """metric -> the share of measured values that lie in the interval of their score."""
    scores = list(model.score_clips(clips_of(rows)))
    inside: dict[str, list[bool]] = {}
    for row, score in zip(rows, scores, strict=True):
        for metric, (low, high) in (score.intervals or {}).items():
            if row["metrics"].get(metric) is not None:
                inside.setdefault(metric, []).append(low <= row["metrics"][metric] <= high)
    return {metric: float(np.mean(found)) for metric, found in inside.items()}


def predicted(model: Predictor, rows: Sequence[dict]) -> dict[str, np.ndarray]:
    """metric -> (B,)."""
    scores = list(model.score_clips(clips_of(rows)))
    return {m: np.array([np.nan if (v := s.metrics.get(m)) is None else v for s in scores], dtype=float) for m in model.metrics}


def spread(rows: Sequence[dict], number: Callable[[np.ndarray], float]) -> tuple[float, float, float]:
    """A number of places (B,), and its 95 % interval over resampled contents."""
    contents: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        contents.setdefault(row["reference_id"], []).append(place)
    groups = [np.array(places) for places in contents.values()]
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(SAMPLES):
        drawn.append(number(np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return number(np.arange(len(rows))), float(low), float(high)


def heads(title: str, rows: Sequence[dict], told: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """LCC, SRCC and RMSE of every head with what was measured."""
    out: dict[str, dict[str, float]] = {}
    print(f"\n### {title}: {len(rows)} clips, {len({r['reference_id'] for r in rows})} contents\n")
    print("| metric | n | LCC | SRCC | 95 % | RMSE |\n|---|---|---|---|---|---|")
    for metric, values in told.items():
        known = column(rows, metric)
        good = np.isfinite(known) & np.isfinite(values)
        if good.sum() < 10 or np.std(known[good]) == 0:
            continue
        places = np.flatnonzero(good)
        some = [rows[i] for i in places]
        x, y = values[places], known[places]
        lcc = float(pearsonr(x, y)[0])
        srcc, low, high = spread(some, lambda i, x=x, y=y: float(spearmanr(x[i], y[i])[0]))
        rmse = float(np.sqrt(np.mean((x - y) ** 2)))
        out[metric] = {"n": len(places), "lcc": lcc, "srcc": srcc, "low": low, "high": high, "rmse": rmse}
        print(f"| `{metric}` | {len(places)} | {lcc:.3f} | {srcc:.3f} | {low:.3f} to {high:.3f} | {rmse:.3g} |")
    return out


def pairs_of(rows: Sequence[dict], metric: str) -> list[tuple[int, int, float]]:
    """Pairs within a content whose difference in `metric` is known, at most MOST_PAIRS."""
    known = column(rows, metric)
    contents: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        if np.isfinite(known[place]):
            contents.setdefault(row["reference_id"], []).append(place)
    found = [(i, j, known[i] - known[j]) for places in contents.values() for i, j in combinations(places, 2)]
    rng = np.random.default_rng(0)
    if len(found) > MOST_PAIRS:
        found = [found[i] for i in sorted(rng.choice(len(found), MOST_PAIRS, replace=False))]
    return found


def judged(model: Predictor, rows: Sequence[dict], pairs: Iterable[tuple[int, int, float]]) -> np.ndarray:
    """(P, 4): p_a, p_tie, p_b, CMOS."""
    clips = clips_of(rows)
    said = model.compare_clips([(clips[i], clips[j]) for i, j, _ in pairs])
    return np.array([[c.p_a, c.p_tie, c.p_b, c.cmos] for c in said])


def preferences(title: str, model: Predictor, rows: Sequence[dict], told: dict[str, np.ndarray]) -> dict[str, float]:
    """acc_0 and acc_0.5 of `compare` against the sign of the pseudo-label and of each peer; how honest p is."""
    pairs = pairs_of(rows, "mos_overall")
    said = judged(model, rows, pairs)
    delta = np.array([d for *_, d in pairs])
    ahead = said[:, 0] - said[:, 2]
    some = np.abs(delta) > 1e-3
    label = np.where(delta > 0.5, 0, np.where(delta < -0.5, 2, 1))
    verdict = said[:, :3].argmax(axis=1)
    by_score = np.array([told["mos_overall"][i] - told["mos_overall"][j] for i, j, _ in pairs])
    out = {
        "pairs": len(pairs),
        "acc_0": float(np.mean((ahead * delta > 0)[some])),
        "acc_0 of score differences": float(np.mean((by_score * delta > 0)[some])),
        "acc_0.5": float(np.mean(verdict == label)),
        "calibration error": calibration_error(said[:, :3], label),
    }
    for peer in PEERS:
        known = column(rows, peer)
        gap = np.array([known[i] - known[j] for i, j, _ in pairs])
        fine = np.isfinite(gap) & (gap != 0)
        out[f"sign of {peer}"] = float(np.mean((ahead * gap > 0)[fine]))
    print(f"\n### {title}: {len(pairs)}\n\n| | |\n|---|---|")
    for name, value in list(out.items())[1:]:
        print(f"| {name} | {value:.3f} |")
    return out


def calibration_error(p: np.ndarray, label: np.ndarray, bins: int = 10) -> float:
    """Mean distance between the probability of the verdict and how often it is right, over bins of that probability."""
    sure, right = p.max(axis=1), p.argmax(axis=1) == label
    place = np.minimum((sure * bins).astype(int), bins - 1)
    return float(
        sum(np.abs(sure[place == k].mean() - right[place == k].mean()) * np.mean(place == k) for k in np.unique(place))
    )


def known(model: Predictor, rows: Sequence[dict], orders: Path) -> dict[str, float]:
    """Share of pairs whose order follows from how they were made that `compare` gets right, and each peer's score."""
    place = {row["audio_path"]: i for i, row in enumerate(rows)}
    both = [row["audio_paths"] for row in read_rows(orders)]
    pairs = [(place[a], place[b], 1.0) for a, b in both]
    said = judged(model, rows, pairs)
    out = {"pairs": len(pairs), "of them clean against damaged": sum(rows[i]["system_id"] == "clean" for i, *_ in pairs)}
    out["this model, compare"] = float(np.mean(said[:, 0] > said[:, 2]))
    for peer in PEERS:
        values = column(rows, peer)
        gap = np.array([values[i] - values[j] for i, j, _ in pairs])
        out[peer] = float(np.mean(gap[np.isfinite(gap)] > 0))
    print("\n### Pairs whose order is known\n\n| | |\n|---|---|")
    for name, value in out.items():
        print(f"| {name} | {value:.3g} |")
    return out


def listeners(model: Predictor, rows: Sequence[dict]) -> dict[str, dict[str, float]]:
    """Correlation with human overall scores, and pair accuracy within a content, beside measured metrics on the same clips."""
    told, human = predicted(model, rows), opinions(rows)
    pairs = [(i, j, human[i] - human[j]) for i, j in combinations(range(len(rows)), 2)]
    pairs = [(i, j, d) for i, j, d in pairs if rows[i]["reference_id"] == rows[j]["reference_id"] and d != 0]
    said = judged(model, rows, pairs)
    delta = np.array([d for *_, d in pairs])
    judges = {"this model, mos_overall": told["mos_overall"], **{p: column(rows, p) for p in (*PEERS, "dnsmos_p808")}}
    out = {"this model, compare": {"pair accuracy": float(np.mean((said[:, 0] - said[:, 2]) * delta > 0))}}
    print(f"\n### Human scores of {len(rows)} clips, {len(pairs)} pairs\n")
    print("| judge | LCC | SRCC | 95 % | pairs |\n|---|---|---|---|---|")
    print(f"| this model, compare | | | | {out['this model, compare']['pair accuracy']:.3f} |")
    for name, x in judges.items():
        if not np.isfinite(x).all():
            continue
        srcc, low, high = spread(rows, lambda i, x=x: float(spearmanr(x[i], human[i])[0]))
        out[name] = {"lcc": float(pearsonr(x, human)[0]), "srcc": srcc, "pair accuracy": pair_accuracy(rows, x)}
        print(f"| {name} | {out[name]['lcc']:.3f} | {srcc:.3f} | {low:.3f} to {high:.3f} | {out[name]['pair accuracy']:.3f} |")
    return out


def enhancers(title: str, model: Predictor, rows: Sequence[dict]) -> dict[str, float]:
    """Clean beats noisy, enhancers beat noisy, system means beside those of Distill-MOS and PESQ."""
    told = predicted(model, rows)["mos_overall"]
    place = {(r["reference_id"], r["system_id"]): i for i, r in enumerate(rows)}
    both = [(place[c, "clean"], place[c, "noisy"], 1.0) for c, s in place if s == "clean" and (c, "noisy") in place]
    out = {}
    if both:
        said = judged(model, rows, both)
        out = {
            "clean beats noisy, by score": float(np.mean([told[i] > told[j] for i, j, _ in both])),
            "clean beats noisy, by compare": float(np.mean(said[:, 0] > said[:, 2])),
        }
    gains = {}
    for (content, system), i in place.items():
        if system != "noisy" and (content, "noisy") in place:
            gains.setdefault(system, []).append(told[i] - told[place[content, "noisy"]])
    for system, values in sorted(gains.items(), key=lambda item: -np.mean(item[1])):
        out[f"{system} minus noisy (n={len(values)})"] = float(np.mean(values))
    for peer in ("distill_mos", "pesq"):
        known = column(rows, peer)
        good = np.isfinite(known)
        out[f"SRCC with {peer} over clips"] = float(spearmanr(told[good], known[good])[0])
    print(f"\n### {title}: {len(rows)} clips\n\n| | |\n|---|---|")
    for name, value in out.items():
        print(f"| {name} | {value:.3f} |")
    return out


def robustness(model: Predictor, rows: Sequence[dict]) -> dict[str, float]:
    """How much `mos_overall` moves with what should not matter, in points of MOS (mean absolute, and largest)."""
    waves = [load_audio(row["audio_path"], RATE).wave for row in rows]
    score = lambda wave, rate=RATE: model.score(wave, sample_rate=rate).metrics["mos_overall"]  # noqa: E731
    plain = np.array([score(wave) for wave in waves])
    changes = {
        "20 dB quieter": lambda w: score(0.1 * w),
        "20 dB louder, beyond full scale": lambda w: score(10 * w),
        "1 s of silence before": lambda w: score(np.concatenate([np.zeros(RATE, np.float32), w])),
        "first half alone": lambda w: score(w[: len(w) // 2]),
        "at 8 kHz": lambda w: score(np.ascontiguousarray(_resampled(w, RATE, 8000)), 8000),
    }
    out = {}
    print(f"\n### What should not matter: {len(rows)} clips\n\n| change | mean | mean absolute | largest |\n|---|---|---|---|")
    for name, change in changes.items():
        moved = np.array([change(wave) for wave in waves]) - plain
        out[name] = float(np.abs(moved).mean())
        print(f"| {name} | {moved.mean():+.3f} | {np.abs(moved).mean():.3f} | {np.abs(moved).max():.3f} |")
    by_talker: dict[str, list[float]] = {}
    for row, value in zip(rows, plain, strict=True):
        by_talker.setdefault(row["system_id"], []).append(value)
    same = [np.std(values) for values in by_talker.values() if len(values) > 3]
    if same:
        out["standard deviation between talkers of one condition"] = float(np.mean(same))
        print(f"\nTalkers of one condition differ by {np.mean(same):.3f} (standard deviation).")
    return out


def _resampled(wave: np.ndarray, rate: int, to: int) -> np.ndarray:
    from urgentmos.audio.samples import resample

    return resample(wave, rate, to)


def ladders(model: Predictor, rows: Sequence[dict], names: Sequence[str]) -> dict[str, list[float]]:
    """Mean `mos_overall` of clean clips along ladders, mild to strong."""
    waves = [load_audio(row["audio_path"], RATE).wave for row in rows if row["system_id"] == "clean"][:12]
    out = {}
    print(f"\n### Ladders, {len(waves)} clean clips, mild to strong\n\n| degradation | mean score at each step |\n|---|---|")
    for name in names:
        steps = range(len(degradations()[name].ladder))
        means = []
        for step in steps:
            made = [simulate(wave, [chain_step(name, step, k)]) for k, wave in enumerate(waves)]
            means.append(float(np.mean([model.score(w, sample_rate=RATE).metrics["mos_overall"] for w in made])))
        out[name] = means
        print(f"| {name} | {' '.join(f'{m:.2f}' for m in means)} |")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model folder, or any name that `urgentmos` knows")
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--orders", type=Path, help="pairs of TEST whose order is known")
    parser.add_argument("--systems", type=Path)
    parser.add_argument("--unseen-systems", type=Path)
    parser.add_argument("--vocoder", type=Path, help="with VOCODER.pairs.jsonl, whose order is known, beside it")
    parser.add_argument("--never", type=Path, help="clips of speech of other origin than any that it was trained on")
    parser.add_argument("--human", type=Path)
    parser.add_argument("--quick", action="store_true", help="heads, pairs and human scores only")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    model = urgentmos.load(args.model)
    rows = read([args.test])
    told = predicted(model, rows)
    found: dict = {"held-out contents": heads("Held-out contents", rows, told)}
    new = [i for i, r in enumerate(rows) if any(step["name"] in HELD_OUT for step in r["meta"]["simulation"])]
    if len(new) >= 10:
        part = {name: values[new] for name, values in told.items()}
        found["unseen degradations"] = heads("Degradations never heard, on held-out contents", [rows[i] for i in new], part)
    found["pairs"] = preferences("Pairs within a content", model, rows, told)
    if args.orders:
        found["orders"] = known(model, rows, args.orders)
    found["coverage"] = covered(model, rows)
    if found["coverage"]:
        print("\nIntervals of level 0.9 hold:", ", ".join(f"{name} {share:.3f}" for name, share in found["coverage"].items()))
    if args.human:
        found["human"] = listeners(model, read([args.human]))
    for title, path in (("Real enhancers", args.systems), ("Real enhancers never heard", args.unseen_systems)):
        if path and not args.quick:
            real = read([path])
            found[title] = {"heads": heads(title, real, predicted(model, real)), **enhancers(title, model, real)}
    if args.vocoder:
        made = read([args.vocoder])
        told = predicted(model, made)
        found["Neural vocoder"] = {
            "heads": heads("Neural vocoder", made, told),
            "orders": known(model, made, args.vocoder.with_suffix(".pairs.jsonl")),
        }
    if args.never:
        other = read([args.never])
        told = predicted(model, other)
        found["Speech never heard"] = {
            "heads": heads("Speech never heard", other, told),
            "pairs": preferences("Pairs of speech never heard", model, other, told),
        }
    if args.human and not args.quick:
        found["robustness"] = robustness(model, read([args.human]))
        found["ladders"] = ladders(model, rows, LADDERS)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
