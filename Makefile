# make demo             the main job, on an upstream in a box
# make test             lint, types and the whole test suite
# make test-kill        3,000 kills at random instants (KILLS=…, KILL_SEED=…) and 300 damages (DAMAGES=…), where the suite has 100 of each
# make test-sdk-matrix  twelve versions of the platform's SDK against `mirror serve`, not only three
# make test-matrix      a smoke of the suite on Python 3.11 to 3.14 and on the oldest libraries allowed (MATRIX=full: all of it; MATRIX=others: not on the Python of .venv)
# make coverage         the suite with coverage by branch, and the gate on it
# make docs             writes config.example.toml and the reference of docs/configuration.md from the settings
# make lock             renews the versions that development and CI install
# make bench            how fast it is beside curl, aria2, nginx and others; bench-quick: the same in a minute, and less sure
# All set up what they need in .venv and .envs; all need Python 3.11+, make and a package index.

# Two workers also on larger machines: the suite starts servers and subprocesses of its own.
PYTEST_ARGS ?= -n 2
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# setuptools warns about every editable install; what it warns of does not hold here.
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --quiet --disable-pip-version-check
BENCH_PYTHON := .envs/bench/bin/python
BENCH_ARGS ?=
MEMORY := $(if $(wildcard /dev/shm),--dir /dev/shm)

.PHONY: help demo test docs coverage test-matrix lock test-sdk-matrix test-kill lint types format bench bench-quick bench-peers bench-memory clean

help:
	@sed -n 's/^# \(make .*\|All .*\)/\1/p' Makefile

demo: $(VENV)/.runtime
	@$(BIN)/mirror demo

test: lint types
	$(BIN)/python -m pytest $(PYTEST_ARGS)

KILLS ?= 3000
DAMAGES ?= 300
KILL_SEED ?= $(shell date +%s)

test-kill: $(VENV)/.dev
	@echo "seed $(KILL_SEED)"
	KILLS=$(KILLS) KILL_SEED=$(KILL_SEED) DAMAGES=$(DAMAGES) $(BIN)/python -m pytest $(PYTEST_ARGS) \
	  tests/sync/test_kill_random.py tests/index/test_damage.py

test-sdk-matrix: $(VENV)/.dev
	SDK_MATRIX=all $(BIN)/python -m pytest $(PYTEST_ARGS) tests/server/test_sdk_matrix.py

coverage: $(VENV)/.dev
	@mkdir -p build/coverage
	$(BIN)/python -m pytest $(PYTEST_ARGS) --cov --cov-report=term:skip-covered \
	  --deselect tests/project/test_architecture.py::test_a_path_on_the_command_line_brings_no_module_that_it_does_not_use

MATRIX ?= smoke

test-matrix: $(VENV)/.dev
	@$(BIN)/python tests/tools/matrix.py $(MATRIX)

lock: $(VENV)/bin/python
	$(PIP) install --upgrade --editable '.[dev]'
	$(BIN)/python -m pip --disable-pip-version-check freeze --exclude-editable | grep -v ' @ ' > constraints-dev.txt

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev
	$(BIN)/python tests/support/config_pages.py

# An exit code of 2 says that something could not be measured; the curves are drawn from what was.
bench: bench-peers
	$(BIN)/python -m benchmarks.run --save build/bench/results.json $(BENCH_ARGS); code=$$?; \
	  $(BENCH_PYTHON) -m benchmarks.chart build/bench/results.json build/bench; exit $$code

bench-quick: bench-peers
	$(BIN)/python -m benchmarks.run --sizes quick --runs 1 $(MEMORY) $(BENCH_ARGS)

bench-peers: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.tools

bench-memory: $(VENV)/.dev
	$(BIN)/python benchmarks/memory.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name it with: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=24"

$(VENV)/.runtime: pyproject.toml | $(VENV)/bin/python
	@echo "setting up .venv (once)"
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints-dev.txt | $(VENV)/bin/python
	$(PIP) install --editable '.[dev]' --constraint constraints-dev.txt
	@touch $@ $(VENV)/.runtime

clean:
	rm -rf $(VENV) .envs build dist *.egg-info
