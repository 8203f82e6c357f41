# `make example` and `make test` do all the set-up themselves, in .venv (once, and again when pyproject.toml changes).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# One thread for each process: the tests' tensors are small, and threads that wait for each other make times unsteady.
test test-fast: export OMP_NUM_THREADS ?= 1
# A process for each core, each with whole files of tests, for the fixtures of a file are costly. Each takes about 2 GB at its peak.
WORKERS ?= -n auto --maxprocesses 4 --dist loadfile

.PHONY: example test test-fast lint types docs clean

example: $(VENV)/.installed
	$(BIN)/python examples/restore_example.py

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(WORKERS)

test-fast: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(WORKERS) -m "not slow"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy
	@# The nodes import the core relatively, as part of the folder that ComfyUI loads: checked under a name that Python allows.
	ln -sfn "$(CURDIR)" $(VENV)/pfr_pack
	MYPYPATH=$(VENV):tests/comfy_stand_ins $(BIN)/mypy -p pfr_pack.nodes

# The API reference, from the docstrings, into build/api; and the tables of docs/ that are made from the code.
docs: $(VENV)/.installed-dev
	$(BIN)/python docs/tools/options.py
	$(BIN)/python docs/tools/reference.py build/api

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "PFR needs Python 3.10 or newer: make PYTHON=/path/to/python3 ...")'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; } # half of one would be taken for a whole

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev,train,demo]'
	touch $@ $(VENV)/.installed
