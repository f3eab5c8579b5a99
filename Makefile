# Two commands on a fresh Debian 12: `make demo` and `make test`. Each does all that it needs, asks nothing, and may be
# run again at any time. pip is used as you have configured it; no index is named here.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

VENV := .venv
PYTHON := $(VENV)/bin/python
# somebody who looks on wants to see that something arrives; a log does not
QUIET := $(shell test -t 2 || echo --quiet)
INSTALL := $(PYTHON) -m pip install $(QUIET) --disable-pip-version-check --no-input --constraint constraints.txt
CLI := $(VENV)/bin/omni-watch
PYTHON_PACKAGES = $(shell deploy/find-python.sh >/dev/null 2>&1 || echo python)

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: packages-run setup models ## watch a kettle fill up, and hear, read and receive the alert
	$(CLI) demo

.PHONY: test
test: packages-test setup-dev models check ## all checks and all tests (TESTS="..." for pytest: only these)
ifdef TESTS
	$(PYTHON) -m pytest $(TESTS)
else
	tests/run-all.sh $(PYTHON)
endif

.PHONY: check
check: setup-dev ## format, lint, types and the contracts between the layers; changes nothing
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

.PHONY: bench
bench: packages-test setup-dev models ## measure speed and memory, printed with machine and commit
	$(PYTHON) tests/bench/run.py $(BENCHES)

.PHONY: soak
soak: packages-test setup-dev models ## a day in virtual time, and its own voice in a room (half an hour, nothing beside it)
	$(PYTHON) -m pytest -m soak -s tests/soak tests/integration/test_echo_room.py

# The newest Home Assistant that installs on Python 3.11. For another one, say where it is: OMNI_WATCH_HA_BIN is the folder
# of its python and hass, OMNI_WATCH_HA_ROOT the root of the system it lives in, if that is not ours (it is then started
# by chroot). The pins are of what it needs and no longer says.
.PHONY: test-ha
test-ha: packages-test setup-dev ## our discovery with a real Home Assistant and a real broker (some minutes)
	@[ -n "$${OMNI_WATCH_HA_BIN:-}" ] || [ -x .venv-ha/bin/hass ] || { "$$(deploy/find-python.sh)" -m venv .venv-ha; \
	  .venv-ha/bin/pip install $(QUIET) wheel setuptools; \
	  .venv-ha/bin/pip install $(QUIET) homeassistant==2024.3.3 paho-mqtt==1.6.1 'josepy<2'; }
	OMNI_WATCH_HA_BIN="$${OMNI_WATCH_HA_BIN:-$(CURDIR)/.venv-ha/bin}" $(PYTHON) -m pytest -s -m home_assistant tests/home_assistant

.PHONY: setup
setup: venv ## make .venv with bin/omni-watch in it
	@$(MAKE) --silent $(VENV)/.stamp-run

.PHONY: setup-dev
setup-dev: venv ## the same, with what tests and checks need
	@$(MAKE) --silent $(VENV)/.stamp-dev

.PHONY: models
models: setup ## fetch the model files that are missing
	@$(CLI) models pull || echo "Going on without them; the engine says which abilities it goes without." >&2

.PHONY: packages-run
packages-run:
	@deploy/debian-packages.sh $(PYTHON_PACKAGES) run

.PHONY: packages-test
packages-test:
	@deploy/debian-packages.sh $(PYTHON_PACKAGES) run test

.PHONY: lock
lock: setup-dev ## write the versions that .venv has now to constraints.txt
	$(PYTHON) -m pip freeze --disable-pip-version-check --all --exclude-editable > $(VENV)/frozen
	{ sed '/^[^#]/,$$d' constraints.txt; sed '/^pip==/d; s/+[a-z0-9.]*$$//' $(VENV)/frozen | LC_ALL=C sort -f; } \
	  > $(VENV)/locked
	mv $(VENV)/locked constraints.txt

.PHONY: clean
clean: ## remove the environment and everything that was built or cached in this folder
	rm -rf $(VENV) .venv-ha build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find omni_watch tests migrations -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment is bound to its folder and to the Python that made it: when either moved, it is made anew.
.PHONY: venv
venv:
	@if ! { grep -qsF "$(CURDIR)/$(VENV)/" $(VENV)/bin/pip && $(PYTHON) -c pass; } 2>/dev/null; then \
	  [ ! -e $(VENV) ] || echo "$(VENV) belongs to another folder or Python; making it anew."; \
	  rm -rf $(VENV); \
	  deploy/find-python.sh >/dev/null 2>&1 || deploy/debian-packages.sh python; \
	  "$$(deploy/find-python.sh)" -m venv $(VENV); \
	fi

# torch first: it is by far the largest, and a CPU build of this version, where pip can see one, is preferred to others.
# What builds packages comes from the constraints too, so no second, unpinned environment is made for it.
$(VENV)/.stamp-run: pyproject.toml constraints.txt
	@echo "Installing Python packages into $(VENV); the first time takes some minutes."
	$(INSTALL) torch==2.13.0
	$(INSTALL) hatchling editables setuptools
	$(INSTALL) --no-build-isolation --editable '.[piper]'
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-run
	@echo "Installing what tests and checks need into $(VENV)."
	$(INSTALL) --no-build-isolation --editable '.[piper,dev]'
	@touch $@
