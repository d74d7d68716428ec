# Two commands do all the set-up: `make optimize` runs the main job, `make test` everything that needs no GPU.
# Only Python 3.11+, make and a C compiler are needed; uv is used when it is there, venv + pip otherwise.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PROBLEM ?= softmax

.PHONY: optimize test lint types wheel guide bench gpu gpu-table clean

$(BIN)/.base: pyproject.toml constraints.txt
	@if command -v uv >/dev/null 2>&1; then \
	  test -d $(VENV) || uv venv --quiet --python $(PYTHON) $(VENV); \
	  VIRTUAL_ENV=$(VENV) uv pip install --quiet -c constraints.txt -e .; \
	else \
	  test -d $(VENV) || $(PYTHON) -m venv $(VENV); \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .; \
	fi
	@touch $@

$(BIN)/.dev: $(BIN)/.base
	@if command -v uv >/dev/null 2>&1; then \
	  VIRTUAL_ENV=$(VENV) uv pip install --quiet -c constraints.txt -e ".[dev]"; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"; \
	fi
	@touch $@

optimize: $(BIN)/.base   ## install and optimise one problem: make optimize PROBLEM=softmax
	$(BIN)/kernelagent optimize run $(PROBLEM) --trials 30 --minutes 1.3

test: $(BIN)/.dev        ## everything that needs no GPU
	$(BIN)/python -m pytest tests -n auto --dist loadfile

lint: $(BIN)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(BIN)/.dev
	PYTHON=$(abspath $(BIN))/python sh tools/typecheck.sh

wheel: $(BIN)/.dev       ## build the wheel, install it without dev tools, run it beside foreign folders
	PYTHON=$(abspath $(BIN))/python sh tools/wheel_test.sh

guide: $(BIN)/.base      ## refresh the generated language guides
	$(BIN)/python -m kernelagent.dsl.guide
	$(BIN)/python -m kernelagent.dsl.level2.guide

bench: $(BIN)/.base      ## the ratios that the README quotes (minutes)
	$(BIN)/python benchmarks/ratios.py

gpu: $(BIN)/.dev         ## on a machine with an NVIDIA GPU: atoms, correctness, timing; elsewhere compiles all kernels
	@if command -v nvidia-smi >/dev/null 2>&1; then \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[gpu,torch]"; \
	fi
	$(BIN)/python benchmarks/gpu/run.py

gpu-table: $(BIN)/.dev   ## what is known of the GPU kernels without a GPU is as committed (minutes)
	$(BIN)/python benchmarks/gpu/table.py --check

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
