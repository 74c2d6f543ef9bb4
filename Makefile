# Every target sets up what it needs in .venv, from the hashed files under requirements/.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r

.PHONY: help demo run test simulate faults check format openapi bench requirements clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 14

demo: $(VENV)/.run  ## a GitHub issue becomes a Slack message and a signed webhook; leaves the server running
	@$(BIN)/python -m tenterhook demo

run: $(VENV)/.run  ## the server, on tenterhook.db in this folder
	@$(BIN)/tenterhook serve

test: $(VENV)/.dev  ## every test
	@$(BIN)/python -m pytest

simulate: $(VENV)/.dev  ## 10,000 seeds of the engine in virtual time (SEEDS=n for another number)
	@$(BIN)/python -m bench.simulate --seeds $(or $(SEEDS),10000)

faults: $(VENV)/.dev  ## databases, nodes, clocks and disks fail at full length; about a quarter of an hour
	@$(BIN)/python -m pytest tests/faults --full -s

check: $(VENV)/.dev  ## format, lint, types, and that docs/openapi.json is what the code says
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m tenterhook.api | cmp -s - docs/openapi.json || { \
		echo "docs/openapi.json is not what the table of operations says: run make openapi, and look at its diff"; exit 1; }

format: $(VENV)/.dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

openapi: $(VENV)/.run  ## docs/openapi.json, from the table of operations
	@$(BIN)/python -m tenterhook.api > docs/openapi.json

bench: $(VENV)/.bench  ## throughput, latency, isolation, growth, memory, kill -9; a table and bench/results.json (DATABASE=postgres for the other one)
	@$(BIN)/python -m bench $(if $(DATABASE),--database $(DATABASE))

requirements:  ## lock requirements/*.in again, with hashes (needs uv)
	@for name in dev run bench; do uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-header --no-emit-index-url --upgrade $$(test $$name = dev || echo -c requirements/dev.txt) requirements/$$name.in \
		-o requirements/$$name.txt; done

clean:  ## remove what the other targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis bench/results.json tests/sdk/node_modules

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "Tenterhook needs Python 3.11 or newer on the PATH (or: make PYTHON=/path/to/python)"; exit 1; }
	@echo "setting up $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.python requirements/run.txt pyproject.toml
	@$(INSTALL) requirements/run.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@$(INSTALL) requirements/dev.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.run requirements/bench.txt
	@$(INSTALL) requirements/bench.txt
	@touch $@
