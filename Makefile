# Every target works alone on a fresh clone with Python >= 3.11 and make.
PYTHON ?= python3
VENV ?= .venv
CORPUS ?= newsroom
ENCODER ?= minilm
JOBS ?= 2
PYTEST_ARGS ?=
LAB_ARGS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo lab test lint format docs notebooks bench bench-quick clean

help:  ## show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"trfnb needs Python 3.11 or newer, but $(PYTHON) is {v.major}.{v.minor}: run `make PYTHON=python3.11 …`")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[demo,test]'
	@touch $(READY)

setup: $(READY)  ## make .venv and install

# The sweep reads the lower half of MiniLM; another encoder is taken whole.
WHOLE := $(if $(filter minilm,$(ENCODER)),,--set 'transformer={precision: auto}')
demo: $(READY)  ## share one encoder or train one per task? (CORPUS=path, ENCODER=path or name)
	$(BIN)/trfnb sweep notebooks/sweeps/demo.yml --jobs $(JOBS) --set corpus=$(CORPUS) --set encoder=$(ENCODER) $(WHOLE)

# Two kernels at work share the cores: torch's threads must not wait in a loop.
lab: $(READY)  ## open the notebooks in JupyterLab (LAB_ARGS for its own options)
	OMP_WAIT_POLICY=$${OMP_WAIT_POLICY:-PASSIVE} $(BIN)/jupyter lab --ServerApp.root_dir=notebooks --LabApp.default_url=/lab/tree/00_anatomy.ipynb $(LAB_ARGS)

test: $(READY)  ## run the tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

lint: $(READY)  ## style, types, and notebooks without outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify notebooks/*.ipynb

format: $(READY)  ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/nbstripout notebooks/*.ipynb

docs: $(READY)  ## build the site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

notebooks: $(READY)  ## execute the notebooks that changed: docs/notebooks/, and the README's findings
	$(BIN)/python docs/execute.py

bench: $(READY)  ## measure beside the peers (builds a virtual environment for each)
	$(BIN)/python -m benchmarks

bench-quick: $(READY)  ## check in a minute that nothing became much slower, as ratios
	$(BIN)/python -m benchmarks --quick

clean:  ## remove what can be made again
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache
