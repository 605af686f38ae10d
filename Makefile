# Every target does its own set-up: Python 3.11 or newer, make and the package index are all that is needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where nothing compiled is kept, each of the thousands of processes that tests start compiles everything again.
unexport PYTHONDONTWRITEBYTECODE
# What comes from outside is pinned with its hash, and is a wheel: a source distribution runs code and asks for more.
LOCKED = $(BIN)/python -m pip install --quiet --require-hashes --only-binary :all:
# The project itself; what it is built with is there already.
OWN = $(BIN)/python -m pip install --quiet --no-index --no-deps --no-build-isolation --editable .
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header
# Many tests wait for processes of their own: two at a time for each core, and who is done takes from the others.
CORES = $(shell $(PYTHON) -c "import os; print(len(getattr(os, 'sched_getaffinity', lambda _: range(os.cpu_count() or 1))(0)))")
PYTEST_ARGS ?= --numprocesses $(shell expr 2 '*' $(CORES)) --dist worksteal
# What needs no process of its own, no browser and no sandbox with runs on it, or hardly ever.
FAST := tests/unit tests/contract tests/architecture
BENCH_ARGS ?=
CAMPAIGN_ARGS ?=
SIMULATE_ARGS ?=
FUZZ_ARGS ?=
PYTHONS_ARGS ?=
DOCUMENT_ARGS ?=
AUDIT_ARGS ?=
TOUR_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo tour test fast pythons check format bench campaign chaos simulate fuzz constraints audit release man completions site schemas templates words answers modules clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.runtime  ## Set up, then show an erasure run against the sandbox on this machine
	$(BIN)/privacy-toolkit demo

tour: $(VENV)/.dev  ## Play a month at a data protection desk and two days of marketing into tour/, with 20,000 customers; TOUR_ARGS="--customers 500"
	$(BIN)/python -m bench.tour $(TOUR_ARGS)

test: $(VENV)/.dev  ## Set up, then run all tests (CI=true: without a browser they fail instead of being skipped)
	$(BIN)/pytest $(PYTEST_ARGS)

fast: $(VENV)/.dev  ## Set up, then run the unit, contract and architecture tests: under 2 minutes on 2 cores
	$(BIN)/pytest $(PYTEST_ARGS) $(FAST)

pythons: $(VENV)/.dev  ## Run tests and one erasure under each other CPython found here: PATH, pyenv, uv; PYTHONS_ARGS="--short"
	$(BIN)/python -m release.pythons $(PYTHONS_ARGS)

check: $(VENV)/.dev  ## Format, lint, types, layers, house rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.support.house

format: $(VENV)/.dev  ## Put the code into its one format and fix what the linter can
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## Measure against the official SDK; BENCH_ARGS="erase rate" selects
	$(BIN)/python bench/run.py $(BENCH_ARGS)

campaign: $(VENV)/.dev  ## Run jobs under every kind of fault against the sandbox's ledger; CAMPAIGN_ARGS="--subjects 500"
	$(BIN)/python bench/campaign.py $(CAMPAIGN_ARGS)

chaos: $(VENV)/.dev  ## The long version of what make test has a short one of: every store, more faults and kills
	LONG=true $(BIN)/pytest $(PYTEST_ARGS) tests/browser tests/cli tests/integration tests/simulation tests/unit/docs tests/unit/journal

simulate: $(VENV)/.dev  ## Play a million subject-runs in virtual time; SIMULATE_ARGS="--subject-runs 20000 --seed 5"
	$(BIN)/python -m tests.simulation $(SIMULATE_ARGS)

fuzz: $(VENV)/.dev  ## Ask the sandbox whatever its document allows, then send a million hostile inputs through every parser; FUZZ_ARGS="--inputs 5000000 --seed 7"
	$(BIN)/python -m tests.support.against_document $(DOCUMENT_ARGS)
	$(BIN)/python -m tests.support.fuzzing $(FUZZ_ARGS)

constraints: $(VENV)/.dev  ## Raise the pinned versions and hashes to the newest that pyproject.toml allows
	$(COMPILE) pyproject.toml --all-extras --group dev --upgrade --output-file requirements/dev.txt
	$(COMPILE) pyproject.toml --all-extras --constraint requirements/dev.txt --output-file requirements/runtime.txt
	$(COMPILE) --group pyproject.toml:build --constraint requirements/dev.txt --output-file requirements/build.txt

audit: $(VENV)/.dev  ## Ask for known vulnerabilities of what is pinned, and check its licences; needs the internet
	$(BIN)/python -m release.audit $(AUDIT_ARGS)

release: $(VENV)/.dev  ## Build wheel and sdist of the last commit, bill of materials and sums into dist/
	$(BIN)/python -m release.build

man: $(VENV)/.dev  ## Write a man page for each command into build/man
	$(BIN)/python -m release.manual

completions: $(VENV)/.dev  ## Write the completion scripts for bash, zsh and fish into build/completions
	mkdir -p build/completions
	$(BIN)/privacy-toolkit completion bash > build/completions/privacy-toolkit.bash
	$(BIN)/privacy-toolkit completion zsh > build/completions/_privacy-toolkit
	$(BIN)/privacy-toolkit completion fish > build/completions/privacy-toolkit.fish

site: $(VENV)/.dev  ## Build the documentation as a site into build/site; broken links and whatever comes from elsewhere end it
	$(BIN)/python -m release.site

schemas: $(VENV)/.dev  ## Make the JSON Schemas again from the types
	$(BIN)/python -m tests.support.schemas

words: $(VENV)/.dev  ## Write down what this version says in reports, and their pages: see CONTRIBUTING.md
	$(BIN)/python -m tests.support.report_words

templates: $(VENV)/.dev  ## Compile the templates of report.html again
	$(BIN)/python -m tests.support.templates

answers: $(VENV)/.dev  ## Write the tables of docs/answers.md again
	$(BIN)/python -m tests.support.foreign

modules: $(VENV)/.dev  ## Write the table of modules in ARCHITECTURE.md again
	$(BIN)/python -m tests.support.module_table

clean:  ## Remove what the targets made
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.pip:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name one: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo 'Setting up $(VENV): once, and again when pyproject.toml or what is pinned in requirements/ changes.'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.pip pyproject.toml requirements/build.txt requirements/runtime.txt
	$(LOCKED) --requirement requirements/build.txt --requirement requirements/runtime.txt
	$(OWN)
	@touch $@

$(VENV)/.dev: $(VENV)/.pip pyproject.toml requirements/dev.txt
	$(LOCKED) --requirement requirements/dev.txt
	$(OWN)
	@touch $(VENV)/.runtime $@
