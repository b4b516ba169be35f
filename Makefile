# Two commands need nothing but Python and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all soak lint bench clean

demo: $(VENV)/.installed-demo
	$(BIN)/cvbatch demo

# two at once, file by file, each with one thread: most of the time a test waits for a process to start
test: export OMP_NUM_THREADS = 1
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=40 -m "not slow and not soak"

test-all: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=40 -m "not soak"

soak: lint
	$(BIN)/python -m pytest -m soak

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/.installed-bench
	$(BIN)/python jobs/benchmark/run.py

clean:
	rm -rf $(VENV) cvbatch-demo build *.egg-info

# installed anew only when pyproject.toml changed
$(VENV)/.installed-%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@
