# make run    set up, then the whole line on the embedded default corpus
# make test   set up, then the tests
# make check  formatting, lint, types, layers
# The plain commands behind each stand in the README.

PYTHON ?= python3
BIN := .venv/bin
PYTEST_FLAGS ?=

.PHONY: run test check format clean

run: .venv/ready-to-run
	$(BIN)/python scripts/train_llm_from_scratch.py --config-dir configs/quickstart

test: .venv/ready-to-develop
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_FLAGS)

check: .venv/ready-to-develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py

format: .venv/ready-to-develop
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A stamp is newer than what it was made from, so a repeated call costs nothing.
.venv/ready-to-run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, found $$($(PYTHON) --version); set PYTHON=python3.12 or the like"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable . --constraint constraints.txt
	touch $@

.venv/ready-to-develop: .venv/ready-to-run
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
