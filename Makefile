# On a fresh machine (python3 with venv and pip) `make demo` and `make test` do all the set-up themselves.
PYTHON ?= python3
BIN := .venv/bin

# What a machine with only a CUDA build of torch and transformers lacks; carried there as wheels.
SMALL := "typer<0.29" rich tomli-w platformdirs
# For transformers' own Trainer, which tdiff is measured beside; without what they ask for, torch among it, which is there.
LONE := accelerate psutil
# Each test has one thread of torch; a file's tests stay together, for what they set up once.
TOGETHER := -n auto --maxprocesses 4 --dist loadfile
GPU := PYTHONPATH=. .venv-gpu/bin/python

.PHONY: demo test test-all check bench study wheels gpu gpu-pretrained gpu-imdb clean

demo: .venv/installed
	@$(BIN)/tdiff generate --seed 7 < /dev/null

test: .venv/developed
	@$(BIN)/python -m pytest $(TOGETHER) $(ARGS)

test-all: .venv/developed
	@$(BIN)/python -m pytest -m "slow or not slow" $(TOGETHER) $(ARGS)

check: .venv/developed
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: .venv/developed
	@$(BIN)/python -m tests.benchmarks.engine $(ARGS)
	@$(BIN)/python -m tests.benchmarks.startup

# About five minutes of one core for each run, as many at once as there are cores; goes on where it was stopped.
study: .venv/developed
	@$(BIN)/python -m tests.benchmarks.study $(ARGS)

# The full recipe on a GPU, and its tables. Without network: run `make wheels` first, elsewhere, and bring wheels/.
gpu: .venv-gpu/bin/tdiff-ready
	$(GPU) -m tests.benchmarks.engine --device cuda
	$(GPU) -m tdiff train --config shakespeare-10m --run shakespeare-10m
	$(GPU) -m tdiff eval shakespeare-10m --json
	$(GPU) -m tdiff generate --model shakespeare-10m --samples 5 --seed 1

# A RoBERTa-sized model fine-tuned for 500 steps, beside transformers' own Trainer on rows of the same text.
gpu-pretrained: .venv-gpu/bin/tdiff-ready
	$(GPU) -m tests.benchmarks.pretrained head --device cuda --batch-size 32 --pairs 20
	$(GPU) -m tests.benchmarks.pretrained trainer --device cuda --shape roberta --batch-size 32 --window 256 --steps 500

# The generative classifier on all film reviews; they are read from ../shared/data.
gpu-imdb: .venv-gpu/bin/tdiff-ready
	$(GPU) -m tests.benchmarks.imdb prepare imdb --texts 25000
	$(GPU) -m tdiff train --config imdb-gpu --data imdb/train.jsonl --run imdb-gpu
	$(GPU) -m tdiff classify --evaluate --input imdb/test.jsonl --model imdb-gpu --output imdb/verdicts.jsonl
	$(GPU) -m tests.benchmarks.imdb speed imdb --model imdb-gpu --limit 1000

.venv-gpu/bin/tdiff-ready:
	$(PYTHON) -m venv --system-site-packages .venv-gpu
	.venv-gpu/bin/python -m pip install --quiet $(if $(wildcard wheels/*.whl),--no-index --find-links wheels) $(SMALL)
	.venv-gpu/bin/python -m pip install --quiet --no-deps $(if $(wildcard wheels/*.whl),--no-index --find-links wheels) $(LONE)
	@touch $@

wheels: .venv/bin/python
	$(BIN)/python -m pip download --quiet --disable-pip-version-check -c constraints.txt -d wheels $(SMALL)
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps -d wheels $(LONE)

clean:
	rm -rf .venv .venv-gpu wheels

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "tdiff needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -m venv .venv

# The pinned set keeps pip from choosing a torch that brings gigabytes of CUDA packages.
.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing tdiff into .venv (about a minute, 1 GB on disk, once) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/developed: .venv/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		pytest pytest-xdist hypothesis ruff mypy import-linter build hatchling scikit-learn
	@touch $@
