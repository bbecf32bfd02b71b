# `make demo` and `make test` need Python 3.11 or newer and make; everything else is installed into $(VENV).

VENV ?= .venv
DEMO ?= demo
PYTHON ?=
CONSTRAINTS ?= constraints.txt
PYTEST_FLAGS ?= -n auto --maxprocesses=4
comma := ,

export PIP_DISABLE_PIP_VERSION_CHECK = 1

# $(VENV)/installed-EXTRAS-KEY says what was installed. It is written last, so that an interrupted set-up is done
# again; the key changes with the pins, with the place of the checkout and with the Python that was asked for.
# An environment of another Python, or one that was moved or copied here, is made anew.
# Without PYTHON, the first candidate that runs is taken: a version manager's shim may be there without its Python.
SUITABLE = import sys, venv; sys.exit(sys.version_info < (3, 11))
define install
@set -e; \
key=$$({ pwd; echo '$(PYTHON)'; cat pyproject.toml '$(CONSTRAINTS)'; } | cksum | tr ' ' '-'); \
stamp='$(VENV)'/installed-$(1)-$$key; \
if [ -e "$$stamp" ] && '$(VENV)/bin/python' -c '$(SUITABLE)' 2>/dev/null; then exit 0; fi; \
python='$(PYTHON)'; \
for name in python3.12 python3.11 python3.13 python3.14 python3 python; do \
  if [ -z "$$python" ] && $$name -c '$(SUITABLE)' >/dev/null 2>&1; then python=$$name; fi; \
done; \
if ! $${python:-false} -c '$(SUITABLE)' 2>/dev/null; then \
  if [ -n "$$python" ]; then echo "$$python is not Python 3.11 or newer." >&2; \
  else echo "There is no Python 3.11 or newer on the PATH." >&2; fi; \
  echo "Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install" \
       "python@3.12), or name it: make PYTHON=/path/to/python3.12" >&2; \
  exit 2; \
fi; \
version="import sys; print('%d.%d' % sys.version_info[:2])"; \
wanted=$$($$python -c "$$version"); \
here=$$(cd '$(VENV)' 2>/dev/null && pwd -P || true); \
if [ "$$('$(VENV)/bin/python' -c "$$version" 2>/dev/null)" != "$$wanted" ] || \
   ! grep -qF "$$here/bin/python" '$(VENV)/bin/pip' 2>/dev/null || \
   ! '$(VENV)/bin/pip' --version >/dev/null 2>&1; then \
  if ! $$python -c 'import ensurepip' 2>/dev/null; then \
    echo "Python $$wanted ($$python) cannot make environments: its ensurepip module is missing. On Debian and" \
         "Ubuntu: apt install python$$wanted-venv" >&2; \
    exit 2; \
  fi; \
  echo "Making $(VENV) with Python $$wanted ..."; \
  $$python -m venv --clear '$(VENV)'; \
fi; \
echo "Installing roberta-jax [$(1)] and the pinned packages into $(VENV), a minute or two the first time ..."; \
'$(VENV)/bin/python' -m pip install -q -e '.[$(1)]' -c '$(CONSTRAINTS)'; \
rm -f '$(VENV)'/installed-$(1)-*; touch "$$stamp"; echo "Set up."
endef

.PHONY: help setup demo test test-slow test-parity test-beam beam-tests test-tpu tpu-tests lint format bench clean

help:
	@echo 'make demo       sets up, then goes from raw text to a small RoBERTa and its predictions, in $(DEMO)/'
	@echo 'make test       sets up, then runs the tests'
	@echo 'make test-slow  runs the tests that take longer than about ten seconds each'
	@echo 'make test-parity  sets up with PyTorch and transformers, then compares with them'
	@echo 'make test-beam    sets up $(VENV)-beam with Apache Beam, then runs the tests that need it'
	@echo 'make test-tpu     sets up $(VENV)-tpu with the compiler of TPUs, then runs the tests that need it (no TPU)'
	@echo 'make lint       checks format, lint, types and the direction of imports'
	@echo 'make format     writes the format, and the fixes that are safe'
	@echo 'make bench      sets up with PyTorch, then compares tokens per second with it'
	@echo 'make clean      removes $(VENV), $(VENV)-beam, $(VENV)-tpu, caches and $(DEMO)/'
	@echo 'PYTHON=python3.12 chooses the interpreter, VENV=folder the environment.'

setup:
	$(call install,dev)

demo: setup
	'$(VENV)/bin/roberta-jax' demo --workdir='$(DEMO)'

test: setup
	'$(VENV)/bin/python' -m pytest $(PYTEST_FLAGS)

test-slow: setup
	'$(VENV)/bin/python' -m pytest $(PYTEST_FLAGS) -m slow

test-parity:
	$(call install,dev$(comma)torch)
	'$(VENV)/bin/python' -m pytest $(PYTEST_FLAGS) -m parity

# Apache Beam needs older packages than constraints.txt has: an environment of its own.
test-beam:
	@$(MAKE) --no-print-directory beam-tests VENV='$(VENV)-beam' CONSTRAINTS=constraints-beam.txt

beam-tests:
	$(call install,dev$(comma)beam)
	'$(VENV)/bin/python' -m pytest $(PYTEST_FLAGS) -m beam

# Where libtpu is installed without a TPU, jax complains at every start unless JAX_PLATFORMS=cpu: an environment of
# its own. libtpu has packages for one kind of machine; on others there is nothing to run.
test-tpu:
	@if [ "$$(uname -sm)" = 'Linux x86_64' ]; then \
	  $(MAKE) --no-print-directory tpu-tests VENV='$(VENV)-tpu'; \
	else \
	  echo "libtpu, the compiler of TPUs, has no package for $$(uname -sm): its tests are left out."; \
	fi

# One after the other: each compiles on all cores.
tpu-tests:
	$(call install,dev$(comma)tpu)
	'$(VENV)/bin/python' -m pytest -n 0 -m tpu

lint: setup
	'$(VENV)/bin/ruff' format --check .
	'$(VENV)/bin/ruff' check .
	'$(VENV)/bin/mypy'
	'$(VENV)/bin/lint-imports' --no-logo

format: setup
	'$(VENV)/bin/ruff' check --fix .
	'$(VENV)/bin/ruff' format .

bench:
	$(call install,dev$(comma)torch)
	'$(VENV)/bin/python' tools/bench_step.py

clean:
	rm -rf '$(VENV)' '$(VENV)-beam' '$(VENV)-tpu' '$(DEMO)' build dist *.egg-info .coverage .coverage.* \
	  .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv*' -not -path './.git/*' -prune -exec rm -rf {} +
