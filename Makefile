# Where there is no make, python setup_course.py does the same: setup, lab, run, test and all other commands.
# Every target sets up .venv by itself, once; later calls start at once.
#   make run SIZE=6m SEED=1 DEVICE=cuda NAME=first    make run FAST=1    make setup PYTHON=python3.12
PYTHON ?= python3
WORKERS ?= 2
PY := .venv/bin/python
COURSE := $(PYTHON) setup_course.py
# A name typed by a person is one quoted word: NAME='a; b' names a folder and runs nothing.
quoted = '$(subst ','\'',$(value $1))'
OPTIONS = $(if $(filter-out 0 no false,$(value FAST)),--fast) $(if $(value SIZE),--size $(call quoted,SIZE)) \
          $(if $(value SEED),--seed $(call quoted,SEED)) $(if $(value DEVICE),--device $(call quoted,DEVICE)) \
          $(if $(value NAME),--name=$(call quoted,NAME))
unexport FAST SIZE SEED DEVICE NAME

.PHONY: help setup setup-dev lab run doctor test test-oldest lint notebooks site wheelhouse clean
.DEFAULT_GOAL := help

help:
	@echo "make run     the whole pipeline: demonstrations, SFT, rankings, reward model, PPO, evaluation, report"
	@echo "             dials: FAST=1 SIZE=1.3m|6m SEED=0 DEVICE=auto|cpu|cuda|mps NAME=my-run"
	@echo "make lab     JupyterLab on your own copy of the notebooks, my_work"
	@echo "make doctor  what this machine can do, and for each fault the fix"
	@echo "make test    all tests, and every notebook in its fast version, with blanks and solved;"
	@echo "             the widgets also in a real browser, where Chromium or Chrome is installed;"
	@echo "             WORKERS=4 for four processes instead of two"
	@echo "make test-oldest  some of the tests with the oldest packages that pyproject.toml allows (in .venv-oldest)"
	@echo "make notebooks  build notebooks/ and solutions/ from solutions/NN_name.py (after editing one)"
	@echo "make site    the solved notebooks with all that they print and draw, and the docs, as pages in site/ that open"
	@echo "             offline: 20 minutes the first time; FAST=1: their fast versions; DRY=1: without outputs"
	@echo "make lint    ruff check"
	@echo "make setup   only the virtual environment in .venv (PYTHON=python3.12 chooses the interpreter)"
	@echo "make wheelhouse TO=FOLDER  course and packages for a room without a network"
	@echo "make clean   remove .venv, site/ and caches; runs/, my_work/ and data/ stay"

setup:
	@$(COURSE)

# What only the tests and the makers of notebooks need.
setup-dev:
	@$(COURSE) setup --dev

lab:
	@$(COURSE) lab

run:
	@$(COURSE) run $(OPTIONS)

doctor:
	@$(COURSE) doctor

test:
	@$(COURSE) test --workers $(WORKERS)

test-oldest:
	@$(COURSE) test-oldest

wheelhouse:
	@$(COURSE) wheelhouse "$(TO)"

notebooks: setup-dev
	$(PY) -m rlhf_lite.exercises.build

lint: setup-dev
	$(PY) -m ruff check

site:
	@$(COURSE) setup --dev --with site
	$(PY) docs/site/book.py --workers $(WORKERS) $(if $(filter-out 0 no false,$(FAST)),--fast) \
	  $(if $(filter-out 0 no false,$(DRY)),--dry)

clean:
	rm -rf .venv .venv-oldest build site dist *.egg-info .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -type d -prune -exec rm -rf {} +
