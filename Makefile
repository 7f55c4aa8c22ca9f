# make demo    install into .venv and open the app on http://127.0.0.1:7860
# make test    run the tests (a Chromium on the machine lets the browser test run, too)
# make lint    check style, as the checks on each change do

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format clean

demo: .venv/installed
	$(BIN)/python app.py

test: .venv/installed-dev
	$(BIN)/python -m pytest

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv

# Empty files remember what is installed; a changed list of packages installs again.
.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -r requirements.txt
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt requirements-extra.txt
	$(BIN)/python -m pip install -r requirements-dev.txt
	touch $@
