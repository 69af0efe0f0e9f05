# Commands for people and CI. `make help` lists the targets with their comments.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?=
BIN := .venv/bin
# One folder for the temporary files of all tools, so that `make clean` removes them.
export TMPDIR := $(CURDIR)/.cache/tmp
# The caller's Python settings must not change the tools. The product's programs build their own environment.
unexport PYTHONPATH PYTHONHOME DJANGO_SETTINGS_MODULE VIRTUAL_ENV

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":[^#]*## "} /^[a-z-]+:[^#]*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(TMPDIR) ## create .venv and install what is needed; fast if nothing changed (PYTHON=… selects the interpreter)
	@PYTHON="$(PYTHON)" scripts/setup

.PHONY: setup-tests
setup-tests: $(TMPDIR) ## run setup and install what only the tests need, such as a browser and nginx
	@PYTHON="$(PYTHON)" scripts/setup --tests

.PHONY: up
up: setup ## run the whole stack until Ctrl-C (UP="--shards 2" passes options)
	@$(BIN)/python manage.py up $(UP)

.PHONY: login
login: setup ## show the address, the login and the API key of the stack again
	@$(BIN)/python manage.py login

.PHONY: demo
demo: setup ## watch an agent fix a failing test on a local shard, in a separate stack
	@$(BIN)/python -m myctobot.demo

# The caller's language and time zone must not change a test.
test%: export LC_ALL := C.UTF-8
test%: export TZ := UTC
PYTEST := $(BIN)/python -m pytest
# Tests mostly wait for processes, so four workers keep two cores busy.
WORKERS ?= 4
# Containers and Ansible need the cores themselves.
LXC_WORKERS ?= 3
# ``make test`` runs these suites and test-integration at the same time, because the end of a suite leaves a core idle.
# They take about as long as test-integration, so test-acceptance has all workers.
OTHER_SUITES := types test-unit test-faults test-lxc
OTHER_OUTPUT := .cache/test-output.txt

# A shell lets its background jobs ignore Ctrl-C, so they start through env.
.PHONY: test
test: setup-tests ## run every check and every test; print the slowest ones
	@rm -rf .cache/test-times
	@$(MAKE) --no-print-directory --jobs 2 --output-sync lint format-check
	@echo "The output of $(OTHER_SUITES) is in $(OTHER_OUTPUT) until it is printed at the end."
	@status=0; \
	env --default-signal=INT $(MAKE) --no-print-directory --keep-going WORKERS=$$(($(WORKERS) / 2)) \
		LXC_WORKERS=$$(($(LXC_WORKERS) * 2 / 3)) $(OTHER_SUITES) > $(OTHER_OUTPUT) 2>&1 & others=$$!; \
	$(MAKE) --no-print-directory WORKERS=$$(($(WORKERS) * 3 / 4)) test-integration || status=$$?; \
	$(MAKE) --no-print-directory test-acceptance || status=$$?; \
	wait "$$others" || status=$$?; \
	cat $(OTHER_OUTPUT); $(BIN)/python -m tests.times; exit $$status

.PHONY: test-all
test-all: test-unit test-integration test-acceptance

.PHONY: test-unit
test-unit: setup ## run the unit tests and the house rules (ARGS="-k name" passes options)
	@$(PYTEST) --suite unit tests/unit tests/architecture $(ARGS)

.PHONY: test-integration
test-integration: setup-tests ## run the tests with a real database and broker, and the attacks
	@$(PYTEST) --suite integration -n $(WORKERS) tests/integration tests/attacks tests/ansible $(ARGS)

.PHONY: test-acceptance
test-acceptance: setup-tests ## run the tests of whole stacks, with and without a browser
	@$(PYTEST) --suite acceptance -n $(WORKERS) tests/acceptance tests/browser $(ARGS)

.PHONY: test-faults
test-faults: setup-tests ## break the real processes and check the result
	@$(PYTEST) --suite faults -n $(WORKERS) -m faults tests/faults $(ARGS)

.PHONY: test-lxc
test-lxc: setup-tests ## test real containers, as root; removes them, their network and their files
	@$(PYTEST) --suite lxc -n $(LXC_WORKERS) -m lxc tests/lxc $(ARGS)

.PHONY: test-long
test-long: setup-tests ## run all long tests; make test runs a seventh of them each day
	@$(PYTEST) --suite long -m long --long all tests $(ARGS)

.PHONY: test-flaky
test-flaky: setup-tests ## run unit and integration tests five times in random order, the others three times
	@for run in 1 2 3 4 5; do $(PYTEST) --random-order tests/unit tests/architecture $(ARGS) \
		&& $(PYTEST) --random-order -n $(WORKERS) tests/integration tests/attacks tests/ansible $(ARGS) || exit; done
	@for run in 1 2 3; do $(MAKE) --no-print-directory test-acceptance test-lxc test-faults || exit; done

.PHONY: lint
lint: setup ## check for mistakes and forbidden patterns (ruff)
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

.PHONY: lock
lock: setup ## compile the locks from the .in files and package.json (UPGRADE=1 takes newer versions of dependencies)
	@scripts/lock $(if $(UPGRADE),--upgrade)

.PHONY: audit
audit: setup ## search the locks for known vulnerabilities, offline (ADVISORIES=folder adds an advisory database)
	@$(BIN)/python -m scripts.audit $(if $(filter no,$(SAFETY_DB)),--without-safety-db) \
		$(foreach folder,$(ADVISORIES),--advisories $(folder))

.PHONY: bench
bench: setup ## run the benchmarks, with one JSON line each (ONLY=name runs one)
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
