# `make sweep` runs a real sweep, `make test` proves the tree, `make quick` most of it while one works, `make docs`
# writes the documentation to site/. Each builds .venv when needed.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

.PHONY: sweep test quick docs lint clean

sweep: $(READY)
	$(VENV)/bin/emsweep launch sweep=quickstart --dir outputs/quickstart --yes

test: $(READY) lint
	$(VENV)/bin/pytest -q -m "not slow" -n auto --maxprocesses 5

# What starts no process, engine or browser, by folder: decisions, formats, formulas. Peers are slow to import.
QUICK := $(addprefix tests/sweeps/,spec grid sharing cost) $(addprefix tests/orchestrator/,scheduling store) \
  tests/analysis/stats tests/trainers/objectives tests/trainers/step/test_masks.py tests/trainers/test_noise.py \
  tests/docs

quick: $(READY) lint
	$(VENV)/bin/pytest -q -m "not slow" -k "not trl and not statsmodels" -n 2 $(QUICK)

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet
	@echo "site/index.html"

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy --num-workers auto
	$(VENV)/bin/lint-imports

# torch goes first and pinned: left to the resolver, it would bring gigabytes of CUDA libraries along.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $$($(PYTHON) --version) found, 3.11 or newer needed: apt-get install python3.11, or make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  echo "error: Python has no venv module: apt-get install python3-venv" >&2; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[figures,dashboard,mirror,docs,dev,peers]'
	@touch $(READY)

clean:
	rm -rf $(VENV)
