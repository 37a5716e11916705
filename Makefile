# Two commands for a newcomer: `make serve` and `make test`.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: serve test lint check bench install clean

serve: install
	$(BIN)/llm-serve

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

install: $(VENV)/.installed

# Anew whenever the project's own list of packages changes.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[transformers,test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
