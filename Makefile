# make figures   a virtual env with the light core, then every figure from data/
# make check     the core's quick tests, without torch: seconds
# make test      everything the tests need, then lint, types, contracts of imports and tests
# make coverage  the tests once more, and the share of lines that they run
# make docs      the documentation as a site in site/
# make lab       opens the notebooks in Jupyter, with the light core
# make notebooks executes the notebooks in place (some minutes)
# make bench     speed as ratios against peers in one run
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints.txt
CORE := --ignore-glob='*/lab/*' --ignore-glob='*distributed.py' # needs no extra

.DEFAULT_GOAL := help
.PHONY: help figures check test coverage minimal lint docs lab notebooks bench clean

help:
	@sed -n 's/^# //p' Makefile

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25' # several times as fast as older ones

$(VENV)/.core: $(BIN)/python pyproject.toml $(CONSTRAINTS)
	$(BIN)/python -m pip install --quiet -e . -c $(CONSTRAINTS)
	@touch $@

$(VENV)/.test: $(VENV)/.core
	$(BIN)/python -m pip install --quiet -e '.[test]' -c $(CONSTRAINTS)
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install --quiet -e '.[dev,docs,train,embed]' -c $(CONSTRAINTS)
	@touch $@ $(VENV)/.test

figures: $(VENV)/.core
	$(BIN)/python figures/regenerate.py

check: $(VENV)/.test
	$(BIN)/python -m pytest -q -m 'not slow and not train' $(CORE)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

coverage: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 2 --cov=passk_lab --cov-report=term

# The core without extras, installed as users install it; then what `make check` runs.
minimal:
	$(PYTHON) -m venv --clear build/minimal
	build/minimal/bin/python -m pip install --quiet '.[test]' -c $(CONSTRAINTS)
	build/minimal/bin/passk-lab report data/countdown/rollouts.parquet --baseline T=1.0 \
	    --out build/minimal/report
	cd build/minimal && bin/python -m pytest -q -n 2 -o pythonpath= $(CORE) --pyargs passk_lab
	build/minimal/bin/python -m pytest -q -n 2 -m 'not slow and not train' $(CORE) tests

# NO_MKDOCS_2_WARNING: no advertisement of the theme's successor.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# What a notebook needs besides, it says: .venv/bin/pip install -e '.[train,embed]'
lab: $(VENV)/.core
	$(BIN)/python -m pip install --quiet -e '.[notebooks]' -c $(CONSTRAINTS)
	$(BIN)/jupyter lab notebooks/1_your_own_rollouts.ipynb

notebooks: $(VENV)/.dev
	$(BIN)/python notebooks/execute.py

bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet -r benchmarks/requirements.txt -c $(CONSTRAINTS)
	$(BIN)/python -m pip install --quiet --no-deps lm-eval==0.4.13 diversity==0.3.1
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
