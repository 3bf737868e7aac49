# demo and test do their own set-up: Python 3.11+, pip and make are all a machine needs.
PYTHON ?= python3
BIN := .venv/bin

# What installs: pip, which every machine has, and which knows the site's mirrors. CI takes "uv pip", at a quarter of the time.
INSTALLER ?= pip
install = $(PYTHON) -m venv $(@D) && $(@D)/bin/pip install --quiet $(firstword $(INSTALLER)) && $(@D)/bin/python -m $(INSTALLER) install --quiet

# Tests start hundreds of processes: what those import is compiled once, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-cluster test-batch test-servers test-stores test-gammapy test-browser test-docs test-package test-long test-damage test-lowest dist docs lint bench chaos constraints clean

# A survey of 1500 x 3000 pixels in the Galactic frame, its true sources beside it, run in tiles on all cores.
demo: .venv/runtime
	rm -rf demo && mkdir demo
	$(BIN)/cwt-dask simulate demo/survey.fits --shape 1500 3000 --seed 1 --truth demo/truth.ecsv
	$(BIN)/cwt-dask run demo/survey.fits demo/run --n-scale 3 --min-scale 1.2 --step-scale 1.5 --significance-threshold 5
	$(BIN)/python workflows/demo/compare_with_truth.py demo/run demo/truth.ecsv

# What only CI does for its time: each write of a tile fails once, disks fail by a seed, each pixel that changes, damaged runs,
# measured memory, acceptances (thousands with ACCEPTANCES=2000), further calls that make a mistake, runs that the version before
# has left (it needs the repository's history), settings of others. Of each it takes some of each kind; before a release
# `make EVERY=1 test test-long test-damage test-stores` takes all.
DAMAGE := $(addprefix tests/run/test_,faults.py disk.py damage.py)
LONG := $(addprefix tests/run/test_,acceptances.py memory.py reuse.py previous_version.py) tests/test_settings_of_others.py

# What make test leaves out; and of its own tests those that are marked as long.
APART := $(DAMAGE) $(LONG) $(addprefix tests/,cluster gammapy browser docs package)

# What is compiled for this processor, which takes a minute and a half: once, before tests wait for it side by side.
.venv/compiled/done: .venv/installed
	rm -rf $(@D) && mkdir $(@D)
	$(BIN)/cwt-dask simulate $(@D)/sky.fits --shape 100 200 --seed 1 > $(@D)/log
	$(BIN)/cwt-dask run $(@D)/sky.fits $(@D)/run --psf 1.3 --max-iter 2 --extended --workers 0 --fits no --no-report --quiet
	touch $@

# On two cores, which most machines have.
test: .venv/installed
	PYTHONPATH=tests $(BIN)/python -m pytest --disable-plugin-autoload -p xdist.plugin -p _hypothesis_pytestplugin -p raises \
		--numprocesses=2 --dist=worksteal -m "not long" $(addprefix --ignore=,$(APART))
	@echo "left out: SLURM, MPI, object stores and whole workflows (make test-cluster, as root); Gammapy and xarray (make test-gammapy);"
	@echo "the report in a browser (make test-browser); the blocks of the documentation (make test-docs); wheel and sdist (make test-package);"
	@echo "faults of each write, disks that fail by a seed, damage of each file (make test-damage);"
	@echo "each change, measured memory, acceptances, settings of others, further cases of what is tested here (make test-long)"

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
# In three parts, side by side: they wait more than they compute.
BATCH := $(addprefix tests/cluster/test_,slurm.py page.py hpc.py)
STORES := $(addprefix tests/cluster/test_,object_stores.py workflows.py)

test-cluster: .venv/installed .venv-workflows/installed
	$(MAKE) --jobs 3 --output-sync=target test-batch test-servers test-stores

test-long: .venv/installed
	$(BIN)/python -m pytest $(LONG)
	PYTHONPATH=tests $(BIN)/python -m pytest -m long $(addprefix --ignore=,$(APART))

