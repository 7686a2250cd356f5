"""What several models say of clips that nobody measured, as labels: the mean of their scores, in agreement with known orders.

    python ensemble.py MODEL MODEL ... --data rest.jsonl --valid taught.valid.jsonl --out told

Models that were trained apart are wrong in different places, so their mean is nearer to the measured metrics than each of them,
on clips that none of them heard in training. Simulated clips cost a tenth of a second, their labels most of one: so a model can
be taught by several others on many more clips than were measured. A model that is named twice has two votes. Clips of which a
recording is in VALID are left out, at other speeds too, and it is printed how well each model and their mean agree with VALID.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from evaluate import predicted
from finish import correlation
from jsonl import read_rows, write_rows
from targets import apart, column, read, teach

import urgentmos

JUDGE = "mos_overall"


def read_clips(manifests: Sequence[Path]) -> list[dict]:
    """Their rows, each clip once, with paths made absolute."""
    clips = {}
    for manifest in manifests:
        for row in read_rows(manifest):
            whole = {
                key: str((manifest.parent / row[key]).resolve()) for key in ("audio_path", "reference_path") if row.get(key)
            }
            clips[whole["audio_path"]] = {**row, **whole}
    return list(clips.values())


def averaged(told: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What each model says, metric -> (B,) -> the mean of each metric that all of them have."""
    shared = [metric for metric in told[0] if all(metric in one for one in told)]
    return {metric: np.mean([one[metric] for one in told], axis=0) for metric in shared}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="model folders, or any names that `urgentmos` knows")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="manifests, with labels (not used) or without")
    parser.add_argument("--valid", type=Path, help="labelled validation clips")
    parser.add_argument("--out", type=Path, required=True, help="writes OUT.jsonl and OUT.pairs.jsonl, known orders")
    args = parser.parse_args()
    validation = read([args.valid]) if args.valid else []
    clips = apart(read_clips(args.data), validation)
    said, checked = {}, {}
    for name in dict.fromkeys(args.models):
        model = urgentmos.load(name)
        said[name], checked[name] = predicted(model, clips), predicted(model, validation)
    for name, told in [*checked.items(), ("all", averaged([checked[name] for name in args.models]))] if validation else []:
        measured = {metric: column(validation, metric) for metric in told}
        print(f"mean SRCC with {args.valid}: {correlation(told, measured):.4f} {name}")
    mean = averaged([said[name] for name in args.models])
    for place, clip in enumerate(clips):
        clip["metrics"] = {metric: round(float(x[place]), 5) if np.isfinite(x[place]) else None for metric, x in mean.items()}
        clip["sources"] = dict.fromkeys(mean, f"predicted by the mean of {', '.join(args.models)}")
    orders = teach(clips, mean[JUDGE])
    write_rows(Path(f"{args.out}.jsonl"), clips)
    write_rows(Path(f"{args.out}.pairs.jsonl"), orders)


if __name__ == "__main__":
    main()
