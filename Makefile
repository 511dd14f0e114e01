# kinshot: `make help` lists what there is to make.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The first Python that is new enough; override with `make PYTHON=/path/to/python3.12 test`.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; break; fi; done)
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

# One thread per process: with several test processes, or on a busy machine, more threads only get in each other's way.
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help install demo test numerics learn2learn lint results api sbom lock clean distclean

help: ## list the targets
	@grep -E '^[a-z0-9]+:.*##' Makefile | sed -E 's/^([a-z0-9]+):[^#]*## /  make \1\t/' | expand -t 21

install: $(STAMP) ## create .venv and install kinshot with its pinned dependencies (once)

# Every file is checked against a hash in requirements.lock. setuptools comes first, from the same lock: what is built
# from source is then built with it, and nothing is fetched unchecked. The stamp is the last step, so that an
# interrupted installation is taken up again.
$(STAMP): requirements.lock setup.py pyproject.toml
	@rm -f $@
	@if ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "kinshot needs Python 3.11 or newer; got '$(PYTHON)'. Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; fi
	@echo "Creating $(VENV) and installing the pinned dependencies: several GB are downloaded (torch), once."
	@"$(PYTHON)" -m venv $(VENV) || { echo "No virtual environment could be made: on Debian, apt-get install python3-venv" >&2; exit 1; }
	@sed -n '/^setuptools==/,/[^\\]$$/p' requirements.lock > $(VENV)/build.lock
	$(PIP) install -q --require-hashes -r $(VENV)/build.lock
	$(PIP) install --require-hashes --no-build-isolation --use-pep517 -r requirements.lock
	$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## pretrain on glyphs without labels, then score it on new classes (a few minutes on a CPU)
	$(BIN)/ssl pretrain glyphs_demo --out runs/demo --overwrite
	$(BIN)/fewshot eval runs/demo --data glyphs --split test --ways 5 --shots 1,5 --episodes 600 --heads prototype
	@echo "Curves: $(BIN)/tensorboard --logdir runs"

lint: $(STAMP) ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy kinshot tests/types_of_the_face.py

test: lint ## lint, then every test
	$(THREADS) $(BIN)/python -m pytest -q -n $(JOBS)

# Libraries sum in another order on another processor. ATEN_CPU_CAPABILITY chooses torch's kernels, MKL_CBWR those of its products.
NUMERICAL := $(wildcard tests/test_objectives*.py tests/test_contract_*.py tests/test_encoders*.py tests/test_fewshot_heads*.py \
	tests/test_fewshot_methods*.py tests/test_ssl_*.py) tests/test_core_gauges.py tests/test_core_relations.py \
	tests/test_fewshot_statistics.py tests/test_fewshot_adaptation.py tests/test_fewshot_imprinting.py tests/test_precision.py \
	tests/test_enrolled_core.py tests/test_kin_subclasses.py tests/test_learn_restarts.py tests/test_neighbors_rows.py \
	$(foreach part,base_classes boundary contrast decoder_learns enrichment evaluate heads methods pfenet pooling prior,tests/test_segmentation_$(part).py)

numerics: $(STAMP) ## the numerical tests again, as on processors that know fewer instructions than this one
	@own=$$($(BIN)/python -c "import torch; print(torch.backends.cpu.get_cpu_capability().lower())"); \
	for level in default:COMPATIBLE avx2:AVX2; do \
		if [ $${level%%:*} = $$own ]; then echo "$${level%%:*} is what this processor has: make test ran it"; continue; fi; \
		echo "as on a processor with $${level%%:*}:"; \
		ATEN_CPU_CAPABILITY=$${level%%:*} MKL_CBWR=$${level##*:} $(THREADS) $(BIN)/python -m pytest -q -n $(JOBS) $(NUMERICAL); \
	done

learn2learn: $(STAMP) ## the tests against learn2learn and easyfsl, in a second environment that is made first
	.ci/learn2learn $(VENV)

results: $(STAMP) ## regenerate docs/results.md, the results in README.md and the figures of `ssl list` from docs/results/*.json
	$(BIN)/python docs/make_results.py

api: $(STAMP) ## regenerate docs/api.md and kinshot/typed from names and docstrings
	$(BIN)/python docs/make_api.py

# An environment of its own: what lists the packages is none of them.
sbom: $(STAMP) ## every pinned package with its hashes as CycloneDX, build/sbom.json, for whoever audits them
	@test -x $(VENV)/sbom/bin/cyclonedx-py || "$(PYTHON)" -m venv --clear $(VENV)/sbom
	$(VENV)/sbom/bin/python -m pip --disable-pip-version-check install -q --require-hashes -r requirements-sbom.lock
	@mkdir -p build
	$(VENV)/sbom/bin/cyclonedx-py requirements requirements.lock --output-reproducible --of JSON -o build/sbom.json
	@$(BIN)/python -c "import json; print(len(json.load(open('build/sbom.json'))['components']), 'packages in build/sbom.json')"

# What the second environment puts before the first: two libraries, what only they need, and what builds them.
PEERS := learn2learn==0.2.0 easyfsl==1.5.0 numpy\<2 gym gym-notices requests urllib3 certifi charset-normalizer pandas\<3 pytz cython ziglang

lock: ## resolve all dependencies anew (needs the tool uv); commit requirements*.lock and constraints.txt
	UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile setup.py --extra dev --extra timm --extra onnx --extra pretrained --extra pml --extra studio --extra faiss --universal --python-version 3.11 \
		--no-annotate --generate-hashes --quiet -o requirements.lock
	UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile setup.py --extra dev --extra timm --extra onnx --extra pretrained --extra pml --extra studio --extra faiss --universal --python-version 3.11 \
		--no-annotate --quiet --constraints requirements.lock -o constraints.txt
	printf '%s\n' $(PEERS) | UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile - --no-deps --universal --python-version 3.11 \
		--no-annotate --generate-hashes --quiet -o requirements-peers.lock
	printf '%s\n' cyclonedx-bom | UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile - --universal --python-version 3.11 \
		--no-annotate --generate-hashes --quiet -o requirements-sbom.lock

clean: ## remove caches and build output (keeps .venv and runs)
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv
	rm -rf $(VENV)
