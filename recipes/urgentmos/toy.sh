#!/usr/bin/env bash
# The whole way of an UrgentMOS model at toy size: label, prepare, pairs, train, evaluate, rank; about a minute on two cores.
# Usage: recipes/urgentmos/toy.sh [FOLDER]. The labels are measured (ESTOI, SDR, LSD), so no listener is needed.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-runs/toy-urgentmos}
mkdir -p "$out"

urgentmos label examples/manifest.jsonl --metrics estoi,sdr,lsd -o "$out/labels.csv"
# 40 % of the contents are held out, whole: no sentence is on both sides.
urgentmos prepare custom "$out" file=labels.csv audio_path=audio_path uid=uid system_id=system_id reference_id=reference_id \
    estoi=metrics.estoi sdr=metrics.sdr lsd=metrics.lsd --dev-share 0.4 -o "$out/sets"
urgentmos pairs "$out/sets/train.jsonl" --metric estoi --delta 0.05 --limit 100 -o "$out/pairs.jsonl"
urgentmos train recipes/urgentmos/toy.yaml data="$out/sets/train.jsonl" pairs="$out/pairs.jsonl" out="$out/run" "${@:2}"
urgentmos score "$out/sets/dev.jsonl" -m "$out/run/model" -o "$out/scores.jsonl"
urgentmos evaluate "$out/scores.jsonl" "$out/sets/dev.jsonl" --delta 0.05 -o "$out/evaluation.json"
urgentmos rank "$out/sets/dev.jsonl" -m "$out/run/model" -o "$out/ranking.json"
