# demo and test do their own set-up: Python 3.11+, pip and make are all a machine needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench constraints clean

# A survey of 1500 x 3000 pixels in the Galactic frame, its true sources beside it, run in tiles on all cores.
demo: .venv/installed
	rm -rf demo && mkdir demo
	$(BIN)/cwt-dask simulate demo/survey.fits --shape 1500 3000 --seed 1 --truth demo/truth.ecsv
	$(BIN)/cwt-dask run demo/survey.fits demo/run --n-scale 3 --min-scale 1.2 --step-scale 1.5 --significance-threshold 5
	$(BIN)/python workflows/demo/compare_with_truth.py demo/run demo/truth.ecsv

test: .venv/installed
	$(BIN)/coverage run --source=cwt_dask -m pytest
	$(BIN)/python tests/raises.py

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/python benchmarks/margin.py

# Resolve the newest versions and pin them; names and versions only.
constraints:
	rm -rf .venv-constraints && $(PYTHON) -m venv .venv-constraints
	.venv-constraints/bin/pip install --quiet '.[dev]'
	.venv-constraints/bin/pip freeze --exclude cwt_dask > constraints.txt
	rm -rf .venv-constraints

clean:
	rm -rf .venv demo .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
