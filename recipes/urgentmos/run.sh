#!/usr/bin/env bash
# UrgentMOS as in its paper (sections 4.1 to 4.3), once the corpora are on disk below CORPORA. Each command can be run again:
# it goes on where it stopped. One GPU with 80 GB; 3 to 20 hours of training, as the paper says.
# Usage: CORPORA=/data WAVLM=/models/wavlm-base-plus recipes/urgentmos/run.sh [PRESET] [KEY=VALUE ...]
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${CORPORA:?the folder with one folder per corpus}" "${WAVLM:?the folder of microsoft/wavlm-base-plus}"
preset=${1:-f1c5m15-dref}
sets=runs/sets

# Table 2: scores of clips, and pairs that listeners compared. A corpus that is not there is passed over.
data=() pairs=() valid=() valid_pairs=()
for corpus in bc19 bvcc nisqa pstn somos tcd_voip tencent tmhint_qi ttsds2 urgent2024_sqa urgent2025_sqa; do
    [ -d "$CORPORA/$corpus" ] || continue
    urgentmos prepare "$corpus" "$CORPORA/$corpus" -o "$sets/$corpus" || [ $? -eq 1 ] # 1: some rows were left out, and are listed
    data+=("$sets/$corpus/train.jsonl")
    [ -f "$sets/$corpus/dev.jsonl" ] && valid+=("$sets/$corpus/dev.jsonl")
done
for corpus in speecheval speechjudge; do
    [ -d "$CORPORA/$corpus" ] || continue
    urgentmos prepare "$corpus" "$CORPORA/$corpus" -o "$sets/$corpus" || [ $? -eq 1 ]
    pairs+=("$sets/$corpus/train_pairs.jsonl")
    [ -f "$sets/$corpus/dev_pairs.jsonl" ] && valid_pairs+=("$sets/$corpus/dev_pairs.jsonl")
done
[ ${#data[@]} -gt 0 ] || { echo "No corpus in $CORPORA. docs/prepare.md lists them." >&2; exit 2; }

# m5 and m15 learn from measured labels, too. Weights that no package carries: see `urgentmos label --help`.
labelled=()
for manifest in "${data[@]}"; do
    urgentmos label "$manifest" -o "${manifest%.jsonl}_labelled.jsonl" || [ $? -eq 1 ] # 1: some clips lack a metric
    labelled+=("${manifest%.jsonl}_labelled.jsonl")
done

join() { local IFS=,; echo "$*"; }
urgentmos train "$preset" data="$(join "${labelled[@]}")" pairs="$(join "${pairs[@]}")" \
    valid="$(join "${valid[@]}")" valid_pairs="$(join "${valid_pairs[@]}")" encoder_weights="$WAVLM" \
    steps=20000 lr=3e-5 batch_seconds=400 workers=8 out="runs/$preset" "${@:2}"

for manifest in "$sets"/*/test*.jsonl; do
    [ -f "$manifest" ] || continue
    case $manifest in *_pairs.jsonl) continue ;; esac
    name=$(basename "$(dirname "$manifest")")-$(basename "$manifest" .jsonl)
    urgentmos score "$manifest" -m "runs/$preset/model" -o "runs/$preset/scores-$name.jsonl" || [ $? -eq 1 ]
    urgentmos evaluate "runs/$preset/scores-$name.jsonl" "$manifest" --published -o "runs/$preset/evaluation-$name.json"
done
