# SPDX-License-Identifier: MIT
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first of these that runs and is supported; a name on the command line wins: make demo PYTHON=python3.12
SUPPORTED = import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.12 python3.11 python3.13 python3.10; do \
  "$$p" -c '$(SUPPORTED)' >/dev/null 2>&1 && { echo "$$p"; exit; }; done; echo python3)
endif
BAG ?=
TOPIC ?=
OUT ?= out/demo
ARGS ?=
FOR ?= demo
CASES ?= small-640 base-640 large-640 large-1024 scaling approximations
CAMVID ?=
STAMPS ?=
SETUP = @$(PYTHON) tools/setup_env.py --for
ENTER = source tools/env.sh

.PHONY: help setup demo test test-fast lint train bench bench-gpu scaling clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
	@echo
	@echo 'variables: PYTHON=python3.12  TORCH_INDEX=https://download.pytorch.org/whl/cpu  ARGS="more arguments"'

setup:  ## .venv, ROS 2 wheels, messages, backbone: all that the demo needs: [FOR=train|test]
	$(SETUP) $(FOR)

demo:  ## replay a bag through the live node, report in out/demo: [BAG=path] [TOPIC=/name] [OUT=folder]
	$(SETUP) demo
	@$(ENTER) && python -m eomt_anomaly.ros.demo --output '$(OUT)' \
	  $(if $(BAG),--bag '$(BAG)') $(if $(TOPIC),--topic '$(TOPIC)') $(ARGS)

# pytest runs the tests of every package in one go; `colcon test` would only run eomt_anomaly's a second time.
# Two processes: while one waits for DDS or a process of its own, the other computes. ARGS take their place.
PARALLEL = -n 2 --dist loadfile
test:  ## everything that is needed, then every test
	$(SETUP) test
	@$(ENTER) && python -m pytest $(or $(ARGS),$(PARALLEL))

test-fast:  ## the tests that take less than ten seconds each
	$(SETUP) test
	@$(ENTER) && python -m pytest -m 'not slow' $(or $(ARGS),$(PARALLEL))

lint:  ## ruff and mypy
	$(SETUP) test
	@$(ENTER) && ruff check . && mypy

train:  ## the default recipe: ARGS="--data.camvid_root DIR --data.drives_root DIR --data.stamps_root DIR"
	$(SETUP) train
	@$(ENTER) && python training/fit.py fit --config training/configs/camvid/small_476.yaml $(ARGS)

# With CamVid: the default checkpoint (another: ARGS="--checkpoint DIR"), and mIoU, AuPRC and FPR95 of every contestant.
TRAINED = --checkpoint ros2_ws/src/eomt_anomaly/eomt_anomaly/checkpoints/default --image 360 480 --side 476
bench:  ## the engine against its peers, page in out/bench: [ARGS="--model base"] [CAMVID=folder STAMPS=folder]
	$(SETUP) test
	@$(ENTER) && python -m eomt_anomaly.runtime.bench $(if $(CAMVID),$(TRAINED)) --output out/bench $(ARGS) $(if $(CAMVID),\
	  --output out/bench && python training/bench_labelled.py --bench out/bench --root '$(CAMVID)' \
	    $(if $(STAMPS),--stamps '$(STAMPS)') --every 4)

# No stages and no memory: both are mostly CPU time, and the memory of a compiled network means compiling it again.
bench-gpu:  ## on CUDA, about 12 minutes of an H100: [CASES="small-640 scaling"] [CAMVID=folder STAMPS=folder]
	$(SETUP) test
	@$(ENTER) && failed= && for case in $(CASES); do \
	  echo "== $$case, $$SECONDS s after the start" && case $$case in \
	    scaling) python -m eomt_anomaly.runtime.scaling --device cuda --images --query-counts --sides 252 476 \
	        --cameras 1 4 --models small large --rounds 20 --output out/bench-gpu/scaling && \
	      python -m eomt_anomaly.report.scaling_page out/bench-gpu/scaling/scaling.json ;; \
	    approximations) if [ -n '$(CAMVID)' ]; then \
	        python training/approximations.py --device cuda --data camvid --root '$(CAMVID)' $(if $(STAMPS),--stamps '$(STAMPS)') \
	          --every 2 --ways fp32 bf16 fp16 --output out/bench-gpu/approximations.json; \
	      else echo 'left out: it needs CAMVID=folder STAMPS=folder (docs/training.md)'; fi ;; \
	    *) python -m eomt_anomaly.runtime.bench --device cuda --ours auto bf16+compile fp32 --rounds 30 --warmup 3 \
	        --no-stages --no-memory --model "$${case%-*}" --image "$${case#*-}" "$${case#*-}" --side "$${case#*-}" \
	        --output "out/bench-gpu/$$case" $(ARGS) ;; \
	  esac || failed="$$failed $$case"; \
	done && if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

scaling:  ## time and memory over image size, queries and cameras, page in out/scaling: [ARGS="--rounds 15"]
	$(SETUP) demo
	@$(ENTER) && python -m eomt_anomaly.runtime.scaling --output out/scaling $(ARGS) && \
	  python -m eomt_anomaly.report.scaling_page out/scaling/scaling.json

clean:  ## remove the build and the outputs; .venv and the backbone stay
	rm -rf ros2_ws/build ros2_ws/install ros2_ws/log out
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
