# On a fresh machine (python3 with venv and pip) `make demo` and `make test` do all the set-up themselves.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all check bench clean

demo: .venv/installed
	@$(BIN)/tdiff generate --seed 7 < /dev/null

test: .venv/developed
	@$(BIN)/python -m pytest $(ARGS)

test-all: .venv/developed
	@$(BIN)/python -m pytest -m "slow or not slow" $(ARGS)

check: .venv/developed
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: .venv/developed
	@$(BIN)/python -m tests.benchmarks.engine $(ARGS)

clean:
	rm -rf .venv

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
		pytest hypothesis ruff mypy import-linter build hatchling
	@touch $@
