"""Labels that were measured before: a run of the recipe need not measure the same clips again.

MEASURED has one row per clip: a fingerprint of the samples of the clip and of its reference signal, and what was measured. One
sample that differs makes another fingerprint, and the clip is measured anew. Of each MANIFEST.jsonl this writes two files:
MANIFEST.known.labels.jsonl, clips that were measured, and MANIFEST.rest.jsonl, those that were not, or not with all of NEEDED.
With `--some` one label is enough. `--save` adds to MEASURED.
"""

import argparse
import csv
import gzip
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import soundfile
from jsonl import read_rows, write_rows

from urgentmos.clips.sources import kind_of

MEASURED = Path(__file__).with_name("measured.csv.gz")
KEY = "fingerprint"
NEEDED = ("distill_mos", "dnsmos_ovrl")  # any audible clip has these; where one lacks, measuring was broken off

Labels = dict[str, float | None]


def fingerprint(row: dict, folder: Path) -> str:
    """Of the 16 bit samples of clip and reference signal; paths in `row` are relative to `folder`."""
    digest = blake2b(digest_size=8)
    for key in ("audio_path", "reference_path"):
        if row.get(key):
            samples, rate = soundfile.read(folder / row[key], dtype="int16")
            digest.update(f"{rate} {len(samples)} ".encode() + samples.tobytes())
    return digest.hexdigest()


def read_measured(path: Path) -> dict[str, Labels]:
    """fingerprint -> its labels; those that the file leaves empty are missing."""
    if not path.is_file():
        return {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return {row.pop(KEY): {name: float(x) for name, x in row.items() if x} for row in csv.DictReader(file)}


def save(labelled: Iterable[Path], path: Path) -> int:
    """The labels of labelled manifests beside those that the file has; how many clips it has then."""
    known = read_measured(path)
    for manifest in labelled:
        for row in read_rows(manifest):
            sources = row.get("sources") or {}
            found = {
                name: value
                for name, value in row["metrics"].items()
                if value is not None and kind_of(sources.get(name), name) != "predicted"
            }
            if found:
                known.setdefault(fingerprint(row, manifest.parent), {}).update(found)
    names = sorted({name for labels in known.values() for name in labels})
    with gzip.GzipFile(path, "wb", mtime=0) as packed:
        lines = [",".join([KEY, *names])]
        for key in sorted(known):
            values = (known[key].get(name) for name in names)
            lines.append(",".join([key, *("" if v is None else f"{v:.6g}" for v in values)]))
        packed.write(("\n".join(lines) + "\n").encode())
    return len(known)


def divide(manifest: Path, known: Mapping[str, Labels], needed: Sequence[str] = NEEDED) -> None:
    """Write the two files of a manifest. needed: the labels without which a clip is among the rest; none: any will do."""
    with_labels, rest = [], []
    for row in read_rows(manifest):
        labels = known.get(fingerprint(row, manifest.parent), {})
        if labels and all(name in labels for name in needed):
            sources = {**(row.get("sources") or {}), **dict.fromkeys(labels, f"measured: {MEASURED.name}")}
            with_labels.append({**row, "metrics": {**row["metrics"], **labels}, "sources": sources})
        else:
            rest.append(row)
    write_rows(manifest.with_suffix(".known.labels.jsonl"), with_labels)
    write_rows(manifest.with_suffix(".rest.jsonl"), rest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+", help="with --save: labelled ones")
    parser.add_argument("--measured", type=Path, default=MEASURED, help="[measured.csv.gz beside this script]")
    parser.add_argument("--some", action="store_true", help="clips with any label were measured")
    parser.add_argument("--save", action="store_true", help="add what these manifests have to MEASURED")
    args = parser.parse_args()
    if args.save:
        print(f"{args.measured}: {save(args.manifests, args.measured)} clips")
        return
    known = read_measured(args.measured)
    for manifest in args.manifests:
        divide(manifest, known, () if args.some else NEEDED)


if __name__ == "__main__":
    main()
