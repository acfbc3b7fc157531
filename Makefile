# Everything runs in .venv, which the first command makes. Needs Python >= 3.11 only.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OLDEST := .venv-oldest
NEWEST := .venv-newest

# Handed on to pytest, as in: make fast ARGS="-k connector"
ARGS ?=

# Two workers of one thread each: with more threads they fight for two cores.
# SciPy reads SCIPY_ARRAY_API when it is imported, so it cannot be set by a test.
TEST_ENV := SCIPY_ARRAY_API=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST := $(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test fast test-oldest test-newest gpu lint docs dist check-dist \
	check-tag clean

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

demo: $(STAMP) ## unwrap a small network, print the report, save demo_figures/
	$(BIN)/python benchmarks/demo.py

test: $(STAMP) ## run all tests and the examples of the docstrings
	$(PYTEST) $(ARGS)

fast: $(STAMP) ## the same without the slow tests
	$(PYTEST) -m "not slow" $(ARGS)

# Array-API dispatch, which SCIPY_ARRAY_API allows, needs a newer scipy than the oldest.
test-oldest: $(OLDEST)/.installed ## run the fast tests on the oldest versions promised
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_CACHE_DIR=$(abspath $(OLDEST))/numba \
	$(OLDEST)/bin/python -m pytest -n 2 --dist worksteal -m "not slow" tests $(ARGS)

# Torch's version stands, whose builds differ; of all else the newest is taken.
test-newest: $(NEWEST)/.installed ## run the fast tests on the newest versions there are
	$(TEST_ENV) $(NEWEST)/bin/python -m pytest -n 2 --dist worksteal -m "not slow" $(ARGS)

# Where pip has torch's CUDA build: its default on Linux. ARGS=--smoke needs no GPU.
gpu: $(STAMP) ## test and measure on one GPU, in nine minutes; ARGS=--smoke: on the CPU
	$(BIN)/python benchmarks/gpu.py $(ARGS)

lint: $(STAMP) ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Warnings are errors, also those of the examples, which run on one thread each.
docs: $(STAMP) ## build the site in build/site and check its links
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m sphinx -b html -n -W \
	--keep-going -q -d build/doctrees docs build/site $(ARGS)
	$(BIN)/python docs/check_links.py build/site

dist: $(STAMP) ## build the wheel and the sdist in dist/
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist

check-dist: dist ## install them in a bare environment and run the README's example
	$(BIN)/python scripts/release.py check-dist dist

TAG ?=
check-tag: ## check that TAG, as v0.1.0, is the version that is to be released
	$(PYTHON) scripts/release.py check-tag "$(TAG)"

clean: ## remove .venv, the site, the figures of the demo and all caches
	rm -rf $(VENV) $(OLDEST) $(NEWEST) build dist demo_figures language_model_figures
	rm -rf docs/api docs/gallery docs/records
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find skfeat tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# The constraints name torch's version; where pip also sees its CPU build (see
# CONTRIBUTING.md) it takes that, else on Linux the one with gigabytes of CUDA. The
# installed metadata hold the version skfeat/_version.py states, hence that one too.
$(STAMP): pyproject.toml constraints-dev.txt skfeat/_version.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e ".[dev]" -c constraints-dev.txt
	@touch $@

$(OLDEST)/.installed: pyproject.toml constraints-oldest.txt skfeat/_version.py
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet -e ".[fast,plot,graph,interop]" \
	pytest pytest-xdist hypothesis numpydoc pandas cloudpickle pillow psutil pyyaml \
	-c constraints-oldest.txt
	@touch $@

$(NEWEST)/.installed: pyproject.toml constraints-dev.txt skfeat/_version.py
	$(PYTHON) -m venv $(NEWEST)
	grep '^torch==' constraints-dev.txt > $(NEWEST)/torch.txt
	$(NEWEST)/bin/python -m pip install --quiet --upgrade -e ".[dev]" \
	-c $(NEWEST)/torch.txt
	@touch $@
