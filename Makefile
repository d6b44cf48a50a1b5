# Two commands are enough: `make demo` and `make test`. Each makes its own environment when there is none.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check docs bench wheel clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e '.[dev,docs]'
	touch $(STAMP)

demo: $(STAMP) ## ask the built-in model about a public-domain portrait; saves demo.png
	$(BIN)/facemllm demo --out demo.png

test: $(STAMP) check docs ## lint, types, import contracts, docs, then the tests
	$(BIN)/pytest

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/mkdocs build --strict --quiet

bench: $(STAMP) ## speed and memory; prints ratios
	$(BIN)/python -m benchmarks.ask_speed
	$(BIN)/python -m benchmarks.many_questions --questions 40 --rounds 1
	$(BIN)/python -m benchmarks.train_step --branches 8 --rounds 1

wheel: $(STAMP)
	$(BIN)/python -m build --wheel --outdir dist

clean:
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
