#!/usr/bin/env bash
# From clean speech to a model like the one in the package: simulate, label, teach, train, calibrate, export, evaluate.
# Every step resumes: run the same command again.
usage() {
  cat << 'EOF'
Usage: recipes/pocket/run.sh DATA OUT [OPTIONS] [KEY=VALUE ...]

Simulate, label, train, calibrate, export and evaluate a small UrgentMOS. The finished model is OUT/pocket. The same command resumes.
DATA holds speech/, noise/ and rir/ (any folders of recordings), and optionally systems/ with manifest.csv and human/p835/ with
labels.csv. KEY=VALUE goes to urgentmos train.

  --hours N          hours of clips                                                   [default: 36]
  --clips N          clips per content                                                [default: 7]
  --voices N         the training speech again as other sets of speakers              [default: 2]
  --enhancers N      contents whose clips are enhancers of one mixture                [default: 100]
  --coloured N       contents through other microphones                               [default: 0]
  --more DIR         another folder of clean speech to train on, 14 hours at most; may be repeated, names must differ
  --never DIR        speech for evaluation alone
  --voice FILE       a Piper voice (.onnx) for clips of a neural vocoder
  --test-share X     share of the contents kept for the test                          [default: 0.1]
  --valid-share X    share of the contents kept for validation                        [default: 0.08]
  --measured FILE    labels that were measured before, as measured.py --save writes   [default: measured.csv.gz]
  --no-measure       use those labels only, measure nothing
  --from MODEL       go on from this model (with its sizes) instead of from nothing
  --rounds N         trainings one after the other, each from the one before          [default: 1]
  --seeds N          trainings in a round; validation chooses one, or a mean          [default: 1]
  --level X          level of the intervals; 0.9 needs 19 contents for validation     [default: 0.9]
  --jobs N           processes                                                        [default: 2]
  --cluster ADDRESS  spread simulation and labels by Ray: local, or HOST:PORT
  -h, --help         show this text
EOF
}
set -euo pipefail
shopt -s nullglob
here=$(cd "$(dirname "$0")" && pwd)
hours=36 clips=7 voices=2 enhancers=100 coloured=0 never="" voice="" test_share=0.1 valid_share=0.08 measured=$here/measured.csv.gz
measure=1 before="" rounds=1 seeds=1 level=0.9 jobs=2 cluster="" folders=() places=() settings=()
fail() { echo "Error: $1 See run.sh --help." >&2; exit 2; }
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --no-measure) measure=0 ;;
    --hours | --clips | --voices | --enhancers | --coloured | --more | --never | --voice | --test-share | --valid-share | --measured | \
      --from | --rounds | --seeds | --level | --jobs | --cluster)
      [ $# -gt 1 ] || fail "$1 needs a value."
      case $1 in
        --more) folders+=("$2") ;;
        --from) before=$2 ;;
        *) name=${1#--} && printf -v "${name//-/_}" %s "$2" ;;
      esac
      shift ;;
    -*) fail "There is no option $1." ;;
    *=*) case ${1%%=*} in */*) places+=("$1") ;; *) settings+=("$1") ;; esac ;;  # KEY=VALUE, or a path with = in it
    *) places+=("$1") ;;
  esac
  shift
done
[ ${#places[@]} -eq 2 ] || fail "Give two folders, DATA and OUT."
data=$(realpath "${places[0]}") out=$(mkdir -p "${places[1]}" && realpath "${places[1]}")
same=$(for folder in "$data/speech" "${folders[@]}"; do basename "$folder"; done | sort | uniq -d)
[ -z "$same" ] || fail "Two folders of speech are called $same, and one would replace the other. Rename one of them."
export OMP_NUM_THREADS=1 PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
spread=${cluster:+--cluster $cluster}
# Under the allocator of glibc the steps of a long training become slower and slower; jemalloc's defaults give large arrays back at once.
jemalloc=$( (ldconfig -p 2> /dev/null || true) | sed -n '/libjemalloc\.so\.2/{s/.* => //p;q}')
metrics=pesq,pesqc2,estoi,sdr,lsd,mcd,dnsmos_ovrl,dnsmos_sig,dnsmos_bak,plcmos,distill_mos
# a third of the cost of all, so of some parts only, of the tests, and of real enhancers
speakers=spksim_ge2e phones=lps_pocketsphinx

python "$here/simulate.py" --speech "$data/speech" --noise "$data/noise" --rooms "$data/rir" --out "$out" \
  --hours "$hours" --clips "$clips" --voices "$voices" --enhancers "$enhancers" \
  --coloured "$coloured" --test-share "$test_share" --jobs "$jobs" $spread
few=$((clips < 5 ? clips : 5))
for folder in "${folders[@]}"; do
  python "$here/simulate.py" --speech "$folder" --noise "$data/noise" --rooms "$data/rir" --out "$out/more/$(basename "$folder")" \
    --hours 14 --clips $few --voices 1 --coloured 200 --test-share 0 --jobs "$jobs" $spread
done
[ -z "$never" ] || python "$here/simulate.py" --speech "$never" --noise "$data/noise" --rooms "$data/rir" --out "$out/never" \
  --hours 0.75 --clips $few --test-share 1 --jobs "$jobs" $spread
[ -z "$voice" ] || [ -f "$out/vocoder.test.jsonl" ] || python "$here/vocoder.py" --voice "$voice" --out "$out"
real=()
[ ! -d "$data/systems" ] || real+=(--systems "$data/systems")
[ ! -d "$data/human/p835" ] || real+=(--human "$data/human/p835")
python "$here/real.py" "${real[@]}" --out "$out"

# What was measured before is not measured again. The rest of the training clips in parts, so that what is finished can be used
# while others are measured. A clip without a label is no failure here.
manifests=(train test)
for folder in "${folders[@]}"; do manifests+=("more/$(basename "$folder")/train"); done
for name in systems.{train,test,unseen} vocoder.{train,test} p835 never/test; do
  [ ! -f "$out/$name.jsonl" ] || manifests+=("$name")
done
from=(--measured "$measured")
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
teach "${scale[@]}" "${more[@]}" --valid-share "$valid_share" --out "$out/taught"
for part in test systems.test systems.unseen vocoder.test never/test; do
  [ ! -f "$out/$part.labels.jsonl" ] || teach "$out/$part.labels.jsonl" --out "$out/taught.${part%/test}"
done

# A round is trainings that differ in their seed alone, one after the other, each with two cores. The first begins from nothing
# unless there is --from, each other from the round before; then means of its models, and of what they went on from, are models, too.
taught=(data="$out/taught.jsonl" pairs="$out/taught.pairs.jsonl" valid="$out/taught.valid.jsonl")
for round in $(seq "$rounds"); do
  start=("$here/pocket.yaml")
  [ -z "$before" ] || start=("$here/again.yaml" model="$before")
  for seed in $(seq 0 $((seeds - 1))); do
    LD_PRELOAD=${LD_PRELOAD:-$jemalloc} MALLOC_CONF=${MALLOC_CONF:-oversize_threshold:0,dirty_decay_ms:5000,muzzy_decay_ms:5000} \
      urgentmos train "${start[@]}" "${taught[@]}" seed="$seed" out="$out/round$round/seed$seed" "${settings[@]}"
  done
  model=$out/round$round/pocket
  rm -rf "$model"
  python "$here/finish.py" "$out/round$round"/seed*/model ${before:+--before "$before"} --valid "$out/taught.valid.jsonl" \
    --level "$level" --out "$model"
  before=$model
done
rm -rf "$out/pocket"
cp -r "$before" "$out/pocket"
sets=(--orders "$out/taught.test.pairs.jsonl" "${human[@]}")
[ ! -f "$out/taught.systems.test.jsonl" ] || sets+=(--systems "$out/taught.systems.test.jsonl")
[ ! -f "$out/taught.vocoder.test.jsonl" ] || sets+=(--vocoder "$out/taught.vocoder.test.jsonl")
[ ! -f "$out/taught.systems.unseen.jsonl" ] || sets+=(--unseen-systems "$out/taught.systems.unseen.jsonl")
[ ! -s "$out/taught.never.jsonl" ] || sets+=(--never "$out/taught.never.jsonl")
python "$here/evaluate.py" "$out/pocket" --test "$out/taught.test.jsonl" "${sets[@]}" --out "$out/evaluation.json"
