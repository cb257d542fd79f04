# The developer's front door. `make` alone lists the doors.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV = $$(cat .cache/uv-path)
READY := $(VENV)/.ready
JOBS ?= 4
# Programs start in a third of the time when Python may keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE
export UV_CACHE_DIR ?= $(CURDIR)/.cache/uv-packages
FOREIGN := $(foreach client,published paho gmqtt aiomqtt mqttjs,.cache/$(client)/.ready)
PINS := requirements/dev.txt requirements/uv.txt sdk/python/pyproject.toml server/pyproject.toml

.PHONY: help install demo demo-broker test check format bench bench-short soak openapi docs pins clean interop-env

help: ## list the doors
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

$(READY): $(PINS)
	@PYTHON="$(PYTHON)" bash scripts/environment.sh $(VENV) requirements/dev.txt
	@"$(UV)" pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e sdk/python -e server
	@touch $@

.cache/%/.ready: interop/%/requirements.txt requirements/uv.txt
	@PYTHON="$(PYTHON)" bash scripts/environment.sh .cache/$* $<
	@touch $@

.cache/mqttjs/.ready: interop/mqttjs/package-lock.json
	@bash scripts/node_packages.sh interop/mqttjs .cache/mqttjs
	@touch $@

interop-env: $(FOREIGN) ## what the tests need beside Python: Mosquitto, foreign clients, network and service tools
	@bash scripts/mosquitto.sh
	@bash scripts/network_tools.sh
	@bash scripts/service_tools.sh

install: $(READY) ## make .venv with the commands thalovant and thalovant-server
	@echo "Installed. Now:  . $(VENV)/bin/activate"

demo: $(READY) ## from nothing to a printed reply over MQTT, WSS and HTTPS
	@$(BIN)/python scripts/demo.py

demo-broker: $(READY) ## the same through a Mosquitto of its own, and what nobody may hear there
	@bash scripts/mosquitto.sh
	@$(BIN)/python scripts/demo_broker.py

check: $(READY) ## format, lint, types, import rules, the container file
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/hadolint Containerfile

test: check interop-env bench-short ## everything that CI runs
	$(BIN)/python -X dev -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder

format: $(READY) ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only -q .

bench-short: $(READY)
	$(BIN)/python -m bench --short

soak: $(READY) ## the tests that live at random, for long (MODEL_EXAMPLES=200)
	THALOVANT_MODEL_EXAMPLES=$(or $(MODEL_EXAMPLES),200) $(BIN)/python -m pytest -q --timeout 0 server/tests/model

bench: $(READY) ## how fast, against a ruler measured in the same run
	$(BIN)/python -m bench

openapi: $(READY) ## write contract/control-plane.openapi.json again
	$(BIN)/python -m thalovant_server.control.openapi > contract/control-plane.openapi.json

docs: ## what there is to read
	@ls README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md docs/*.md

pins: $(READY) ## write the hashed pins again, newest versions
	"$(UV)" pip compile -q --no-header --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-emit-package open-thalovant --no-emit-package open-thalovant-server --no-emit-index-url \
	  requirements/dev.in sdk/python/pyproject.toml server/pyproject.toml -o requirements/dev.txt
	"$(UV)" pip compile -q --no-header --universal --python-version 3.11 --generate-hashes \
	  --no-emit-package open-thalovant --no-emit-package open-thalovant-server --no-emit-index-url \
	  --constraint requirements/dev.txt requirements/image.in sdk/python/pyproject.toml server/pyproject.toml \
	  -o requirements/image.txt
	"$(UV)" pip compile -q --no-header --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  requirements/uv.in -o requirements/uv.txt
	for client in published paho gmqtt aiomqtt; do \
	  "$(UV)" pip compile -q --no-header --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    interop/$$client/requirements.in -o interop/$$client/requirements.txt || exit 1; done

clean: ## remove the environments and the caches
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
