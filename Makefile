# Everything that people and CI run. `make help` lists the targets from their own comments.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?=
BIN := .venv/bin
# Temporary files of every tool, so that nothing stays behind elsewhere.
export TMPDIR := $(CURDIR)/.cache/tmp
# Only what the caller's tools need; programs of the product build their own environment anyway.
unexport PYTHONPATH PYTHONHOME DJANGO_SETTINGS_MODULE VIRTUAL_ENV

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":[^#]*## "} /^[a-z-]+:[^#]*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(TMPDIR) ## make .venv and install what is needed; fast when nothing changed (PYTHON=… chooses the interpreter)
	@PYTHON="$(PYTHON)" scripts/setup

.PHONY: setup-tests
setup-tests: $(TMPDIR) ## as setup, and what only the tests need: a browser and sshd
	@PYTHON="$(PYTHON)" scripts/setup --tests

.PHONY: up
up: setup ## run the whole stack until Ctrl-C (UP="--shards 2" passes options)
	@$(BIN)/python manage.py up $(UP)

.PHONY: demo
demo: setup ## watch an agent fix a failing test on a local shard, in a stack of its own
	@$(BIN)/python -m myctobot.demo

.PHONY: test
test: lint format-check types test-all test-lxc test-faults ## run every check and every test

.PHONY: test-all
test-all: setup-tests
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: test-faults
test-faults: setup-tests ## break the real processes and count what is left (FAULTS=long: outages as long as at night)
	@$(BIN)/python -m pytest -m faults tests/faults $(ARGS)

.PHONY: test-lxc
test-lxc: setup-tests ## make real containers, as root; they, their network and their files go away again
	@$(BIN)/python -m pytest -m lxc tests/lxc $(ARGS)

.PHONY: test-unit
test-unit: setup ## run the unit tests alone (ARGS="-k name" passes options)
	@$(BIN)/python -m pytest tests/unit $(ARGS)

.PHONY: lint
lint: setup ## look for mistakes and forbidden patterns (ruff)
	@$(BIN)/ruff check .

.PHONY: format
format: setup ## format the code and sort the imports
	@$(BIN)/ruff check --select I --fix --quiet .
	@$(BIN)/ruff format .

.PHONY: format-check
format-check: setup
	@$(BIN)/ruff format --check .

.PHONY: types
types: setup ## check the types (mypy --strict)
	@$(BIN)/mypy .

.PHONY: bench
bench: setup ## measure, one JSON line a benchmark (ONLY=name runs one)
	@$(BIN)/python -m tests.benchmarks $(ONLY)

.PHONY: migrations
migrations: setup ## write migrations for changed models
	@$(BIN)/python manage.py makemigrations

.PHONY: shell
shell: setup ## open a Django shell on the running stack
	@$(BIN)/python manage.py shell

.PHONY: clean
clean: ## remove .venv, caches and the embedded stack's data
	@if [ -e .myctobot/lock ] && ! flock --nonblock .myctobot/lock true; then \
		echo "The stack is running; stop it first (Ctrl-C in its terminal)."; exit 1; fi
	@rm -rf .venv .cache .myctobot build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(TMPDIR):
	@mkdir -p $@
