# Each target makes its environment by itself when it is missing or out of date: .venv-make, so that
# the packages of .venv, which users make, stay as they are.
PYTHON ?= python3
VENV := .venv-make
BIN := $(VENV)/bin
# the same bytes are promised on a CPU, and with the same number of threads
ALONE := OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=

# where other programs live that read what is exported; they share one torch
PEERS ?= .peers
KIT ?= .kit
CLIENTS ?= .clients
SINCE ?= origin/main
SHARED = $(PEERS)/torch/lib/$$(ls $(PEERS)/torch/lib)/site-packages

.PHONY: help bin demo test test-slow kit kit-ready test-oldest peers peers-ready clients clients-ready mutants torture check docs clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

bin:  # where its programs lie, for scripts
	@echo $(BIN)

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[train,serve,dev]'
	touch $@

demo: $(VENV)/.ready  ## the main job on drawn scenes and a small trained base, in minutes
	$(BIN)/qwen2vl-rs demo

# tests write 60,000 small files: in memory, where there is room, they take a tenth less time
MEMORY = $$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4000000 {print $$6}')

test: $(VENV)/.ready  ## the tests; what they wrote stays only where one failed
	at=$$(mktemp -d -p "$(MEMORY)") && OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --basetemp=$$at/tests && rm -r $$at

test-slow: $(VENV)/.ready  ## the tests that take minutes
	$(BIN)/python -m pytest -q -m slow

THIS = $$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PACK = PYTHON=$(BIN)/python benchmarks/gpu/pack.sh
WHOLE_KIT = --python $(THIS) --everything --wheels $(KIT)/whole

kit: kit-ready  ## what is ready for a GPU, packed and run on the CPU
	$(PACK) $(WHOLE_KIT) -o $(KIT)/whole.tar.xz
	$(PACK) --wheels $(KIT)/gpu -o $(KIT)/gpu.tar.xz
	KIT=$(KIT) $(BIN)/python -m pytest -q -m slow tests/whole/test_kit.py

kit-ready: $(VENV)/.ready
	mkdir -p $(KIT)
	$(PACK) $(WHOLE_KIT) --fetch
	$(PACK) --wheels $(KIT)/gpu --fetch

test-oldest:  ## the tests with the oldest dependencies allowed
	$(PYTHON) tests/oldest.py >oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet -c oldest.txt -e '.[train,serve,dev]'
	.venv-oldest/bin/pip check
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -q -n 2

peers: peers-ready  ## what TRL, ms-swift and LLaMA-Factory train of exported data (installs them: 9 GB)
	PEERS=$(PEERS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow tests/whole/test_peers.py

peers-ready: $(VENV)/.ready $(PEERS)/trl/.ready $(PEERS)/ms-swift/.ready $(PEERS)/llamafactory/.ready

$(PEERS)/torch/.ready: tests/peers/torch.txt
	$(PYTHON) -m venv $(PEERS)/torch
	$(PEERS)/torch/bin/pip install --quiet -r $<
	touch $@

$(PEERS)/%/.ready: tests/peers/%.txt $(PEERS)/torch/.ready
	$(PYTHON) -m venv $(PEERS)/$*
	realpath $(SHARED) > $(subst torch,$*,$(SHARED))/torch.pth
	$(PEERS)/$*/bin/pip install --quiet -r $<
	touch $@

clients: clients-ready  ## chat clients of others against the server (installs them: 2 GB)
	CLIENTS=$(CLIENTS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow tests/whole/test_clients.py

clients-ready: $(VENV)/.ready $(CLIENTS)/python/.ready $(CLIENTS)/node/.ready

$(CLIENTS)/python/.ready: tests/clients/python.txt
	$(PYTHON) -m venv $(CLIENTS)/python
	$(CLIENTS)/python/bin/pip install --quiet -r $<
	touch $@

$(CLIENTS)/node/.ready: tests/clients/node.txt
	mkdir -p $(CLIENTS)/node
	! command -v npm || npm install --silent --no-audit --no-fund --prefix $(CLIENTS)/node $$(cat $<)
	touch $@

mutants: .mutants/.ready  ## faults put into the code that differs from SINCE: which do tests see?
	.mutants/bin/python tests/mutants.py --since "$(SINCE)" $(MUTANTS)

.mutants/.ready: tests/mutants.txt $(VENV)/.ready
	$(PYTHON) -m venv .mutants
	realpath $(VENV)/lib/python3*/site-packages > $$(echo .mutants/lib/python3*/site-packages)/project.pth
	.mutants/bin/pip install --quiet -r $<
	touch $@

torture: $(VENV)/.ready  ## kills, full disks, broken files and requests, load: an hour or so
	$(ALONE) $(BIN)/python tests/faults/kill.py --json docs/results/faults.json
	$(ALONE) $(BIN)/python tests/faults/kill.py --disk --json docs/results/disk.json
	$(ALONE) $(BIN)/python tests/faults/fuzz.py --json docs/results/fuzz.json
	$(ALONE) $(BIN)/python tests/faults/api.py --json docs/results/api.json
	$(ALONE) $(BIN)/python tests/faults/load.py --json docs/results/load.json
	$(ALONE) $(BIN)/python tests/faults/siege.py --json docs/results/siege.json
	$(BIN)/python docs/make_reliability.py

check: $(VENV)/.ready  ## ruff, mypy and the generated pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/make_architecture.py --check
	$(BIN)/python docs/make_cli.py --check
	$(BIN)/python docs/make_library.py --check
	$(BIN)/python docs/make_settings.py --check
	$(BIN)/python docs/make_scoring.py --check
	$(BIN)/python docs/make_benchmarks.py --check
	$(BIN)/python docs/make_results.py --check
	$(BIN)/python docs/make_reliability.py --check
	$(BIN)/python docs/make_dependencies.py --check
	$(BIN)/python docs/make_world.py --check
	$(BIN)/python docs/make_gpu.py --check

docs: $(VENV)/.ready  ## write the generated pages anew (runs the demo)
	$(BIN)/python docs/make_architecture.py
	$(BIN)/python docs/make_cli.py
	$(BIN)/python docs/make_library.py
	$(BIN)/python docs/make_settings.py
	$(BIN)/python docs/make_scoring.py
	$(BIN)/python docs/make_benchmarks.py
	$(BIN)/python docs/make_results.py
	$(BIN)/python docs/make_reliability.py
	$(BIN)/python docs/make_dependencies.py
	$(BIN)/python docs/make_world.py
	$(BIN)/python docs/make_gpu.py
	$(BIN)/qwen2vl-rs demo
	$(BIN)/python docs/make_pipeline.py demo
	$(BIN)/python docs/make_picture.py demo

clean:  ## remove what was made
	rm -rf .venv-make .peers .venv-oldest oldest.txt .mypy_cache .pytest_cache .ruff_cache demo
