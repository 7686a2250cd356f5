#!/usr/bin/env bash
# URGENT-PK as in its paper (section III), once the data sets are on disk.
# DATA: an URGENT-PK data set of urgent24_en (split.json with tr, cv, tt; SYSTEM/wav.scp; SYSTEM/mos.scp).
# TESTS: further such folders to rank, separated by blanks. UTMOS: utmos22_strong_step7459_v1.pt for the two UTMOS models.
# Usage: DATA=/data/urgent24_en TESTS="/data/chime7 ..." [UTMOS=FILE] recipes/urgent-pk/run.sh [KEY=VALUE ...]
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${DATA:?the folder of the data set}"
out=runs/urgent-pk
mkdir -p "$out"

# The contents of tr train, those of cv choose among the nine best models.
for subset in tr cv; do
    python3 - "$DATA" "$subset" "$out/$subset.jsonl" <<'PY'
import sys
from pathlib import Path

from urgentmos.clips.inputs import read_systems, to_record, write_records

folder, subset, target = sys.argv[1:]
write_records((to_record(clip, Path(target).parent) for clip in read_systems(folder, subset)), Path(target))
PY
done

urgentmos train urgent-pk data="$out/tr.jsonl" valid="$out/cv.jsonl" out="$out/mel" workers=4 "$@"
if [ -n "${UTMOS:-}" ]; then
    for tuned in false true; do # UTMOS and UTMOS(ft)
        urgentmos train urgent-pk net.encoder=utmos net.tune_encoder=$tuned encoder_weights="$UTMOS" \
            data="$out/tr.jsonl" valid="$out/cv.jsonl" out="$out/utmos-tuned-$tuned" workers=4 "$@"
    done
fi

# Tables II to IV: binary and soft votes, and MOS by replication or beside the noisy input. UTMOS_pk is `-m utmos`.
for data in "$DATA" ${TESTS:-}; do
    for model in "$out"/*/model; do
        name=$(basename "$data")-$(basename "$(dirname "$model")")
        for scoring in binary soft mos; do
            urgentmos rank "$data" -m "$model" --scoring $scoring -o "$out/$name-$scoring.json"
        done
    done
    urgentmos rank "$data" -m dnsmos_ovrl -o "$out/$(basename "$data")-dnsmos.json"
done
