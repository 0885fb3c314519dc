# Two commands: `make demo` and `make test`. Everything they need is set up first, once.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c

# The first interpreter that runs and is one of those with ROS 2 wheels; else python3, whose message says why not.
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13 python3.10; do \
  $$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && exit; done; echo python3)
export TORCH_INDEX
BAG ?=
TOPIC ?=
OUT ?= out/demo

.PHONY: help setup demo test test-fast lint train clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup:  ## make .venv, build the workspace, obtain the backbone
	@$(PYTHON) tools/setup_env.py --for demo

demo: setup  ## replay a bag through the live detector: [BAG=path] [TOPIC=/name] [OUT=out/demo]
	@source tools/env.sh
	python -m eomt_anomaly.ros.demo --output "$(OUT)" $(if $(BAG),--bag "$(BAG)") $(if $(TOPIC),--topic "$(TOPIC)")

test:  ## every test of the packages, the messages, the bags and the tools
	@$(PYTHON) tools/setup_env.py --for test
	source tools/env.sh
	python -m pytest

test-fast:  ## the tests but the slow ones
	@$(PYTHON) tools/setup_env.py --for test
	source tools/env.sh
	python -m pytest -m "not slow"

lint:  ## ruff over all Python files
	@$(PYTHON) tools/setup_env.py --for test
	source tools/env.sh
	ruff check .

train:  ## the default recipe: ARGS="--data.camvid_root DIR --data.drives_root DIR --data.stamps_root DIR"
	@$(PYTHON) tools/setup_env.py --for test
	source tools/env.sh
	python training/fit.py fit --config training/configs/camvid/small_476.yaml $(ARGS)

clean:  ## remove what was built (not .venv)
	rm -rf ros2_ws/build ros2_ws/install ros2_ws/log out
