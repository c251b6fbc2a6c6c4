# Everything runs in .venv, which is created if it is missing and reinstalled when
# pyproject.toml or the version is newer. Only make and Python 3.11 or newer are assumed.

BIN := .venv/bin
QUIETLY := -qq --disable-pip-version-check
SUITE ?= quick
ARGS ?=
# Half of the tests' time would go into optimizing programs that run once. A flag that
# this XLA does not know is left out; make test XLA_FLAGS= leaves out all of them.
XLA_FLAGS ?= --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false \
  --xla_cpu_parallel_codegen_split_count=1

# The subset for the oldest versions: all equations and trajectories, and the contract
# for one method of each kind. It takes about two minutes on two cores.
OLDEST_TESTS := tests/golden tests/reference tests/test_identities.py \
  tests/contract/test_contract.py --ignore tests/reference/test_claims.py \
  -k 'not test_rule or adamw- or dadapt_sgd- or gsam- or bloop or lookahead-'
# The newest JAX that the tests were run with. It needs a newer Python than the oldest
# that is supported. make test-newest NEWEST='jax optax flax' tests the latest versions.
NEWEST ?= jax==0.12.0.1 optax==0.2.8 flax==0.12.12
NEWEST_PYTHONS := 3.13 3.12
# $(call set_xla_flags,PYTHON) exports the flags that its XLA knows: it ends the process
# at the first one that it does not know.
set_xla_flags = \
  knows() { XLA_FLAGS="$$*" $(1) -c 'import jax; jax.devices()' >/dev/null 2>&1; }; \
  known='$(XLA_FLAGS)'; \
  if ! knows "$$known"; then \
    known=; for flag in $(XLA_FLAGS); do ! knows "$$flag" || known="$$known $$flag"; done; \
  fi; \
  export XLA_FLAGS="$$known"

# The processes of one run share compiled programs, which nobody keeps.
share_programs = \
  export JAX_COMPILATION_CACHE_DIR=$$(mktemp -d); \
  trap 'rm -rf "$$JAX_COMPILATION_CACHE_DIR"' EXIT; trap 'exit 130' INT TERM; \
  export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0; \
  export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install bench test test-oldest test-newest .run-newest lint format sync figures clean

help:
	@echo 'make bench        run the $(SUITE) suite, print a table and write the report'
	@echo '                  SUITE=standard, games, two_objectives or generalization runs another'
	@echo 'make test         run all tests'
	@echo 'make install      only create .venv, with everything for development'
	@echo 'make test-oldest  test the library with the oldest supported jax and optax'
	@echo 'make test-newest  run all tests with the newest jax, on Python 3.13 or 3.12'
	@echo 'make lint         check format, style, types and import directions'
	@echo 'make format       format the code and sort the imports'
	@echo 'make sync         regenerate the generated files'
	@echo 'make figures      redraw the figure of the README'
	@echo 'make clean        remove the environments and caches; results stay'
	@echo 'More options: make bench ARGS="--seeds 5", make PYTHON=python3.12 ...'

bench: .venv/.bench
	@$(BIN)/python -m benchmarks run $(SUITE) $(ARGS)

install: .venv/.dev

test: .venv/.test
	@$(call set_xla_flags,$(BIN)/python); $(share_programs); \
	$(BIN)/python -m pytest --quiet --numprocesses auto --dist loadfile $(ARGS)

test-oldest: .venv-oldest/.test
	@$(call set_xla_flags,.venv-oldest/bin/python); \
	.venv-oldest/bin/python -m pytest --quiet --numprocesses auto $(OLDEST_TESTS) $(ARGS)

# pyenv finds a Python on the path only if PYENV_VERSION names it; nobody else reads it.
test-newest:
	@for version in $(NEWEST_PYTHONS); do \
	  export PYENV_VERSION=$$version; \
	  if python$$version -c 'import ensurepip, venv' 2>/dev/null; then \
	    python=$$(python$$version -c 'import sys; print(sys.executable)'); \
	    exec $(MAKE) --no-print-directory .run-newest NEWEST_PYTHON="$$python"; \
	  fi; \
	done; \
	echo '*** NOT TESTED with the newest jax: found no Python 3.13 or 3.12 with venv. ***' >&2; \
	echo '*** Install one, such as python3.13-venv, and run make test-newest again.   ***' >&2

.run-newest: .venv-newest/.test
	@$(call set_xla_flags,.venv-newest/bin/python); $(share_programs); \
	.venv-newest/bin/python -m pytest --quiet --numprocesses auto --dist loadfile $(ARGS)

lint: .venv/.lint
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/pyright

format: .venv/.lint
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

sync: .venv/.lint
	@$(BIN)/python -m tools.sync

figures: .venv/.bench
	@$(BIN)/python -m benchmarks run quick
	@$(BIN)/python -m tools.readme_figure

clean:
	@rm -rf .venv .venv-oldest .venv-newest .cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist
	@find . -name __pycache__ -prune -exec rm -rf {} +

# One stamp for each set of extras: make bench does not wait for the test tools.
.venv/.%: .venv/pyvenv.cfg pyproject.toml optimizers/_version.py
	@echo 'Installing .[$*] into .venv; this takes a minute or two and happens once.' >&2
	@$(BIN)/python -m pip install $(QUIETLY) --editable '.[$*]'
	@touch $@

# Recreated from scratch, so that no newer version stays behind.
.venv-oldest/.test: .venv/pyvenv.cfg pyproject.toml tools/oldest.py
	@echo 'Installing the oldest jax and optax into .venv-oldest; this happens once.' >&2
	@$(BIN)/python -m venv --clear .venv-oldest
	@$(BIN)/python -m tools.oldest > .venv-oldest/constraints.txt
	@.venv-oldest/bin/python -m pip install $(QUIETLY) --editable '.[testing]' pytest-xdist \
	  --constraint .venv-oldest/constraints.txt
	@touch $@

.venv-newest/.test: pyproject.toml optimizers/_version.py Makefile
	@echo 'Installing $(NEWEST) into .venv-newest; this happens once.' >&2
	@$(NEWEST_PYTHON) -m venv --clear .venv-newest
	@.venv-newest/bin/python -m pip install $(QUIETLY) --editable '.[test]' $(NEWEST)
	@touch $@

.venv/pyvenv.cfg:
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	  then $$python -m venv .venv && exit; rm -rf .venv; exit 1; fi; \
	done; \
	echo 'error: found no Python 3.11 or newer; install one or name it: make PYTHON=/path/to/python3' >&2; \
	exit 1
