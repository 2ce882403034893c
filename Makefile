# Two commands do everything on a fresh machine: `make demo` (the main job) and `make test`.
# PYTHONDONTWRITEBYTECODE would make every process parse torch anew (10 s and more): it is unset below.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
VENV ?= .venv
PARITY ?= .venv-mmdet
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint docs env gpu-test parity bench bench-cpu accuracy necks zoo throughput compositions clean help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(STAMP): requirements.txt pyproject.toml
	@start=$$(date +%s); \
	$(PYTHON) -c 'import sys; sys.exit("torso needs Python 3.11 or newer; this is " + sys.version.split()[0] + ": run make PYTHON=python3.12") if sys.version_info < (3, 11) else None' && \
	$(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install -q uv && \
	$(BIN)/uv pip install -q --python $(BIN)/python --compile-bytecode -r requirements.txt && \
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -e . && \
	touch $@ && echo "installed in $$(( $$(date +%s) - start )) s"

env: $(STAMP) ## set up .venv

demo: $(STAMP) ## build a data set, train on it, evaluate, draw; leaves demo/
	$(BIN)/torso demo --out demo

test: $(STAMP) lint ## lint and all tests that need no GPU
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not gpu"

lint: $(STAMP)
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/ruff format --check -q src tests benchmarks tools
	$(BIN)/mypy

docs: $(STAMP) ## build the documentation into site/
	$(BIN)/mkdocs build --strict

gpu-test: $(STAMP) ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

parity: ## compare with mmdetection and effdet, in an environment of its own
	test -x $(PARITY)/bin/python || $(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/pip install -q -c constraints.txt -r tests/parity/mmdet/requirements.txt -r tests/parity/effdet/requirements.txt
	$(PARITY)/bin/pip install -q --no-deps -r tests/parity/mmdet/requirements-no-deps.txt -e .
	$(PARITY)/bin/python -m pytest tests/parity/mmdet tests/parity/effdet -s

bench: $(STAMP) ## speed beside torchvision on a CUDA device
	$(BIN)/python benchmarks/detection.py --out benchmarks/results/local
	$(BIN)/python benchmarks/suppression.py --out benchmarks/results/local/suppression.json

bench-cpu: $(STAMP) ## prediction beside torchvision on the CPU
	$(BIN)/python benchmarks/detection.py --device cpu --serial --repeats 5 --limit 3000 --out benchmarks/results/local-cpu \
		--cases infer1:retinanet infer1:fcos infer1:faster_rcnn

accuracy: $(STAMP) ## accuracy beside torchvision on a CUDA device, DATA=folder; repeat until all trainings are done
	$(BIN)/python benchmarks/accuracy.py --data $(DATA) --out benchmarks/results/local/accuracy

necks: $(STAMP) ## necks beside each other on a CUDA device, DATA=folder; repeat until all trainings are done
	$(BIN)/python benchmarks/necks.py --data $(DATA) --out benchmarks/results/local/necks

zoo: $(STAMP) ## a member of each family from its own recipe on a CUDA device, DATA=folder; repeat until all are done
	$(BIN)/python benchmarks/zoo.py --data $(DATA) --out benchmarks/results/local/zoo

throughput: $(STAMP) ## speed of YOLO sizes and their share of the matrix peak on a CUDA device
	$(BIN)/python benchmarks/throughput.py yolox_s yolov5s tal_s --out benchmarks/results/local/throughput

compositions: $(STAMP) ## every backbone x neck x head, on the meta device; writes docs/compositions.md
	$(BIN)/python benchmarks/compositions.py --out docs/compositions.md

clean: ## remove the environment and what the demo left
	rm -rf $(VENV) demo site
