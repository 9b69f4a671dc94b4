# Patchbank: extract features once, evaluate them as often as you like. `make help` lists the targets.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
EXP ?= experiments/demo.toml
STORE ?= store
DATA ?= $(or $(PATCHBANK_DATA),data)
RESULTS ?= results
VENV := .venv
BIN := $(VENV)/bin
# faiss-gpu where there is an NVIDIA driver on Linux x86-64, faiss-cpu elsewhere.
FAISS := $(shell [ "$$(uname -sm)" = "Linux x86_64" ] && command -v nvidia-smi >/dev/null && echo gpu || echo cpu)

# Without bytecode every process would compile torch and its dependencies again: some ten seconds a command.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo extract evaluate report test test-all check bench gpu-check clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.ready ## make the environment in .venv and say what it holds

$(VENV)/.ready: pyproject.toml requirements/$(FAISS).txt
	@echo "Installing into $(VENV): torch, torchvision, timm, zarr, faiss-$(FAISS) and what they need."
	@echo "On Linux torch brings its CUDA libraries, some 3 GB to download and 6 GB on disk."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	# uv resolves torch and torchvision to matching builds; plain pip may pair a CPU torch with a CUDA torchvision.
	# Compiled once here, and not again by each of the first processes.
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/$(FAISS).txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@du -sh $(VENV) | sed 's/\t.*/ in $(VENV)/'
	@touch $@

demo: setup ## the whole chain offline on painted street scenes: extract, evaluate, report
	$(BIN)/patchbank demo --store $(STORE) --data $(DATA) --results $(RESULTS)

extract: setup ## make the missing features of EXP (EXP=experiments/demo.toml)
	$(BIN)/patchbank extract $(EXP) --store $(STORE) --data $(DATA)

evaluate: setup ## run the analyses of EXP whose results are missing
	$(BIN)/patchbank evaluate $(EXP) --store $(STORE) --results $(RESULTS)

report: setup ## write EXP's page and figures again from its results
	$(BIN)/patchbank report $(basename $(notdir $(EXP))) --results $(RESULTS)

test: setup ## the default tests: no network, no real data needed, under five minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-all: setup ## the slow tests too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not gpu"

check: setup ## ruff, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## speed, memory and bytes as ratios to something measured in the same run
	$(BIN)/python -m benchmarks

gpu-check: setup ## what needs an NVIDIA GPU: the tests, then rates of every stage; under eight minutes
	$(BIN)/python -m pytest -m gpu tests/gpu tests/evaluate/test_device_neighbours.py tests/evaluate/test_evaluating_on_a_device.py
	$(BIN)/python -m benchmarks.gpu

clean: ## remove what the commands made in this folder, but not the environment
	rm -rf store results data/street-world benchmarks/out
