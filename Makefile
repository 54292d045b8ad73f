# Targets create or update their own environment, .venv-make, and do not change the user's .venv.
PYTHON ?= python3
VENV := .venv-make
BIN := $(VENV)/bin
# results are byte-identical on a CPU with the same number of threads
ALONE := OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=

# environments of other programs that read exported files; they share one torch
PEERS ?= .peers
KIT ?= .kit
CLIENTS ?= .clients
SINCE ?= origin/main
SHARED = $(PEERS)/torch/lib/$$(ls $(PEERS)/torch/lib)/site-packages

.PHONY: help bin demo test test-slow kit kit-ready test-oldest peers peers-ready bench-peers clients clients-ready mutants torture check docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

bin:  # print the folder of its programs, for scripts
	@echo $(BIN)

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[train,serve,dev]'
	touch $@

demo: $(VENV)/.ready  ## run all steps on synthetic scenes with the bundled base model, in minutes
	$(BIN)/qwen2vl-rs demo

# tests write 60,000 small files: in memory, if there is space, they take a tenth less time
MEMORY = $$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4000000 {print $$6}')

test: $(VENV)/.ready  ## run the tests; keep their files only if a test fails
	at=$$(mktemp -d -p "$(MEMORY)") && OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --basetemp=$$at/tests && rm -r $$at

test-slow: $(VENV)/.ready  ## run the tests that take minutes
	$(BIN)/python -m pytest -q -m slow

THIS = $$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PACK = PYTHON=$(BIN)/python benchmarks/gpu/pack.sh
WHOLE_KIT = --python $(THIS) --everything --wheels $(KIT)/whole

kit: kit-ready  ## pack the GPU measurements and run them on the CPU
	$(PACK) $(WHOLE_KIT) -o $(KIT)/whole.tar.xz
	$(PACK) --wheels $(KIT)/gpu -o $(KIT)/gpu.tar.xz
	KIT=$(KIT) $(BIN)/python -m pytest -q -m slow tests/whole/test_kit.py

kit-ready: $(VENV)/.ready
	mkdir -p $(KIT)
	$(PACK) $(WHOLE_KIT) --fetch
	$(PACK) --wheels $(KIT)/gpu --fetch

test-oldest:  ## run the tests with the oldest allowed dependencies
	$(PYTHON) tests/oldest.py >oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet -c oldest.txt -e '.[train,serve,dev]'
	.venv-oldest/bin/pip check
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -q -n 2

peers: peers-ready  ## compare tokens with TRL, ms-swift and LLaMA-Factory (installs them: 9 GB)
	PEERS=$(PEERS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow tests/whole/test_peers.py

peers-ready: $(VENV)/.ready $(PEERS)/trl/.ready $(PEERS)/ms-swift/.ready $(PEERS)/llamafactory/.ready

bench-peers: peers-ready  ## training speed beside LLaMA-Factory and ms-swift (hours, idle machine)
	$(BIN)/python benchmarks/peers.py --environments $(PEERS) $(DATA)
	$(BIN)/python docs/make_benchmarks.py

$(PEERS)/torch/.ready: tests/peers/torch.txt
	$(PYTHON) -m venv $(PEERS)/torch
	$(PEERS)/torch/bin/pip install --quiet -r $<
	touch $@

$(PEERS)/%/.ready: tests/peers/%.txt $(PEERS)/torch/.ready
	$(PYTHON) -m venv $(PEERS)/$*
	realpath $(SHARED) > $(subst torch,$*,$(SHARED))/torch.pth
	$(PEERS)/$*/bin/pip install --quiet -r $<
	touch $@

clients: clients-ready  ## test the server with chat clients (installs them: 2 GB)
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

mutants: .mutants/.ready  ## mutation testing of the code that differs from SINCE
	.mutants/bin/python tests/mutants.py --since "$(SINCE)" $(MUTANTS)

.mutants/.ready: tests/mutants.txt $(VENV)/.ready
	$(PYTHON) -m venv .mutants
	realpath $(VENV)/lib/python3*/site-packages > $$(echo .mutants/lib/python3*/site-packages)/project.pth
	.mutants/bin/pip install --quiet -r $<
	touch $@

torture: $(VENV)/.ready  ## kills, full disks, broken files and requests, load; about an hour
	$(ALONE) $(BIN)/python tests/faults/kill.py --json docs/results/faults.json
	$(ALONE) $(BIN)/python tests/faults/kill.py --disk --json docs/results/disk.json
	$(ALONE) $(BIN)/python tests/faults/fuzz.py --json docs/results/fuzz.json
	$(ALONE) $(BIN)/python tests/faults/api.py --json docs/results/api.json
	$(ALONE) $(BIN)/python tests/faults/load.py --json docs/results/load.json
	$(ALONE) $(BIN)/python tests/faults/siege.py --json docs/results/siege.json
	$(BIN)/python docs/make_reliability.py

check: $(VENV)/.ready  ## ruff, mypy, and whether generated pages are up to date
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

docs: $(VENV)/.ready  ## write the generated pages (runs the demo)
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

clean:  ## remove generated files and environments
	rm -rf .venv-make .peers .venv-oldest oldest.txt .mypy_cache .pytest_cache .ruff_cache demo
