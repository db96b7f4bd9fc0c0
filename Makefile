# `make quickstart` runs the whole line on a small model, `make tiny` on one made from nothing; `make check` runs everything that CI runs.
# Needs Python 3.11 or newer, git and make; another interpreter: make PYTHON=python3.12 …

PYTHON ?= python3
BIN := .venv/bin
# A file's tests stay together, for what they share.
PYTEST := $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile
# Left-over markers, in a spelling that does not match itself.
UNFINISHED := [T]ODO|[F]IXME

.PHONY: help quickstart tiny setup test check format lock peers clean

help:
	@echo "quickstart  run recipes/quickstart.toml"
	@echo "tiny        run recipes/tiny.toml"
	@echo "test        run the tests"
	@echo "check       run everything that CI runs; its last step is the tests"
	@echo "format      format the sources and apply ruff's safe fixes"
	@echo "setup       make .venv from requirements.lock"
	@echo "lock        resolve pyproject.toml anew and write requirements.lock"
	@echo "peers       make the environments of the systems that benchmarks/ compares with"
	@echo "clean       remove what these commands made, except runs/"

quickstart: setup
	$(BIN)/cameleer run recipes/quickstart.toml

tiny: setup
	$(BIN)/cameleer run recipes/tiny.toml

setup:
	@$(PYTHON) scripts/setup.py

test: setup
	$(PYTEST)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports --no-logo
	@! git grep --untracked -nwE '$(UNFINISHED)' -- '*.py' '*.md' '*.toml' '*.txt' Makefile .ci \
		|| { echo "check: finish these or write them down as issues"; exit 1; }
	$(PYTEST)

format: setup
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lock:
	@$(PYTHON) scripts/setup.py --lock

peers: setup
	@$(PYTHON) scripts/peers.py

clean:
	rm -rf .venv .peers dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
