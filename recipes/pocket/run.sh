#!/usr/bin/env bash
# From clean speech to the weights that the package ships: simulate, label, teach, train, calibrate, evaluate, export.
#
#   [CLUSTER=local|ADDRESS] recipes/pocket/run.sh DATA OUT [JOBS]
#
# CLUSTER lets Ray spread the simulation and the labels over machines that see the same folders.
# DATA holds speech/, noise/ and rir/ (any folders of recordings), and where there are any systems/ with manifest.csv and
# human/p835/ with labels.csv. Every step resumes: run the same command again. The finished model is OUT/pocket.
set -euo pipefail
data=$(realpath "$1") out=$(mkdir -p "$2" && realpath "$2") jobs=${3:-2}
here=$(cd "$(dirname "$0")" && pwd)
export OMP_NUM_THREADS=1 PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
spread=${CLUSTER:+--cluster $CLUSTER}
metrics=pesq,pesqc2,estoi,sdr,lsd,mcd,dnsmos_ovrl,dnsmos_sig,dnsmos_bak,plcmos,distill_mos,spksim_ge2e
phones=lps_pocketsphinx  # a quarter of the cost of all: of every fourth part, of the tests, and of real enhancers

python "$here/simulate.py" --speech "$data/speech" --noise "$data/noise" --rooms "$data/rir" --out "$out" --jobs "$jobs" $spread
python "$here/real.py" --systems "$data/systems" --human "$data/human/p835" --out "$out"

# In parts, so that what is finished can be used while the rest is measured. A clip without a label is no failure here.
split --lines 700 --numeric-suffixes --suffix-length 2 --additional-suffix .jsonl "$out/train.jsonl" "$out/train.part"
for file in "$out"/train.part??.jsonl "$out"/{test,systems.train,systems.test,systems.unseen,p835}.jsonl; do
  wanted=$metrics
  case $file in *part?[048].jsonl | *test.jsonl | *systems* | *p835*) wanted=$metrics,$phones ;; esac
  labels=${file%.jsonl}.labels.jsonl
  [ -f "$labels" ] || urgentmos label "$file" --metrics "$wanted" --jobs "$jobs" $spread -o "$labels" || [ $? -eq 1 ]
done

scale=("$out"/train.part??.labels.jsonl)
first=("$out"/train.part0[0-4].labels.jsonl)
teach() { python "$here/targets.py" "$@" --human "$out/p835.labels.jsonl"; }
teach "${first[@]}" "$out/systems.train.labels.jsonl" --scale "${first[@]}" --valid-share 0.08 --out "$out/first"
teach "${scale[@]}" "$out/systems.train.labels.jsonl" --scale "${scale[@]}" --valid-share 0.08 --compare --out "$out/taught"
for part in test systems.test systems.unseen; do
  teach "$out/$part.labels.jsonl" --scale "${scale[@]}" --out "$out/taught.$part"
done

# The shipped weights learned from the first parts while the rest was being labelled, then from all.
learn() { urgentmos train "$here/$1" data="$out/$2.jsonl" pairs="$out/$2.pairs.jsonl" valid="$out/$2.valid.jsonl" "${@:3}"; }
export OMP_NUM_THREADS=$jobs
learn pocket.yaml first out="$out/run.first"
learn go_on.yaml taught model="$out/run.first/model" out="$out/run"
python "$here/finish.py" "$out/run/model" --valid "$out/taught.valid.jsonl" --out "$out/pocket"
python "$here/evaluate.py" "$out/pocket" --test "$out/taught.test.jsonl" --systems "$out/taught.systems.test.jsonl" \
  --unseen-systems "$out/taught.systems.unseen.jsonl" --human "$out/p835.labels.jsonl" --out "$out/evaluation.json"
