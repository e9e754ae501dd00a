# Every target sets itself up: a virtual environment in .venv, the versions of requirements.lock, the package.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
export MPLBACKEND := Agg

.PHONY: demo test test-slow test-gpu mutants lint types docs notebooks wheel-check install lock clean help

help:
	@echo "make demo       small networks trained, measured, lesioned and pruned, with a report (two minutes)"
	@echo "make test       format, lint, types, doctests and tests"
	@echo "make test-slow  the tests that need minutes, a GPU, or TWOAXIS_DATA"
	@echo "make test-gpu   results on a GPU against those of the CPU (minutes)"
	@echo "make mutants    which changes of the code its tests notice: docs/mutation.md (hours)"
	@echo "make docs       the site in site/: docs/, and a reference from docstrings; links are checked"
	@echo "make notebooks  the scripts of notebooks/ executed: runs/notebooks/*.ipynb, and the figures of docs/gallery.md"
	@echo "make wheel-check  the demo from the built wheel and source archive, each in a fresh environment"
	@echo "make install    the virtual environment in .venv"
	@echo "make lock       pin the newest allowed versions in requirements.lock"

install: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $(READY)

demo: $(READY)
	$(BIN)/twoaxis demo

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

# One thread per worker, two workers: the suite is many small problems.
test: lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile
	NUMBA_DISABLE_JIT=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/sim/test_kernels.py

test-slow: $(READY)
	$(BIN)/python -m pytest -q -m slow --timeout 3600

test-gpu: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow -n 4 tests/gpu

mutants: $(READY)
	OMP_NUM_THREADS=1 nice -n 19 $(BIN)/python -m tests.mutation

docs: $(READY)
	$(BIN)/python -m mkdocs build --strict --quiet

notebooks: $(READY)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock -e '.[notebooks]'
	PYTHONPATH=. $(BIN)/python scripts/notebooks.py --figures docs/figures/gallery

wheel-check: $(READY)
	.ci/wheel-check

lock: $(READY)
	$(BIN)/uv pip compile --quiet --universal --no-emit-index-url --no-annotate --no-header \
	    --extra test --extra docs --python-version 3.11 pyproject.toml -o requirements.lock

clean:
	rm -rf .venv build site *.egg-info
