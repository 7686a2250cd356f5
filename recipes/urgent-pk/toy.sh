#!/usr/bin/env bash
# The whole way of an URGENT-PK model at toy size: label, prepare, pairs, train, evaluate, rank; about a minute on two cores.
# Usage: recipes/urgent-pk/toy.sh [FOLDER]. The opinion is a measured one (ESTOI), so no listener is needed.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-runs/toy-urgent-pk}
mkdir -p "$out"

urgentmos label examples/manifest.jsonl --metrics estoi -o "$out/labels.csv"
urgentmos prepare custom "$out" file=labels.csv audio_path=audio_path uid=uid system_id=system_id reference_id=reference_id \
    estoi=metrics.estoi --dev-share 0.4 -o "$out/sets"
urgentmos pairs "$out/sets/dev.jsonl" --metric estoi --delta 0.05 -o "$out/pairs.jsonl"
urgentmos train recipes/urgent-pk/toy.yaml data="$out/sets/train.jsonl" out="$out/run" "${@:2}"
urgentmos rank "$out/sets/dev.jsonl" -m "$out/run/model" -o "$out/ranking.json"
urgentmos rank "$out/sets/dev.jsonl" -m "$out/run/model" --scoring soft -o "$out/ranking_soft.json"
urgentmos score "$out/sets/dev.jsonl" -m "$out/run/model" -o "$out/scores.jsonl"
urgentmos evaluate "$out/scores.jsonl" "$out/sets/dev.jsonl" --label estoi --delta 0.05 -o "$out/evaluation.json"
