# Commands of the project. The first command that needs the environment creates it (scripts/bootstrap.py).

VENV    ?= .venv
EXTRAS  ?=
ARGS    ?=
CONFIRM ?=
PYTHON  ?=

.DEFAULT_GOAL := help
.PHONY: help sweep setup test ui lint bench claims clean
MAKEFLAGS += --no-print-directory

IN_RANGE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHONS   = $(or $(PYTHON),python3 python3.11 python3.12 python3.13)
FOUND     = $(shell for p in $(PYTHONS); do $$p -c '$(IN_RANGE)' >/dev/null 2>&1 && { echo $$p; break; }; done)
CHOSEN    = $(or $(FOUND),$(error Python 3.11, 3.12 or 3.13 is needed, but none of these is one: $(PYTHONS). Install one, or set PYTHON=/path/to/python3.12))

ifeq ($(VENV),0)
# Your own Python and torch: nothing is installed; the package is imported from this folder.
MADE = $(CHOSEN) scripts/bootstrap.py --own --extras "$(NEEDS),$(EXTRAS)"
RUN  = PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}" $(CHOSEN) -P
else
MADE = $(CHOSEN) scripts/bootstrap.py --venv "$(VENV)" --extras "$(NEEDS),$(EXTRAS)" $(if $(PYTHON),--this-python)
RUN  = "$(VENV)/bin/python"
endif

# Benchmarks import what is beside them, which `python -P` does not find.
BESIDE = export PYTHONPATH="$(CURDIR)/benchmarks$${PYTHONPATH:+:$$PYTHONPATH}"

# Not with CONFIRM=0, nor after a flag: --cfg and --help train nothing, and -m trains several sweeps.
IS_CONFIRMED = $(if $(filter 0,$(CONFIRM))$(filter -%,$(filter-out --config-dir,$(ARGS))),,yes)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  ARGS='...'   more arguments: make sweep ARGS=\"schedule=cosine search.n_trials=5\""
	@echo "  CONFIRM=0    search only; CONFIRM='confirm.budget=0.5': how to confirm (docs/guide/trust.md)"
	@echo "  VENV=0       use your own Python and torch; VENV=FOLDER: folder of the environment ($(VENV))"
	@echo "  PYTHON=...   which Python, 3.11 to 3.13; EXTRAS=optimizers,...: extras of pyproject.toml"

sweep: ## Sweep learning-rate schedules and confirm the best on fresh seeds, the main command
	@$(MADE)
	@$(RUN) -m sweeper $(ARGS)
	@$(if $(IS_CONFIRMED),$(RUN) -m sweeper confirm $(CONFIRM))

setup: ## Only create the environment
	@$(MADE)

test: NEEDS := dev
test: ## Run the quick tests (all tests: ARGS="-m ''")
	@$(MADE)
	@$(RUN) -m pytest -n auto $(ARGS)

ui: ## Show the sweeps in the MLflow UI
	@$(MADE)
	@$(RUN) -m sweeper ui $(ARGS)

lint: NEEDS := dev
lint: ## Check style (ruff), types (mypy), signatures and imports between rooms (import-linter)
	@$(MADE)
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check --quiet .
	@$(RUN) -m mypy
	@$(RUN) scripts/signatures.py
	@$(RUN) -c 'import sys; from importlinter.cli import lint_imports_command as main; sys.argv[0] = "lint-imports"; main()'

bench: NEEDS := dev
bench: ## Run the benchmarks
	@$(MADE)
	@$(BESIDE); for script in benchmarks/*.py; do $(RUN) "$$script" $(ARGS) || exit 1; done

claims: ## Put claims of the founding documents to the test, and write docs/guide/claims.md
	@$(MADE)
	@$(BESIDE); $(RUN) benchmarks/claims.py --page docs/guide/claims.md $(ARGS)

clean: ## Remove .venv and caches; sweeps stay
	@rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
