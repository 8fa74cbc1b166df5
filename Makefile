# On a fresh machine (python3 with venv and pip) `make demo` and `make test` install everything that they need.
# A failing command in a pipe fails the recipe.
SHELL := bash
.SHELLFLAGS := -o pipefail -c

PYTHON ?= python3
BIN := .venv/bin

# What a machine that has only a CUDA build of torch and transformers lacks; it is copied there as wheels.
GPU_PACKAGES := "typer<0.29" rich tomli-w platformdirs
# For transformers' own Trainer, with which tdiff is compared; without their dependencies, because torch is there.
TRAINER_PACKAGES := accelerate psutil
# Three or four processes, because many tests wait. Each test uses one thread of torch; those of a file share set-up.
PARALLEL := -n $(shell test $$(getconf _NPROCESSORS_ONLN) -gt 3 && echo 4 || echo 3) --dist loadfile --no-loadscope-reorder
# The Python of a GPU machine, which has torch and transformers, with the packages in .gpu/site. A virtual environment
# would not see torch if that Python is a virtual environment itself. Corpora are copied in .gpu/data.
GPU := PYTHONPATH=$(CURDIR):$(CURDIR)/.gpu/site TDIFF_SHAKESPEARE=$(CURDIR)/.gpu/data/tinyshakespeare.txt TDIFF_REVIEWS=.gpu/data $(PYTHON)
DATA ?= ../shared/data
OUT ?= .gpu/results
# The lowest release of torch that is available as a CPU wheel; 2.6 installs gigabytes of CUDA packages.
LOWEST_TORCH ?= $(shell grep '^torch==' constraints.txt)

.PHONY: demo test test-all test-lowest check check-types check-style check-imports check-language bench study gpu-pack gpu gpu-bench gpu-pretrained gpu-imdb gpu-tales clean

demo: .venv/installed
	@$(BIN)/tdiff generate --seed 7 < /dev/null

test: .venv/developed
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-all: .venv/developed .venv/tensorboard
	@$(BIN)/python -m pytest -m "slow or not slow" $(PARALLEL) $(ARGS)

# Two at a time: the type checker takes as long as the others together.
check: .venv/developed
	@$(MAKE) --no-print-directory -j 2 --output-sync=target check-types check-style check-imports check-language

check-types: .venv/developed
	@$(BIN)/mypy

check-style: .venv/developed
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

check-imports: .venv/developed
	@$(BIN)/lint-imports --no-cache

check-language: .venv/developed
	@$(BIN)/python -m tests.support.language

bench: .venv/developed
	@$(BIN)/python -m tests.benchmarks.engine $(ARGS)
	@$(BIN)/python -m tests.benchmarks.startup

# About five minutes of one core for each run, as many at once as there are cores; resumes where it was stopped.
study: .venv/developed
	@$(BIN)/python -m tests.benchmarks.study $(ARGS)

