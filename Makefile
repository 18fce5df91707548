# One verb per target. `make demo` and `make test` create the environment themselves.
#   make PYTHON=python3.12 VENV=/somewhere/env PIP_ARGS="--index-url ..." test

SHELL := /bin/sh
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
PYTEST_ARGS ?=

ENVIRONMENT := $(abspath $(VENV))
PY := $(ENVIRONMENT)/bin/python
STAMP := $(ENVIRONMENT)/.installed
DEMO_DATA := data/synthetic

.DEFAULT_GOAL := help
.PHONY: help setup format lint type test slow parity docs recipes check demo clean

help:
	@echo "make demo    tiny data set, training, evaluation, report (no GPU needed)"
	@echo "make test    the fast tests;  make slow  the long ones"
	@echo "make check   lint, types, fast tests;  make parity  recorded reference numbers"
	@echo "make setup   environment only;  make format  make clean"
	@echo "make docs    docs/flags.md from settings/;  make recipes  scripts/*.yml from scripts/recipes/"

setup: $(STAMP)

$(STAMP): pyproject.toml
	@test -x $(PY) || $(PYTHON) -m venv $(ENVIRONMENT)
	@echo "installing into $(ENVIRONMENT): PyTorch is large, the first time takes minutes"
	@$(PY) -m pip install --disable-pip-version-check -qq $(PIP_ARGS) ".[dev]"
	@touch $@

format: $(STAMP)
	$(PY) -m ruff check --fix --exit-zero .
	$(PY) -m ruff format .

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

type: $(STAMP)
	$(PY) -m mypy

test: $(STAMP)
	$(PY) -m pytest -q -n 2 -m "not slow" $(PYTEST_ARGS)

slow: $(STAMP)
	$(PY) -m pytest -q -n 2 -m slow $(PYTEST_ARGS)

parity: $(STAMP)
	$(PY) -m tests.parity tests/parity/fixtures/*

docs: $(STAMP)
	$(PY) -m scripts.make_flag_docs docs/flags.md

recipes: $(STAMP)
	$(PY) -m scripts.make_recipes

check: lint type test

# runx starts the recipe's `python`, hence the PATH; it drops exit codes, hence the summary.
demo: export PATH := $(ENVIRONMENT)/bin:$(PATH)
demo: export HISEG_SYNTHETIC_DIR := $(abspath $(DEMO_DATA))
demo: $(STAMP)
	@echo "demo, 1 of 3: synthetic streets (seconds)"
	$(PY) -m scripts.setup_local
	$(PY) -m datasets.synthetic $(DEMO_DATA)
	@echo "demo, 2 of 3: training, then evaluation (two to three minutes on two cores); lines tell the time left"
	$(PY) -m runx.runx scripts/demo.yml -i
	@echo "demo, 3 of 3: what came out"
	$(PY) -m scripts.demo_summary

clean:
	rm -rf .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
