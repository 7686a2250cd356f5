#!/usr/bin/env bash
# Is what we would publish whole? Builds wheel and sdist, checks them with twine, installs the wheel without extras into an
# empty environment, scores a clip there, and runs the steps of the Dockerfile. Prints sizes and seconds.
#   packaging/check.sh            everything
#   packaging/check.sh --no-image all but the Dockerfile's steps
# Needs a package index. PYTHON chooses the interpreter. Leaves wheel and sdist in dist/.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "== build"
"$python" -m venv "$work/tools"
"$work/tools/bin/python" -m pip install --quiet --disable-pip-version-check build twine
rm -rf dist
"$work/tools/bin/python" -m build --outdir dist . > "$work/build.log" 2>&1 || { tail -30 "$work/build.log"; exit 1; }
"$work/tools/bin/python" -m twine check --strict dist/*
du -h dist/*

echo "== what is in the wheel"
"$work/tools/bin/python" packaging/contents.py dist/*.whl

echo "== core only, in an empty environment"
"$python" -m venv "$work/core"
began=$(date +%s)
"$work/core/bin/python" -m pip install --quiet --disable-pip-version-check dist/*.whl
echo "installed in $(($(date +%s) - began)) s, $(du -sh "$work/core/lib" | cut -f1)"
if "$work/core/bin/python" -c 'import torch' 2> "$work/no-torch.log"; then
    echo "the core must install without torch" >&2
    exit 1
fi
cd "$work" # not in the checkout: the wheel is meant
judge=$("$work/core/bin/python" -c 'from urgentmos.common.packaged import PACKAGED as p; print("pocket" if "pocket" in p else "lsd")')
began=$(date +%s.%N)
"$work/core/bin/urgentmos" score "$root/examples/systems/noisy/utt01.flac" -m "$judge" \
    --reference-dir "$root/examples/clean" -o "$work/scores.jsonl"
echo "scored by $judge in $("$python" -c "print(round($(date +%s.%N) - $began, 2))") s: $(grep -o '"metrics": *{[^}]*}' "$work/scores.jsonl")"
cd "$root"

echo "== bill of materials: every package has a name, a version and a licence"
mkdir -p build
"$work/core/bin/python" packaging/sbom.py urgentmos > build/sbom-core.json
echo "build/sbom-core.json: $(grep -c '"bom-ref"' build/sbom-core.json) packages"

[ "${1:-}" = --no-image ] && exit 0
echo "== the steps of the Dockerfile, without Docker"
mkdir -p "$work/src" "$work/opt"
cp -r pyproject.toml README.md LICENSE NOTICE packaging src "$work/src"
PATH=$(dirname "$(command -v "$python")"):$PATH "$work/tools/bin/python" packaging/steps.py Dockerfile "$work" > "$work/steps.sh"
VARIANT=${VARIANT:-cpu} sh -eu "$work/steps.sh"
"$work/opt/urgentmos/bin/urgentmos" serve --help > "$work/serve.txt"
echo "image: $(du -sh "$work/opt" | cut -f1) of packages"
"$work/opt/urgentmos/bin/python" packaging/sbom.py urgentmos av,parquet,report,serve,urls > build/sbom-image.json
echo "build/sbom-image.json: $(grep -c '"bom-ref"' build/sbom-image.json) packages"
