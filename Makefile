# The two commands to know: `make demo` and `make test`. `make help` lists all.
# Everything that is made lands in .build/ ; the system packages that setup installs are the only other trace.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# Version managers' shims (pyenv, asdf …) answer to "python3" with something else in every directory: none of them here.
export PATH := $(CURDIR)/.build/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PYTHONDONTWRITEBYTECODE := 1
export LC_ALL := C.UTF-8
PYTHON := .build/venv/bin/python
GATES := $(PYTHON) tests/gates.py
LAB := $(PYTHON) tests/lab

.PHONY: help setup demo test lint unit sanity docs build integration nightly molecule bench lab lab-down pins clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: ## install what is missing: system packages, virtual environment, collections
	@tests/setup/bootstrap
	@$(PYTHON) tests/setup/prepare.py

demo: setup ## three nodes, two real guests: one migrated and confirmed, one migrated and reverted
	@$(PYTHON) tests/package.py
	@$(PYTHON) tests/demo/demo.py

test: setup ## every gate and test, then a table
	@$(GATES)

lint: setup ## ruff, mypy, yamllint, ansible-lint
	@$(GATES) ruff format mypy yamllint ansible-lint

unit: setup ## unit tests
	@$(GATES) unit

sanity: setup ## ansible-test sanity, all tests, without a container engine
	@$(GATES) sanity sanity-py39 newest-sanity

docs: setup ## check the documentation and the changelog
	@$(GATES) docs changelog

build: setup ## build the collection, check what is in it, install it, import it as Galaxy would
	@$(GATES) build galaxy-importer

integration: setup ## pytest on the lab
	@$(GATES) integration

nightly: setup ## all tests on the lab: what `make test` has no time for, and every point at which a run is killed (hours)
	@COLDMOVE_NIGHTLY=1 $(GATES) integration molecule

molecule: setup ## the molecule scenarios on the lab
	@$(GATES) molecule

bench: setup ## measure, side by side with raw tools (two hours; DOWNTIME="--size 1 --rate -1 --runs 1" makes the longest part short)
	@$(PYTHON) tests/package.py
	@$(PYTHON) tests/bench/bench.py
	@$(PYTHON) tests/bench/downtime.py $(DOWNTIME)
	@$(PYTHON) tests/bench/resize.py
	@$(PYTHON) tests/bench/evacuate.py

lab: setup ## bring a lab up for trying things by hand, and leave it up
	@$(LAB) up --name manual --nodes 3

lab-down: ## take that lab down
	@$(LAB) down --name manual

pins: ## resolve tests/requirements*.in anew and write the exact pins
	@$(PYTHON) tests/setup/pins.py

clean: ## remove everything that was made here (not the system packages)
	@rm -rf .build tests/output