# Everything that the targets below need on a machine without a network: run it where there is one, and copy the folder
# with its .gpu.
gpu-pack: .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --target .gpu/scratch $(GPU_PACKAGES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target .gpu/scratch $(TRAINER_PACKAGES)
	rm -rf .gpu/site && mv .gpu/scratch .gpu/site
	mkdir -p .gpu/data && cp $(DATA)/tinyshakespeare.txt $(DATA)/imdb_train.jsonl.gz $(DATA)/imdb_test.jsonl.gz $(DATA)/tales.txt.gz .gpu/data/

# Checks correctness and speed on this GPU: a report in $(OUT), in about 8 minutes. ARGS="--parts decoders,bound"
gpu-bench: .gpu/ready
	$(GPU) -m tests.benchmarks.gpu --device cuda --out $(OUT) $(ARGS)

# The full recipe on a GPU, and its tables; the results are in $(OUT), each file below 16 MB.
gpu: .gpu/ready .gpu/data/tinyshakespeare.txt
	mkdir -p $(OUT)
	$(GPU) -m tests.benchmarks.engine --device cuda | tee $(OUT)/speed.txt
	$(GPU) -m tdiff train --config shakespeare-10m --data shakespeare --run shakespeare-10m
	cp checkpoints/shakespeare-10m/model/* checkpoints/shakespeare-10m/events.jsonl $(OUT)
	$(GPU) -m tdiff eval shakespeare-10m --json | tee $(OUT)/eval.json
	$(GPU) -m tdiff generate --model shakespeare-10m --samples 5 --seed 1 | tee $(OUT)/samples.txt

# A RoBERTa-sized model, fine-tuned for 500 steps, compared with transformers' own Trainer on rows of the same text.
gpu-pretrained: .gpu/ready .gpu/data/tinyshakespeare.txt
	$(GPU) -m tests.benchmarks.pretrained head --device cuda --batch-size 32 --pairs 20
	$(GPU) -m tests.benchmarks.pretrained trainer --device cuda --shape roberta --batch-size 32 --window 256 --steps 500

# The generative classifier on all film reviews.
gpu-imdb: .gpu/ready .gpu/data/imdb_train.jsonl.gz .gpu/data/imdb_test.jsonl.gz
	mkdir -p $(OUT)
	$(GPU) -m tests.benchmarks.imdb prepare imdb --texts 25000
	$(GPU) -m tdiff train --config imdb-gpu --data imdb/train.jsonl --run imdb-gpu
	cp checkpoints/imdb-gpu/events.jsonl $(OUT)/imdb-events.jsonl
	$(GPU) -m tdiff classify --evaluate --input imdb/test.jsonl --model imdb-gpu --output imdb/verdicts.jsonl
	split -C 15m imdb/verdicts.jsonl $(OUT)/verdicts.jsonl.
	$(GPU) -m tests.benchmarks.imdb speed imdb --model imdb-gpu --limit 1000 | tee $(OUT)/imdb-speed.txt

# Ten minutes of the largest model of stories that a GPU trains well in that time.
# Rehearsal on a CPU: make gpu-tales ARGS="--minutes 0.1 --device cpu --set model.width=16 --set model.heads=2 ..."
gpu-tales: .gpu/ready .gpu/data/tales.txt.gz
	$(GPU) -m tests.benchmarks.tales prepare .gpu/data/tales --text .gpu/data/tales.txt.gz
	$(GPU) -m tdiff train --config tales-gpu --data .gpu/data/tales/train.txt --eval-data .gpu/data/tales/tuning.txt \
		--run tales-gpu $(ARGS)
	$(GPU) -m tests.benchmarks.tales pack tales-gpu $(OUT)/tales

# Requires `make gpu-pack` beforehand, or a network.
.gpu/ready:
	@test -d .gpu/site || $(PYTHON) -m pip install --quiet --target .gpu/site $(GPU_PACKAGES)
	@$(GPU) -c 'import torch, transformers, typer, rich, tomli_w, platformdirs' || { echo "$(PYTHON) lacks the package named above; \`make gpu-pack\` makes .gpu/site" >&2; exit 2; }
	@touch $@

.gpu/data/%:
	@echo "$@ is missing: \`make gpu-pack\` copies it from DATA=$(DATA)" >&2; exit 2

# TensorBoard itself reads the event files of a run; 130 MB, for `make test-all` only.
.venv/tensorboard: .venv/developed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check tensorboard
	@touch $@

# The lowest versions that pyproject.toml allows, in a separate virtual environment.
test-lowest: .venv-lowest/installed
	@.venv-lowest/bin/python -m pytest $(PARALLEL) $(ARGS)

.venv-lowest/installed: .venv/bin/python pyproject.toml tests/support/lowest.py
	@$(PYTHON) -m venv .venv-lowest
	@$(BIN)/python -m tests.support.lowest $(LOWEST_TORCH) > .venv-lowest/requirements.txt
	@.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check -r .venv-lowest/requirements.txt \
		pytest pytest-xdist hypothesis build hatchling scikit-learn
	@.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

clean:
	rm -rf .venv .venv-lowest .gpu

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "tdiff needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -m venv .venv

# The constraints keep pip from choosing a torch that installs gigabytes of CUDA packages.
.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing tdiff into .venv (about a minute, 1 GB on disk, once) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/developed: .venv/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		pytest pytest-xdist hypothesis ruff mypy import-linter build hatchling scikit-learn tensorboardX pillow
	@touch $@
