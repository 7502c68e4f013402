# Two commands on a fresh machine: `make run` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup
FAST   := not slow and not real and not gpu

.DEFAULT_GOAL := help
.PHONY: help install run test test-slow test-release check bench clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: $(READY)  ## create the environment (.venv) with the tested versions

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch -c constraints.txt
	$(BIN)/python -m pip install --quiet -e '.[dev]' -c constraints.txt
	@touch $(READY)

run: $(READY)  ## the main job: train the embedded default and write a report
	$(BIN)/python -m zorba_ray.run

test: $(READY)  ## the fast tests, WORKERS (3) at a time: those with Ray one after the other in the first
	$(PYTEST) -m '$(FAST)'

test-slow: $(READY)  ## the slow tests, and those on real data and models (ZORBA_RAY_SHARED)
	$(PYTEST) -m '(slow or real) and not release and not gpu'

test-release: $(READY)  ## before a release: what CI's time does not hold, and the soak at size
	ZORBA_SOAK=30 $(PYTEST) -m 'release and not gpu'

check: $(READY)  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/mypy --strict zorba_ray

bench: $(READY)  ## the benchmarks of analysis/
	$(BIN)/python analysis/bench_core.py
	$(BIN)/python analysis/bench_allocation.py
	$(BIN)/python analysis/bench_runtime.py

clean:  ## remove the environment and what tools left behind (not runs/)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
