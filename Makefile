# One command per wish. Every target first makes the virtual environment it needs; nothing outside this directory
# is changed, except that root on Debian or Ubuntu gets the venv package when it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MEMBERS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml console/pyproject.toml))
PINS := requirements/runtime requirements/build requirements/dev
# mypy looks at these one by one: each is a world of its own, and two of them may both have a conftest.py.
APART := bench $(MEMBERS) $(wildcard examples/plugins/*/src)
TESTS :=
ROUNDS := $(or $(BENCH_ROUNDS),3)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help setup tools demo test test-all hunt lint format bench dist pins clean

help:
	@echo 'make setup     .venv with pinned dependencies, core and all plugins; the command is .venv/bin/i2'
	@echo 'make tools     in .venv also what tests, lint and dist need; they install it themselves'
	@echo 'make demo      the whole system on this host, with something to look at'
	@echo 'make test      quick tests (minutes); TESTS="-k word" goes to pytest'
	@echo 'make test-all  all tests, also the slow ones and those that need root'
	@echo 'make hunt      long random histories of live replication, for whoever hunts rare bugs'
	@echo 'make lint      ruff, mypy --strict, one-way imports'
	@echo 'make format    let ruff mend what it can'
	@echo 'make bench     i2 beside rsync, lsyncd and syncthing (root); BENCH_ROUNDS=3; see bench/README.md'
	@echo 'make dist      wheels and sdists of all distributions in dist/, and a check that they install'
	@echo 'make pins      renew requirements/*.txt'

setup: $(VENV)/.installed

tools: $(VENV)/.tools

$(BIN)/python:
	@PYTHON='$(PYTHON)' VENV='$(VENV)' sh requirements/venv.sh

# A stamp, so that a second run costs nothing: all is installed anew only when a pin or a project file changed.
$(VENV)/.installed: requirements/runtime.txt requirements/build.txt pyproject.toml $(MEMBERS:%=%/pyproject.toml) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --no-index -e . $(MEMBERS:%=-e %)
	@# As pip does for a wheel: else each start compiles all modules anew where Python may not write (0.2 s of CPU).
	$(BIN)/python -m compileall -q i2core $(MEMBERS:%=%/src)
	@touch $@

# A stamp of its own: a node needs no compiler of types, and whoever only runs i2 waits for none of this.
$(VENV)/.tools: requirements/dev.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

demo: setup
	$(BIN)/i2 demo

test: tools
	$(BIN)/python -m pytest -m 'not slow and not root and not hunt' $(TESTS)

test-all: tools
	HYPOTHESIS_PROFILE=all $(BIN)/python -m pytest -m 'not hunt' $(TESTS)

hunt: tools
	$(BIN)/python -m pytest -m hunt $(TESTS)

lint: tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --explicit-package-bases i2core tests conftest.py
	@for part in $(APART); do echo "mypy $$part"; $(BIN)/mypy $$part || exit 1; done
	$(BIN)/lint-imports --no-cache

format: tools
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python bench/run.py --rounds $(ROUNDS)

# The clean environment takes its dependencies from the same pins, and our own distributions from dist/ alone.
dist: tools
	rm -rf dist build
	$(BIN)/uv build --quiet --offline --no-build-isolation --all-packages --out-dir dist
	$(PYTHON) -m venv build/check
	build/check/bin/python -m pip install --quiet --require-hashes -r requirements/runtime.txt
	build/check/bin/python -m pip install --quiet --no-deps --no-index dist/*.whl
	build/check/bin/python -m pip check
	build/check/bin/i2 plugins list
	@ls dist

pins: tools
	@for pins in $(PINS); do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	    --no-header --no-annotate --no-emit-index-url -o $$pins.txt $$pins.in || exit 1; done

clean:
	rm -rf $(VENV) dist build bench/work .mypy_cache .ruff_cache .pytest_cache .hypothesis
