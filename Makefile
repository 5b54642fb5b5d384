# Two commands matter: `make up` and `make test`. Everything they need is installed into .venv.

ENGINE ?= sandbox
# Test files at a time. Most of them wait for servers rather than for a processor.
JOBS ?= 3
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1 && { command -v $$p; break; }; done)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help up down cloud kube test test-fast lint bench schema dist screenshot format clean version release-build release-dry-run

help:
	@echo "make up            bring TensorFlow Serving up in a sandbox cloud on this machine, and ask it for predictions"
	@echo "make up ENGINE=pulumi   the same with the Pulumi CLI"
	@echo "make down          destroy it, stop everything"
	@echo "make cloud         only the sandbox cloud, for the Pulumi CLI"
	@echo "make kube          build the Kubernetes API server for tests and stack ack-local (Go; minutes, once)"
	@echo "make test          lint, types and every test that needs neither network nor account"
	@echo "make test-fast     the tests that take no servers"
	@echo "make bench         measure: previews, publishing, label moves, make up (docs/performance.md); many minutes"
	@echo "make schema        write stacks/schema.json and the tables in docs/ anew, from the dataclasses that declare the options"
	@echo "make dist          build the wheel and the archives of the plugin into dist/ (docs/package.md)"
	@echo "make screenshot    make the picture of the console in docs/ anew, from the running local stack (Chromium)"
	@echo "make format        format the code and the pages"
	@echo "make version VERSION=0.2.0   write a version everywhere, and make a section of the changelog (docs/releasing.md)"
	@echo "make release-dry-run         all of a release that can be tried here: files in dist/, notes, checksums"
	@echo "make clean         make down, then remove .sandbox and .venv"

up: .venv/.ready-sandbox
	@$(BIN)/python -m local up --engine $(ENGINE)

down: .venv/.ready-sandbox
	@$(BIN)/python -m local down --engine $(ENGINE)

cloud: .venv/.ready-sandbox
	@$(BIN)/python -m local cloud

kube: .venv/.ready-sandbox
	@$(BIN)/python -m sandbox kube build

test: lint
	$(BIN)/python -m pytest -m "slow or not slow" -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 20 \
		--rerun-slow --rerun-show-tracebacks

test-fast: .venv/.ready-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/.ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy policy/rules.py
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/zizmor --offline --no-progress --quiet .github
	$(BIN)/mdformat --check README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md docs examples/README.md .github

bench: .venv/.ready-sandbox
	$(BIN)/python -m bench

schema: .venv/.ready-dev
	$(BIN)/python -m ops schema

dist: .venv/.ready-dev
	$(BIN)/python -m hatchling build -t wheel -d dist
	$(BIN)/python -m plugin.archive dist

screenshot: .venv/.ready-dev
	$(BIN)/python -m tests.cloud.console.browser docs/console.png

version: .venv/.ready-dev
	@$(BIN)/python -m release version $(VERSION)

release-build: .venv/.ready-dev
	$(BIN)/python -m release build --tag $(TAG)

release-dry-run: .venv/.ready-dev
	@$(BIN)/python -m release dry-run

format: .venv/.ready-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mdformat README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md docs examples/README.md .github

clean:
	@test ! -x $(BIN)/python || $(MAKE) --no-print-directory down
	rm -rf .sandbox .venv

# One stamp per requirements file: a changed pin installs again, an unchanged one costs nothing.
.venv/.ready-%: requirements.txt requirements-sandbox.txt requirements-nodeps.txt requirements-dev.txt $(wildcard sandbox/requirements*.txt)
	@test -n "$(PYTHON)" || { echo "error: Python 3.11, 3.12 or 3.13 is needed, and none is on PATH. Set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || { echo "creating .venv with $(PYTHON)"; $(PYTHON) -m venv .venv; }
	@echo "installing requirements-$*.txt into .venv (TensorFlow included: a few minutes the first time)"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --quiet -r requirements-$*.txt
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps -r requirements-nodeps.txt
	@touch $@
