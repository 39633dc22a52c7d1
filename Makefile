# Every target sets up .venv by itself, once; later calls start at once.
#   make run SIZE=6m SEED=1 DEVICE=cuda NAME=first    make run FAST=1    make setup PYTHON=python3.12
# On Linux without a GPU, a much smaller download:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make setup
PYTHON ?= python3
WORKERS ?= 2
PY := .venv/bin/python
READY := .venv/.ready
# A name typed by a person is one quoted word: NAME='a; b' names a folder and runs nothing.
quoted = '$(subst ','\'',$(value $1))'
OPTIONS = $(if $(filter-out 0 no false,$(value FAST)),--fast) $(if $(value SIZE),--size $(call quoted,SIZE)) \
          $(if $(value SEED),--seed $(call quoted,SEED)) $(if $(value DEVICE),--device $(call quoted,DEVICE)) \
          $(if $(value NAME),--name=$(call quoted,NAME))
unexport FAST SIZE SEED DEVICE NAME

.PHONY: help setup setup-dev lab run test lint notebooks site clean
.DEFAULT_GOAL := help

help:
	@echo "make run     the whole pipeline: demonstrations, SFT, rankings, reward model, PPO, evaluation, report"
	@echo "             dials: FAST=1 SIZE=1.3m|6m SEED=0 DEVICE=auto|cpu|cuda NAME=my-run"
	@echo "make lab     JupyterLab on the first notebook"
	@echo "make test    all tests, and every notebook in its fast version, with blanks and solved;"
	@echo "             the widgets also in a real browser, where Chromium or Chrome is installed;"
	@echo "             WORKERS=4 for four processes instead of two"
	@echo "make notebooks  build notebooks/ and solutions/ from solutions/NN_name.py (after editing one)"
	@echo "make site    the solved notebooks with all that they print and draw, and the docs, as pages in site/ that open"
	@echo "             offline: 20 minutes the first time; FAST=1: their fast versions; DRY=1: without outputs"
	@echo "make lint    ruff check"
	@echo "make setup   only the virtual environment in .venv (PYTHON=python3.12 chooses the interpreter)"
	@echo "make clean   remove .venv, site/ and caches; runs/ and data/ stay"

setup: $(READY)

$(READY): requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; say which, for example: make setup PYTHON=python3.12"; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv .venv || \
	  { echo "The virtual environment could not be made; on Debian or Ubuntu: apt install python3-venv"; exit 1; }
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

# What only the tests and the makers of notebooks need.
setup-dev: $(READY)
	@$(PY) -c 'import beartype, jupytext, playwright, ruff, scipy, voila, xdist' 2>/dev/null || \
	  $(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt

lab: $(READY)
	$(PY) -m jupyter lab $(firstword $(sort $(wildcard notebooks/00*.ipynb)) notebooks)

run: $(READY)
	$(PY) -m rlhf_lite run $(OPTIONS)

# Processes with one thread each beat one process with several. A file is one process's: cells share a kernel.
test: setup-dev
	RLHF_LITE_FAST=1 RLHF_LITE_PROGRESS=$(CURDIR)/.pytest_cache/progress.json HF_HUB_OFFLINE=1 PYTHONHASHSEED=0 \
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
	  --nbval-lax --nbval-current-env --nbval-cell-timeout=300 tests notebooks solutions

notebooks: setup-dev
	$(PY) -m rlhf_lite.exercises.build

lint: setup-dev
	$(PY) -m ruff check

site: setup-dev
	@$(PY) -c 'import furo, myst_nb' 2>/dev/null || \
	  $(PY) -m pip install --quiet --disable-pip-version-check -e '.[site]' -c constraints.txt
	$(PY) docs/site/book.py --workers $(WORKERS) $(if $(filter-out 0 no false,$(FAST)),--fast) \
	  $(if $(filter-out 0 no false,$(DRY)),--dry)

clean:
	rm -rf .venv build site dist *.egg-info .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -type d -prune -exec rm -rf {} +
