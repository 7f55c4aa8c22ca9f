# make demo    install into .venv and open the app on http://127.0.0.1:7860
# make test    run the tests (a Chromium on the machine lets the browser test run, too)
# make lint    check style and types, as the checks on each change do
# make wheel   build the package, with the default bundle in it, into dist/

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format wheel clean

demo: .venv/installed
	$(BIN)/python app.py

test: .venv/installed-dev
	$(BIN)/python -m pytest -n 2

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: .venv/installed-dev
	$(BIN)/python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist .

clean:
	rm -rf .venv dist

# Empty files remember what is installed; a changed list of packages installs again.
.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -r requirements.txt
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(BIN)/python -m pip install -r requirements-dev.txt
	touch $@
