# `make run` serves a complete system on loopback, `make test` runs everything that CI runs.
# Each does its own set-up in .venv beside this file, and again when pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Four workers a core (tests/conftest.py). `make XDIST= tests` runs one test at a time.
XDIST ?= -n auto --dist worksteal
# Exact versions with hashes, made by `make lock`. `make LOCK= test` tries the newest that pyproject.toml allows.
LOCK ?= deploy/requirements-dev.lock
LINT = $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && \
  PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
TESTS = $(BIN)/python -m pytest $(XDIST)
TOOLS := .venv/tools
SBOM ?= build/attpc-ioc.cdx.json

# Hundreds of programs are started, and so many interpreters would compile all of it again.
unexport PYTHONDONTWRITEBYTECODE

.NOTPARALLEL:
.PHONY: run test test-fast test-thorough check lint tests bench bench-ca bench-pva docs web-pictures demo-facility lock sbom audit clean

run: $(STAMP)
	@exec $(BIN)/attpc-ioc demo

# All is run, so that one look shows what is wrong with either; pytest's closing line comes last. The linters run
# beside the tests, which wait for much of their time; those that judge time do not count what others take of it.
test: $(STAMP)
	@mkdir -p build; status=0; \
	{ { $(LINT); } >build/lint.log 2>&1; lint=$$?; cat build/lint.log; exit $$lint; } & \
	$(TESTS) || status=1; \
	wait $$! || { echo "the linters found faults: build/lint.log"; status=1; }; \
	exit $$status

check: test

lint: $(STAMP)
	$(LINT)

tests: $(STAMP)
	$(TESTS)

# The quick part of the tests, for between two edits: what needs no database, no SSH and no long wait.
test-fast: $(STAMP)
	$(BIN)/python -m pytest -m "not slow" $(XDIST) tests/unit tests/ecc tests/simulator \
	  tests/rules/test_spine.py

# More of what has no end: random puts, settings, files and messages.
test-thorough: export THOROUGH = 1
test-thorough: test

bench: $(STAMP)
	@for file in benchmarks/[!_]*.py; do name=$$(basename "$$file" .py); echo "== $$name"; \
	  $(BIN)/python -m "benchmarks.$$name" || exit 1; done

# All results of the page on the Channel Access server, measured anew: most of an hour, on a machine that does
# nothing else. The soaks take SOAK_S seconds each.
CA_PAGE := docs/explanation/channel-access-server.md
SOAK_S ?= 600

# What the servers are compared with, beside what the tests need.
$(VENV)/.bench: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $$($(BIN)/python -c \
	  'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench"])')
	@touch $@

bench-ca: $(VENV)/.bench
	$(BIN)/python -m benchmarks.ca.bench --page $(CA_PAGE)
	$(BIN)/python -m benchmarks.ca.flat --kinds here --page $(CA_PAGE)
	$(BIN)/python -m benchmarks.scale --page $(CA_PAGE)
	$(BIN)/python -m benchmarks.soak --seconds $(SOAK_S) --page $(CA_PAGE)
	$(BIN)/python -m benchmarks.ca.soak --seconds $(SOAK_S) --page $(CA_PAGE)

# The same for the page on the PVAccess server: some 25 minutes.
PVA_PAGE := docs/explanation/pvaccess-server.md

bench-pva: $(VENV)/.bench
	$(BIN)/python -m benchmarks.pva.bench --page $(PVA_PAGE)
	$(BIN)/python -m benchmarks.pva.soak --seconds $(SOAK_S) --page $(PVA_PAGE)

# The reference pages that are made from the program; the tests see that they are up to date.
docs: $(STAMP)
	@$(BIN)/python -m tests.docs.pages docs/reference

# The pictures of the page for browsers, of a demo of its own that takes data for some minutes.
web-pictures: $(STAMP)
	@$(BIN)/python -m tests.docs.web_pictures docs/pictures

# Screens, alarms, archiver and saveset for the demo that `make run` serves: what its control room has.
demo-facility: $(STAMP)
	@test -n "$(OUT)" || { echo "say where to: make demo-facility OUT=DIR" >&2; exit 2; }
	@$(BIN)/attpc-ioc export facility --demo "$(OUT)"

# ---- what the program is made of. These three need the network.
UV_LOCK = $(TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
  --no-emit-index-url --upgrade

# The newest versions that the ranges in pyproject.toml allow, for every platform and Python.
lock: $(TOOLS)/.installed
	$(UV_LOCK) pyproject.toml --extra dev --extra bluesky --output-file deploy/requirements-dev.lock
	$(UV_LOCK) pyproject.toml --constraints deploy/requirements-dev.lock --output-file deploy/requirements.lock

# A CycloneDX list of the program's parts, as they are installed from the lock file.
sbom: $(TOOLS)/.installed
	@rm -rf build/sbom && mkdir -p build "$(dir $(SBOM))" && $(PYTHON) -m venv build/sbom
	@build/sbom/bin/python -m pip install --quiet --require-hashes --requirement deploy/requirements.lock
	@build/sbom/bin/python -m pip uninstall --quiet --yes pip setuptools
	@$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application \
	  --output-reproducible --output-file "$(SBOM)" build/sbom/bin/python
	@rm -rf build/sbom
	@echo "$(SBOM)"

# Known vulnerabilities of the locked versions.
audit: $(TOOLS)/.installed
	$(TOOLS)/bin/pip-audit --require-hashes --disable-pip --requirement deploy/requirements-dev.lock

$(TOOLS)/.installed: pyproject.toml
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check $$($(PYTHON) -c \
	  'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["supply"])')
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# Debian parts pip and ensurepip from Python: python3-venv has what is needed; pip alone will do as well.
$(STAMP): pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "attpc-ioc needs Python 3.11 or newer as $(PYTHON): apt-get install python3, or make PYTHON=..." >&2; exit 1; }
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; then :; \
	elif $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv $(VENV); \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -m venv --without-pip $(VENV) && \
	  $(PYTHON) -m pip --quiet --disable-pip-version-check --python $(BIN)/python install pip; \
	else \
	  echo "$(PYTHON) can make no virtual environment: apt-get install python3-venv" >&2; exit 1; \
	fi
	@echo "installing into $(VENV) (the first time this takes a minute or two) ..."
	@set -e; install="$(BIN)/python -m pip install --quiet --disable-pip-version-check"; \
	if test -n "$(LOCK)"; then \
	  $$install --require-hashes --requirement $(LOCK); \
	  $$install --no-deps --no-build-isolation --editable .; \
	else \
	  $$install --upgrade --upgrade-strategy eager --editable '.[dev,bluesky]'; \
	fi
	@touch $(STAMP)
