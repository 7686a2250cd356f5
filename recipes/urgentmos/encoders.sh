#!/usr/bin/env bash
# Table 11 of the UrgentMOS paper: f1c1m5-dref with one encoder after the other, evaluated on every test set.
# ENCODERS: NAME=FOLDER of pretrained encoders (config.json and weights), separated by blanks; a comma joins the folders of a set
# of four (then PRESET=f4c1m5-dref). SETS: the manifests that run.sh prepares and labels. OUT: runs/encoders where not given.
# Usage: ENCODERS="wavlm=/models/wavlm-base-plus kimi=/models/kimi ..." recipes/urgentmos/encoders.sh [KEY=VALUE ...]
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${ENCODERS:?NAME=FOLDER for each encoder, separated by blanks}"
sets=${SETS:-runs/sets} out=${OUT:-runs/encoders} preset=${PRESET:-f1c1m5-dref}

present() { local IFS=,; local found=(); for file in "$@"; do [ -f "$file" ] && found+=("$file"); done; echo "${found[*]-}"; }
data=$(present "$sets"/*/train_labelled.jsonl)
pairs=$(present "$sets"/*/train_pairs.jsonl)
[ -n "$data" ] || { echo "No */train_labelled.jsonl in $sets. Run recipes/urgentmos/run.sh first, or set SETS." >&2; exit 2; }

for encoder in $ENCODERS; do
    name=${encoder%%=*} folder=${encoder#*=}
    urgentmos train "$preset" encoder_weights="$folder" data="$data" pairs="$pairs" valid="$(present "$sets"/*/dev.jsonl)" \
        valid_pairs="$(present "$sets"/*/dev_pairs.jsonl)" steps=20000 lr=3e-5 batch_seconds=400 workers=8 out="$out/$name" "$@"
    for manifest in "$sets"/*/test*.jsonl; do
        [ -f "$manifest" ] || continue
        case $manifest in *_pairs.jsonl) continue ;; esac
        test=$(basename "$(dirname "$manifest")")-$(basename "$manifest" .jsonl)
        urgentmos score "$manifest" -m "$out/$name/model" -o "$out/$name/scores-$test.jsonl" || [ $? -eq 1 ] # 1: clips failed
        urgentmos evaluate "$out/$name/scores-$test.jsonl" "$manifest" --published -o "$out/$name/evaluation-$test.json"
    done
done

# A row per encoder, LCC / SRCC of human MOS per test set, and the paper's rows below.
python3 - "$out" <<'PY'
import json
import sys
from pathlib import Path

from urgentmos.common.console import table
from urgentmos.evaluation.published import TABLES, column_of

rows, corpora = {}, {}
for path in sorted(Path(sys.argv[1]).glob("*/evaluation-*.json")):
    for corpus, found in json.loads(path.read_text())["corpora"].items():
        if "mos_overall" in found["utterance"]:
            corpora[corpus] = column_of(corpus, TABLES["11"].columns)
            rows.setdefault(path.parent.name, {})[corpus] = [found["utterance"]["mos_overall"][k] for k in ("lcc", "srcc")]
paper = {f"{name} (paper)": {c: row.get(corpora[c], ()) for c in corpora} for name, row in TABLES["11"].rows.items()}


def cell(values):
    return "/".join("-" if x is None else f"{x:.2f}" for x in values) or "-"


table(["encoder", *corpora], [[name, *(cell(row.get(c, ())) for c in corpora)] for name, row in {**rows, **paper}.items()])
PY
