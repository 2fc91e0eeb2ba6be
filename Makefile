# Two commands for newcomers: make demo, make test. Each makes its own virtual environment first.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-all faults bench bench-quick check types format docs changelog wheel clean

help:  ## Say what there is to make.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Alligator needs Python 3.11 or newer; say make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## Show the whole path with a real server and a real worker; REDIS=redis://… to use Redis.
	@$(BIN)/python -m examples.demo $(if $(REDIS),--redis '$(REDIS)')

serve: $(STAMP)  ## The demo's server and worker, left running.
	@$(BIN)/python -m examples.demo --serve $(if $(REDIS),--redis '$(REDIS)')

# One more than there are cores: many tests wait for a server, a lease or a process that was killed.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(1 + (os.cpu_count() or 1))')

XDIST = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(STAMP)  ## Run the tests, against real servers that the tests start.
	$(BIN)/python -m pytest $(XDIST) $(TESTS)

test-all: $(STAMP)  ## Run those as well that take long and seldom say something new.
	$(BIN)/python -m pytest $(XDIST) -m "" $(TESTS)

faults: $(STAMP)  ## Kill, freeze and cut real processes, and count what was lost: some minutes.
	$(BIN)/python -m tests.faults $(FAULTS)

bench: $(STAMP)  ## Measure against the raw limits and the other queues: an hour or so.
	$(BIN)/python -m tests.benchmarks $(BENCH)

bench-quick: $(STAMP)  ## Measure against the raw limits only: a few minutes.
	$(BIN)/python -m tests.benchmarks --quick $(BENCH)

check: $(STAMP)  ## Lint and type-check.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(STAMP)  ## Put the code in its usual form.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)  ## Build the documentation into build/docs/; a warning is an error.
	$(BIN)/python -m sphinx -W -n -q --keep-going -b html docs build/docs

changelog: $(STAMP)  ## Show what the changelog will say of the next version.
	$(BIN)/towncrier build --draft --version next

wheel: $(STAMP)  ## Build the sdist and the wheel into dist/.
	$(BIN)/python -m hatchling build

clean:  ## Take away what was made.
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