# Beside test-long, since both take their time.
test-damage: .venv/installed
	$(BIN)/python -m pytest $(DAMAGE)

test-batch:
	$(BIN)/python -m pytest $(BATCH)

test-stores:
	$(BIN)/python -m pytest $(STORES)

test-servers:
	$(BIN)/python -m pytest tests/cluster $(addprefix --ignore=,$(BATCH) $(STORES))

# Gammapy needs an older version of what is pinned, and where xarray is installed Dask loads it everywhere, which every
# process of the tests would wait for: they have an environment of their own, with the newest that there are.
test-gammapy: .venv-gammapy/installed
	.venv-gammapy/bin/python -m pytest --confcutdir=tests/gammapy tests/gammapy

# Under the lowest versions that pyproject.toml allows, which only uv resolves: all commands on all stores and workers, and
# what leans on others most: headers, tables, plots, observatories' formats. Another version of Numba would throw away what
# this one has compiled: they have places of their own.
test-lowest: .venv-lowest/installed
	NUMBA_CACHE_DIR=$(CURDIR)/$(<D)/compiled PYTHONPATH=tests .venv-lowest/bin/python -m pytest -m "not long" \
		tests/cli/test_commands.py tests/products $(addprefix tests/survey/test_,formats.py dataset.py wcs.py store.py) \
		$(addprefix tests/inspection/test_,tables.py external.py) tests/test_results.py

# Wheel and sdist, as an index gets them. The wheel is built from the sdist, and that in a copy: of what builds leave behind in
# a checkout later ones would take old files. With REPOSITORY=https://... README's links lead there: an index has no files beside it.
dist: .venv/installed
	rm -rf dist && mkdir -p dist/source
	cp -R pyproject.toml README.md LICENSE cwt_dask dist/source
	$(if $(REPOSITORY),$(BIN)/python deploy/index/address.py dist/source $(REPOSITORY))
	$(BIN)/python -m build dist/source --outdir dist > dist/log || (cat dist/log; exit 1)

# What others install, in an environment that knows nothing of this checkout, and with each extra that users name in one of its own.
EXTRAS := plot export s3 slurm mpi kubernetes gammapy

test-package: .venv-package/installed $(EXTRAS:%=.venv-extras/%/installed)
	$(BIN)/python -m pytest tests/package

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

.venv-lowest/installed: pyproject.toml
	$(PYTHON) -m venv $(@D) && $(@D)/bin/pip install --quiet uv
	$(@D)/bin/uv pip compile --quiet --resolution lowest-direct --no-deps pyproject.toml --output-file $(@D)/lowest.txt
	$(@D)/bin/python -m uv pip install --quiet --constraint $(@D)/lowest.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf docs/_build dist .venv .venv-workflows .venv-gammapy .venv-lowest .venv-package .venv-extras demo .mypy_cache .ruff_cache .pytest_cache .hypothesis

# What the package itself needs, and no more: all that the demo takes.
.venv/runtime: pyproject.toml constraints.txt
	$(install) --constraint constraints.txt --editable .
	touch $@

.venv/installed: .venv/runtime
	$(install) --constraint constraints.txt --editable '.[dev]'
	touch $@

# Snakemake brings an environment's worth of its own.
.venv-workflows/installed: workflows/hpc/requirements.txt
	$(install) --requirement $<
	touch $@

# Each time anew.
.venv-package/installed: dist
	rm -rf $(@D)
	$(install) --constraint constraints.txt dist/*.whl
	touch $@

# Gammapy needs an older version of what is pinned. Little of them is imported: the rest is not compiled.
.venv-extras/%/installed: dist
	rm -rf $(@D)
	unset UV_COMPILE_BYTECODE; $(install) $(if $(filter gammapy,$*),,--constraint constraints.txt) "$$(echo dist/*.whl)[$*]"
	touch $@

# Fermipy does not say that it needs six and pyyaml.
.venv-gammapy/installed: pyproject.toml
	$(install) --editable '.[gammapy]' fermipy healpy pytest pyyaml six xarray
	touch $@
