# Two commands on a fresh machine: `make run` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest
WORKERS ?= 2
FAST   := not slow and not real and not gpu
SLOW   := (slow or real) and not release and not gpu

.DEFAULT_GOAL := help
.PHONY: help install run test test-slow test-release test-here test-on-ray check bench clean

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

test: $(READY)  ## the fast tests: those with Ray one after the other, beside them the others, WORKERS (2) at a time
	@$(MAKE) --no-print-directory -j2 test-here test-on-ray TESTS='$(FAST)'

test-slow: $(READY)  ## the slow tests, and those on real data and models (ZORBA_RAY_SHARED)
	@$(MAKE) --no-print-directory -j2 test-here test-on-ray TESTS='$(SLOW)'

test-release: $(READY)  ## before a release: what CI's time does not hold, the soak at size, other versions of Ray and of all else
	$(BIN)/python -m pip install --quiet -e '.[tensorboard,mlflow,wandb,trackio,notebooks]' -c constraints.txt
	$(PYTEST) tests/tracking
	$(PYTEST) -m 'release and not gpu'
	ZORBA_SOAK=30 $(BIN)/python -m pytest tests/runtime/test_soak.py
	$(BIN)/python analysis/ray_versions.py
	$(BIN)/python analysis/lower_bounds.py

test-here:
	$(PYTEST) -n $(WORKERS) --dist worksteal -m '$(TESTS) and not ray'

test-on-ray:
	$(PYTEST) -m '$(TESTS) and ray'

check: $(READY)  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/mypy --strict zorba_ray

bench: $(READY)  ## the benchmarks of analysis/
	$(BIN)/python analysis/bench_core.py
	$(BIN)/python analysis/bench_allocation.py
	$(BIN)/python analysis/bench_runtime.py

clean:  ## remove the environment and what tools left behind (not runs/)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
