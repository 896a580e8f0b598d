# Everything a contributor types. `make test` and `make demo` need Python 3.11 or newer and nothing else.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$python && break; done)
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install test test-slow test-keras check format demo docs clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|' 2>/dev/null \
	|| grep -E '^[a-z-]+:.*## ' Makefile

install: $(INSTALLED) ## create .venv and install Lumora into it

# Half a virtual environment is worse than none: it is removed when its creation fails.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo >&2 "No Python 3.11 or newer with the venv module was found." \
		"Install one (on Debian and Ubuntu: python3 and python3-venv), or name it: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

$(INSTALLED): pyproject.toml | $(BIN)/python
	@echo "Installing Lumora and what it needs into .venv; this takes some minutes the first time."
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# Two test processes share the machine, so that each may use one thread.
test test-slow: export OMP_NUM_THREADS = 1
test test-slow: export MKL_NUM_THREADS = 1
# Tests start hundreds of processes; what these import is compiled once.
test test-slow: export PYTHONDONTWRITEBYTECODE =

test: $(INSTALLED) ## run the tests, all but the slow ones
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

# pytest answers 5 when nothing was selected.
test-slow: $(INSTALLED) ## run the slow tests
	$(BIN)/pytest -n 3 --dist worksteal --durations 25 -m slow || test $$? -eq 5

# Keras has an environment of its own, so that nobody else installs it. Each backend has a process of its own; the
# examples in docstrings and on the page are run once.
KERAS_BIN := .venv-keras/bin
KERAS_BACKENDS ?= tensorflow jax torch
KERAS_INSTALLED := .venv-keras/.installed

$(KERAS_BIN)/python:
	@test -n "$(PYTHON)" || { echo >&2 "No Python 3.11 or newer with the venv module was found."; exit 1; }
	$(PYTHON) -m venv .venv-keras || { rm -rf .venv-keras; exit 1; }

$(KERAS_INSTALLED): pyproject.toml | $(KERAS_BIN)/python
	@echo "Installing Lumora with Keras, TensorFlow and JAX into .venv-keras; this takes some minutes the first time."
	$(KERAS_BIN)/python -m pip install --quiet --editable '.[keras-dev]'
	@touch $@

test-keras: export TF_CPP_MIN_LOG_LEVEL = 3
test-keras: export OMP_NUM_THREADS = 1
test-keras: export PYTHONWARNINGS = ignore::DeprecationWarning
# Else JAX compiles for minutes what runs for seconds.
test-keras: export XLA_FLAGS = --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true
test-keras: $(KERAS_INSTALLED) ## run the tests of the Keras part on TensorFlow, JAX and torch
	@for backend in $(KERAS_BACKENDS); do \
		echo "Keras on $$backend"; \
		KERAS_BACKEND=$$backend $(KERAS_BIN)/python -m pytest -n 2 --dist worksteal tests/keras || exit 1; \
	done
	KERAS_BACKEND=tensorflow $(KERAS_BIN)/python -m pytest -o addopts="--doctest-modules --import-mode=importlib" \
		src/lumora/integrations/keras

# An advertisement of another tool's, not about our pages.
check docs: export NO_MKDOCS_2_WARNING = 1

check: $(INSTALLED) ## format, lint, types, house map, documentation
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --strict --quiet

format: $(INSTALLED) ## put the code into shape
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

demo: $(INSTALLED) ## adapt the embedded model to generated scenes, and compare the ways to train
	$(BIN)/lumora demo

docs: $(INSTALLED) ## show the documentation on localhost, rebuilt as you write
	$(BIN)/mkdocs serve

clean: ## remove what the tools made; .venv stays
	rm -rf build dist site .hypothesis .import_linter_cache .pytest_cache .ruff_cache
	find src tests examples benchmarks -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
