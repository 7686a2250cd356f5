#!/usr/bin/env bash
# From clean speech to a model like the one that the package ships: simulate, label, teach, train, calibrate, evaluate, export.
#
#   [HOURS=36] [CLIPS=7] [VOICES=2] [ENHANCERS=100] [COLOURED=0] [MORE="DIR ..."] [NEVER=DIR] [VOICE=FILE.onnx] [TEST=0.1] [VALID=0.08] \
#       [MEASURED=FILE.csv.gz] [MEASURE=0] [FROM=MODEL] [ROUNDS=1] [SEEDS=1] [LEVEL=0.9] [CLUSTER=local|ADDRESS] \
#       recipes/pocket/run.sh DATA OUT [JOBS] [KEY=VALUE ...]
#
# HOURS of clips, CLIPS per content, the training speech again as VOICES other sets of speakers, ENHANCERS contents whose clips
# are enhancers of one mixture, COLOURED contents as other microphones would have heard them, MORE folders of clean speech to train
# on (no two of one name, none called "speech"; 14 hours of each at most), a folder of speech that training NEVER hears, for
# evaluation alone, clips of a neural VOICE of Piper, shares of the contents kept for TEST and for VALIDation, labels that were
# MEASURED before instead of measured.csv.gz, MEASURE=0 for nothing but those labels, the MODEL to go on from (with its sizes)
# instead of beginning from nothing, ROUNDS of training, each going on from the one before, SEEDS trainings in a round, of which
# validation chooses one (or a mean of them), LEVEL of the intervals (0.9 needs 19 contents for validation).
# CLUSTER lets Ray spread the simulation and the labels over machines that see the same folders. KEY=VALUE goes to
# `urgentmos train`. DATA holds speech/, noise/ and rir/ (any folders of recordings), and where there are any systems/ with
# manifest.csv and human/p835/ with labels.csv. Every step resumes: run the same command again. The finished model is OUT/pocket.
set -euo pipefail
shopt -s nullglob
data=$(realpath "$1") out=$(mkdir -p "$2" && realpath "$2") jobs=${3:-2}
here=$(cd "$(dirname "$0")" && pwd)
same=$(for folder in "$data/speech" ${MORE:-}; do basename "$folder"; done | sort | uniq -d)
if [ -n "$same" ]; then
  echo "Two folders of speech are called $same, and one would take the other's place. Give each folder in MORE a name of its own." >&2
  exit 2
fi
export OMP_NUM_THREADS=1 PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
spread=${CLUSTER:+--cluster $CLUSTER}
# Under the allocator of glibc the steps of a long training become slower and slower; jemalloc's defaults give large arrays back at once.
jemalloc=$( (ldconfig -p 2> /dev/null || true) | sed -n '/libjemalloc\.so\.2/{s/.* => //p;q}')
metrics=pesq,pesqc2,estoi,sdr,lsd,mcd,dnsmos_ovrl,dnsmos_sig,dnsmos_bak,plcmos,distill_mos
# a third of the cost of all, so of some parts only, of the tests, and of real enhancers
speakers=spksim_ge2e phones=lps_pocketsphinx

python "$here/simulate.py" --speech "$data/speech" --noise "$data/noise" --rooms "$data/rir" --out "$out" \
  --hours "${HOURS:-36}" --clips "${CLIPS:-7}" --voices "${VOICES:-2}" --enhancers "${ENHANCERS:-100}" \
  --coloured "${COLOURED:-0}" --test-share "${TEST:-0.1}" --jobs "$jobs" $spread
few=$((${CLIPS:-7} < 5 ? ${CLIPS:-7} : 5))
for folder in ${MORE:-}; do
  python "$here/simulate.py" --speech "$folder" --noise "$data/noise" --rooms "$data/rir" --out "$out/more/$(basename "$folder")" \
    --hours 14 --clips $few --voices 1 --coloured 200 --test-share 0 --jobs "$jobs" $spread
done
[ -z "${NEVER:-}" ] || python "$here/simulate.py" --speech "$NEVER" --noise "$data/noise" --rooms "$data/rir" --out "$out/never" \
  --hours 0.75 --clips $few --test-share 1 --jobs "$jobs" $spread
[ -z "${VOICE:-}" ] || [ -f "$out/vocoder.test.jsonl" ] || python "$here/vocoder.py" --voice "$VOICE" --out "$out"
real=()
[ ! -d "$data/systems" ] || real+=(--systems "$data/systems")
[ ! -d "$data/human/p835" ] || real+=(--human "$data/human/p835")
python "$here/real.py" "${real[@]}" --out "$out"

