# Every target does its own set-up: Python 3.11 or newer, make and the package index are all that is needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Dependency groups need pip 25.1, build constraints 25.3; the pip that comes with Python 3.11 is older.
PIP := pip==26.3
INSTALL = $(BIN)/python -m pip install --quiet --constraint constraints.txt --build-constraint constraints.txt
PYTEST_ARGS ?= --numprocesses auto
BENCH_ARGS ?=
CAMPAIGN_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench campaign constraints schemas answers clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.runtime  ## Set up, then show an erasure run against the sandbox on this machine
	$(BIN)/privacy-toolkit demo

test: $(VENV)/.dev  ## Set up, then run all tests (CI=true: without a browser they fail instead of being skipped)
	$(BIN)/pytest $(PYTEST_ARGS)

check: $(VENV)/.dev  ## Format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## Put the code into its one format and mend what the linter can
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## Measure against the official SDK; BENCH_ARGS="erase rate" selects
	$(BIN)/python bench/run.py $(BENCH_ARGS)

campaign: $(VENV)/.dev  ## Run jobs under every kind of fault against the sandbox's ledger; CAMPAIGN_ARGS="--subjects 500"
	$(BIN)/python bench/campaign.py $(CAMPAIGN_ARGS)

constraints: $(VENV)/.dev  ## Raise the pinned versions to the newest that pyproject.toml allows
	$(BIN)/python -m pip install --quiet uv
	@echo '# Made by "make constraints" from pyproject.toml: the versions that are tested together.' > constraints.new
	$(BIN)/uv pip compile pyproject.toml --quiet --all-extras --group dev --universal --python-version 3.11 \
		--upgrade --no-annotate --no-header >> constraints.new
	mv constraints.new constraints.txt

schemas: $(VENV)/.dev  ## Make the JSON Schemas anew from the types
	$(BIN)/python -m privacy_toolkit.schemas

answers: $(VENV)/.dev  ## Write the tables of docs/answers.md again
	$(BIN)/python -m tests.support.foreign

clean:  ## Remove what the targets made
	rm -rf $(VENV) build dist constraints.new .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.pip:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name one: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo 'Setting up $(VENV): once, and again when pyproject.toml or constraints.txt changes.'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP)
	@touch $@

$(VENV)/.runtime: $(VENV)/.pip pyproject.toml constraints.txt
	$(INSTALL) --editable '.[sandbox]'
	@touch $@

$(VENV)/.dev: $(VENV)/.pip pyproject.toml constraints.txt
	$(INSTALL) --editable '.[sandbox]' --group dev
	@touch $(VENV)/.runtime $@
