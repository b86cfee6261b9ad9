# Development commands; they use the python on the PATH (activate the virtual environment first).
PYTHON ?= python

.PHONY: check format lint types imports test screens slow coverage

check: lint types imports test

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

lint:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .

types:
	$(PYTHON) -m mypy

imports:
	$(PYTHON) -c "from importlinter.cli import lint_imports_command; lint_imports_command()"

test:
	$(PYTHON) -m pytest

screens:
	$(PYTHON) -m pytest -m "screens and not slow"

slow:
	$(PYTHON) -m pytest -m slow

coverage:
	$(PYTHON) -m pytest --cov --cov-report=term