# What was measured before is not measured again. The rest of the training clips in parts, so that what is finished can be used
# while others are measured. A clip without a label is no failure here.
manifests=(train test)
for folder in ${MORE:-}; do manifests+=("more/$(basename "$folder")/train"); done
for name in systems.{train,test,unseen} vocoder.{train,test} p835 never/test; do
  [ ! -f "$out/$name.jsonl" ] || manifests+=("$name")
done
measure=${MEASURE:-1} from=(--measured "${MEASURED:-$here/measured.csv.gz}")
[ "$measure" != 0 ] || from+=(--some)
for name in "${manifests[@]}"; do python "$here/measured.py" "$out/$name.jsonl" "${from[@]}"; done
[ "$measure" = 0 ] || split --lines 700 --numeric-suffixes --suffix-length 2 --additional-suffix .jsonl "$out/train.rest.jsonl" "$out/train.part"
for file in "$out"/train.part??.jsonl "$out"/{test,systems.*,vocoder.*,p835,more/*/train,never/test}.rest.jsonl; do
  if [ "$measure" = 0 ] || [ ! -s "$file" ]; then continue; fi
  case ${file#"$out"/} in
    more/* | never/*) wanted=$metrics ;;
    *part?[08].jsonl | *test.rest.jsonl | *systems*) wanted=$metrics,$speakers,$phones ;;
    *part?[26].jsonl) wanted=$metrics,$speakers ;;
    *p835*) wanted=$metrics,$speakers,dnsmos_p808 ;;
    *) wanted=$metrics ;;
  esac
  labels=${file%.jsonl}.labels.jsonl
  [ -f "$labels" ] || urgentmos label "$file" --metrics "$wanted" --jobs "$jobs" $spread -o "$labels" || [ $? -eq 1 ]
done
for name in "${manifests[@]:1}"; do
  cat "$out/$name".{known,rest}.labels.jsonl > "$out/$name.labels.jsonl" 2> /dev/null || true  # one of them may not be there
done

scale=("$out"/train.{known,part??}.labels.jsonl) more=() human=()
for file in "$out"/{systems,vocoder}.train.labels.jsonl "$out"/more/*/train.labels.jsonl; do
  [ ! -f "$file" ] || more+=("$file")
done
[ ! -f "$out/p835.labels.jsonl" ] || human=(--human "$out/p835.labels.jsonl")
teach() { python "$here/targets.py" "$@" --scale "${scale[@]}" "${human[@]}"; }
teach "${scale[@]}" "${more[@]}" --valid-share "${VALID:-0.08}" --out "$out/taught"
for part in test systems.test systems.unseen vocoder.test never/test; do
  [ ! -f "$out/$part.labels.jsonl" ] || teach "$out/$part.labels.jsonl" --out "$out/taught.${part%/test}"
done

# A round is trainings that differ in their seed alone, one after the other, each with two cores. The first begins from nothing
# unless there is FROM, each other from the round before; then means of its models, and of what they went on from, are models, too.
taught=(data="$out/taught.jsonl" pairs="$out/taught.pairs.jsonl" valid="$out/taught.valid.jsonl")
before=${FROM:-}
for round in $(seq "${ROUNDS:-1}"); do
  start=("$here/pocket.yaml")
  [ -z "$before" ] || start=("$here/again.yaml" model="$before")
  for seed in $(seq 0 $((${SEEDS:-1} - 1))); do
    LD_PRELOAD=${LD_PRELOAD:-$jemalloc} MALLOC_CONF=${MALLOC_CONF:-oversize_threshold:0,dirty_decay_ms:5000,muzzy_decay_ms:5000} \
      urgentmos train "${start[@]}" "${taught[@]}" seed="$seed" out="$out/round$round/seed$seed" "${@:4}"
  done
  made=$out/round$round/pocket
  rm -rf "$made"
  python "$here/finish.py" "$out/round$round"/seed*/model ${before:+--before "$before"} --valid "$out/taught.valid.jsonl" \
    --level "${LEVEL:-0.9}" --out "$made"
  before=$made
done
rm -rf "$out/pocket"
cp -r "$before" "$out/pocket"
known=(--orders "$out/taught.test.pairs.jsonl" "${human[@]}")
[ ! -f "$out/taught.systems.test.jsonl" ] || known+=(--systems "$out/taught.systems.test.jsonl")
[ ! -f "$out/taught.vocoder.test.jsonl" ] || known+=(--vocoder "$out/taught.vocoder.test.jsonl")
[ ! -f "$out/taught.systems.unseen.jsonl" ] || known+=(--unseen-systems "$out/taught.systems.unseen.jsonl")
[ ! -s "$out/taught.never.jsonl" ] || known+=(--never "$out/taught.never.jsonl")
python "$here/evaluate.py" "$out/pocket" --test "$out/taught.test.jsonl" "${known[@]}" --out "$out/evaluation.json"
