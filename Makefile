# demo and test do their own set-up: Python 3.11+, pip and make are all a machine needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-runs test-rest test-cluster test-batch test-servers test-gammapy test-browser test-docs test-long test-apart docs lint bench chaos constraints clean

# A survey of 1500 x 3000 pixels in the Galactic frame, its true sources beside it, run in tiles on all cores.
demo: .venv/installed
	rm -rf demo && mkdir demo
	$(BIN)/cwt-dask simulate demo/survey.fits --shape 1500 3000 --seed 1 --truth demo/truth.ecsv
	$(BIN)/cwt-dask run demo/survey.fits demo/run --n-scale 3 --min-scale 1.2 --step-scale 1.5 --significance-threshold 5
	$(BIN)/python workflows/demo/compare_with_truth.py demo/run demo/truth.ecsv

# Whole runs and all the rest side by side: each takes one core for about as long as the other. The rest alone shows that
# every raise has a test; watching for that costs a fifth of the time.
RUNS := $(addprefix tests/test_,blocks.py catalogue.py deploy.py dynamic_range.py exactness.py flags.py \
	help.py maps.py margins.py peaks.py pilot.py positions.py products.py python_page.py report.py ring.py simulate.py \
	stop.py work.py xarray.py) tests/cwt/test_rounding.py

# What only CI does for its time: each write of a tile fails once, each pixel that changes, damaged runs, measured memory.
LONG := $(addprefix tests/test_,faults.py fuzz_runs.py memory.py taken_over.py)

# What make test leaves out.
APART := $(LONG) $(addprefix tests/,cluster gammapy browser docs)

test: .venv/installed
	$(MAKE) --jobs 2 --output-sync=target test-runs test-rest
	$(BIN)/python tests/raises.py
	@echo "left out: SLURM, MPI, object stores and whole workflows (make test-cluster, as root); Gammapy (make test-gammapy);"
	@echo "the report in a browser (make test-browser); the blocks of the documentation (make test-docs);"
	@echo "faults of each write, damage of each file, each change, measured memory (make test-long)"

test-runs:
	$(BIN)/python -m pytest $(RUNS)

test-rest:
	$(BIN)/coverage run --source=cwt_dask -m pytest $(addprefix --ignore=,$(RUNS) $(APART))

# The report in a real browser: needs Debian's chromium, chromium-driver and poppler-utils.
test-browser: .venv/installed
	$(BIN)/python -m pytest tests/browser

# Every block of README and docs that is not run by another test; and the pages, with whatever is odd as an error.
test-docs: docs
	$(BIN)/python -m pytest tests/docs

# The tutorial is on the real map where CWT_DASK_TUTORIAL_MAP names one, else on one that is simulated.
docs: .venv/installed
	$(BIN)/sphinx-build -W -n --keep-going --quiet docs docs/_build/html

# On a real SLURM and under a real mpirun, which the tests start: needs root, and Debian's slurm-wlm, munge, openmpi-bin.
# Most of it is waiting, so both halves run side by side.
BATCH := $(addprefix tests/cluster/test_,slurm.py page.py hpc.py)

test-cluster: .venv/installed .venv-workflows/installed
	$(MAKE) --jobs 2 --output-sync=target test-batch test-servers

# All that needs no batch system, one after the other.
test-apart:
	$(MAKE) test-servers
	$(MAKE) test-browser
	$(MAKE) test-gammapy
	$(MAKE) test-docs
	$(MAKE) test-long

test-long: .venv/installed
	$(BIN)/python -m pytest $(LONG)

test-batch:
	$(BIN)/python -m pytest $(BATCH)

test-servers:
	$(BIN)/python -m pytest tests/cluster $(addprefix --ignore=,$(BATCH))

# Gammapy needs an older version of what is pinned: it has an environment of its own, with the newest that there are.
test-gammapy: .venv-gammapy/installed
	.venv-gammapy/bin/python -m pytest --confcutdir=tests/gammapy tests/gammapy

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Measures what margins leave of errors, some six minutes, and writes docs/design/margins.ecsv and its table; then what
# everything costs, into docs/performance.md: the better part of an hour on two cores, 5 GB of scratch space.
bench: .venv/installed
	$(BIN)/python benchmarks/margin.py
	$(BIN)/python benchmarks/performance.py

# Kills workers and drivers at random moments; what it did: docs/reliability.md.
KILLS ?= 150
chaos: .venv/installed
	$(BIN)/python tests/chaos.py --kills $(KILLS)

# Resolve the newest versions and pin them; names and versions only.
constraints:
	rm -rf .venv-constraints && $(PYTHON) -m venv .venv-constraints
	.venv-constraints/bin/pip install --quiet '.[dev]'
	.venv-constraints/bin/pip freeze --exclude cwt_dask > constraints.txt
	rm -rf .venv-constraints

clean:
	rm -rf docs/_build .venv .venv-workflows .venv-gammapy demo .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# Snakemake brings an environment's worth of its own.
.venv-workflows/installed: workflows/hpc/requirements.txt
	$(PYTHON) -m venv .venv-workflows
	.venv-workflows/bin/pip install --quiet --requirement $<
	touch $@

.venv-gammapy/installed: pyproject.toml
	$(PYTHON) -m venv .venv-gammapy
	.venv-gammapy/bin/pip install --quiet --editable '.[gammapy]' pytest
	touch $@
