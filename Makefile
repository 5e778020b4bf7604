# Two commands do everything on a fresh Debian machine: `make drill` and `make test`. Run them as root, or with sudo at hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP_DONE := $(VENV)/.setup-done
TESTS_READY := $(VENV)/.tests-ready
MACHINES_READY := $(VENV)/.machines-ready
RELEASE_READY := $(VENV)/.release-ready
# On two processors, which four keep busy; with more, what a test waits for does not get its turn.
JOBS ?= 4

.PHONY: help setup drill test test-thorough vm-test lint scenarios reference docs deb image release sbom backends bench bench-check clean

help:  ## Show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: $(SETUP_DONE)  ## Install what is needed; leaves .venv/bin/failshut

# Again only when the dependencies changed: the package itself is installed in place.
$(SETUP_DONE): pyproject.toml tools/setup.sh
	@PYTHON='$(PYTHON)' sh tools/setup.sh $(VENV)
	@touch $@

$(TESTS_READY): pyproject.toml tools/setup.sh
	@PYTHON='$(PYTHON)' sh tools/setup.sh $(VENV) test
	@touch $(SETUP_DONE) $@

$(MACHINES_READY): pyproject.toml tools/setup.sh
	@PYTHON='$(PYTHON)' sh tools/setup.sh $(VENV) vm
	@touch $(SETUP_DONE) $(TESTS_READY) $@

drill: setup  ## Rehearse the attacks on a bundled example policy
	@$(BIN)/failshut drill --example

test: $(TESTS_READY) lint  ## Run the tests, but for those that take minutes each
	@$(BIN)/python -m compileall -q src
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-thorough: $(TESTS_READY)  ## Run every test: a thousand re-arms, ten power cuts, each Debian, a fleet, containers (an hour)
	@$(BIN)/python -m compileall -q src
	@FAILSHUT_THOROUGH=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# One machine at a time: where nothing virtualises, each takes a whole processor.
vm-test: $(MACHINES_READY)  ## Boot whole machines with Debian's kernels, and count what leaves them (an hour)
	@FAILSHUT_VM=all $(BIN)/python -m pytest tests/vm --machines=docs/reference/machines.md --log-cli-level=INFO

lint: $(TESTS_READY)  ## Style, types, and the direction of the imports
	@$(BIN)/ruff check src tests benchmarks tools docs packaging
	@$(BIN)/ruff format --check src tests benchmarks tools docs packaging
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

scenarios: $(TESTS_READY)  ## Write docs/reference/scenarios.md from a run of the tests
	@FAILSHUT_THOROUGH=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --scenarios=docs/reference/scenarios.md

reference: $(TESTS_READY)  ## Write the pages that come from the program itself: commands, the policy's schema
	@$(BIN)/python tools/reference.py

docs: $(TESTS_READY)  ## Build the site and the manual pages in build/docs
	@$(BIN)/python -m sphinx -q -W -b html docs build/docs/html
	@$(BIN)/python -m sphinx -q -W -b man docs build/docs/man
	@echo build/docs/html/index.html

image: $(TESTS_READY)  ## Build the container image in dist/failshut-image.tar
	@mkdir -p dist
	@packaging/container/build dist/failshut-image.tar $(BIN)/python

deb: $(TESTS_READY)  ## Build the Debian package in dist/
	@$(BIN)/python tools/deb.py

$(RELEASE_READY): $(TESTS_READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[release]'
	@touch $@

sbom: $(RELEASE_READY)  ## Write the bill of materials to dist/failshut.cdx.json
	@$(BIN)/python tools/sbom.py dist/failshut.cdx.json

release: $(RELEASE_READY)  ## Build package, wheel, sdist, SBOM and checksums in dist/; KEY=FILE signs them
	@$(BIN)/python tools/release.py $(if $(KEY),--key '$(KEY)')

backends: $(TESTS_READY)  ## Drill by every backend, and write the table of docs/reference/backends.md
	@$(BIN)/python tools/backends_table.py

bench: $(TESTS_READY)  ## Measure what the lock costs beside other switches; BENCH="cost load" for parts, --write for the docs
	@$(BIN)/python -m benchmarks $(BENCH)

bench-check: $(TESTS_READY)  ## Say which ratios got worse than benchmarks/baseline.json, by more than their noise
	@$(BIN)/python -m benchmarks --check $(BENCH)

clean:  ## Remove the virtual environment, caches, and the Debian trees and machines that tests boot
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis "$${XDG_CACHE_HOME:-$$HOME/.cache}/failshut"
