#!/usr/bin/env bash
# Fig. 2 of the URGENT-PK paper: one model per threshold delta of the data cleaning (III-B), each ranked on TEST by binary votes.
# DATA: as for run.sh. TEST: the data set to rank, of the paper urgent25_en; by default the contents tt of DATA.
# DELTAS: thresholds, separated by blanks. OUT: runs/urgent-pk/delta where not given. What is trained already is not trained again.
# Usage: DATA=/data/urgent24_en [TEST=/data/urgent25_en] [DELTAS="0 0.3"] recipes/urgent-pk/delta.sh [KEY=VALUE ...]
set -euo pipefail
: "${DATA:?the folder of the data set}"
DATA=$(realpath "$DATA") # the commands below run in the checkout
TEST=$(realpath "${TEST:-$DATA}")
cd "$(dirname "$0")/../.."
out=${OUT:-runs/urgent-pk/delta}
mkdir -p "$out"

# The contents of tr train, those of cv choose the model.
for subset in tr cv; do
    python3 - "$DATA" "$subset" "$out/$subset.jsonl" <<'PY'
import sys
from pathlib import Path

from urgentmos.clips.inputs import read_systems, to_record, write_records

folder, subset, target = sys.argv[1:]
write_records((to_record(clip, Path(target).parent) for clip in read_systems(folder, subset)), Path(target))
PY
done

models=()
for delta in ${DELTAS:-0 0.1 0.2 0.3 0.4 0.5}; do
    urgentmos train urgent-pk data="$out/tr.jsonl" valid="$out/cv.jsonl" delta="$delta" out="$out/$delta" workers=4 "$@"
    models+=("delta_$delta=$out/$delta/model")
done
python3 recipes/urgent-pk/tables.py "$TEST" --models "${models[@]}" --table 2 -o "$out/figure2.json"
