"""Outputs of real enhancers and the P.835 conditions as manifests: systems.train, .test, .unseen, and p835.jsonl.

`--systems` is a folder with `manifest.csv` (set, utterance, system, file), `--human` one with `labels.csv` (audio_path,
system_id, reference_id, mos_overall, mos_sig, mos_bak). Which contents are for testing depends on their names alone; the
enhancers in HELD_OUT are heard in no training content either. The opinions of listeners are kept under `meta.human`:
nothing is trained on them.
"""

import argparse
import csv
import zlib
from pathlib import Path

import soundfile
from jsonl import write_rows

TEST_TENTHS = 3
HELD_OUT = ("cmgan", "lisennet", "rnnoise")


def systems(folder: Path) -> list[dict]:
    """One row per clip; the clean clip of a content, where there is one, is the reference signal of all."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    clean = {(row["set"], row["utterance"]): row["file"] for row in found if row["system"] == "clean"}
    rows = []
    for row in found:
        reference = clean.get((row["set"], row["utterance"]))
        rows.append(
            {
                "uid": f"{row['set']}:{row['system']}:{row['utterance']}",
                "audio_path": str((folder / row["file"]).resolve()),
                "system_id": row["system"],
                "reference_id": f"{row['set']}-{row['utterance']}",
                "corpus": row["set"],
                "duration": soundfile.info(folder / row["file"]).duration,
                "reference_path": str((folder / reference).resolve()) if reference else None,
                "metrics": {},
                "meta": {},
            }
        )
    return rows


def human(folder: Path) -> list[dict]:
    """The clips with human scores; the clip of condition c0 is the reference signal of its talker."""
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    return [
        {
            "uid": Path(row["audio_path"]).stem,
            "audio_path": str((folder / row["audio_path"]).resolve()),
            "system_id": row["system_id"],
            "reference_id": row["reference_id"],
            "corpus": "p835",
            "duration": soundfile.info(folder / row["audio_path"]).duration,
            "reference_path": str((folder / f"c0_{row['reference_id']}.flac").resolve()),
            "metrics": {},
            "meta": {"human": {name: float(row[name]) for name in ("mos_overall", "mos_sig", "mos_bak")}},
        }
        for row in found
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", type=Path)
    parser.add_argument("--human", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.systems:
        rows = systems(args.systems)
        is_test = [zlib.crc32(row["reference_id"].encode()) % 10 < TEST_TENTHS for row in rows]
        trained = [row for row, test in zip(rows, is_test, strict=True) if not test and row["system_id"] not in HELD_OUT]
        write_rows(args.out / "systems.train.jsonl", trained)
        write_rows(args.out / "systems.unseen.jsonl", [row for row in rows if row["system_id"] in HELD_OUT])
        write_rows(args.out / "systems.test.jsonl", [row for row, test in zip(rows, is_test, strict=True) if test])
    if args.human:
        write_rows(args.out / "p835.jsonl", human(args.human))


if __name__ == "__main__":
    main()
