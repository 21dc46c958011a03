# make demo: install, audit a published network, and write out/demo/index.html
# make test: install, then ruff, pyright and all tests but the long campaigns of make test-slow
# make docs: install, then the site of the documents in out/docs
# All need Python >= 3.11, pip and make; PYTHON=python3.12 picks another interpreter.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
EXTRAS := vision,attacks,verify,repro,docs,test

# Data of the reader's own: DSNN_DATA. Else the material beside the clone, when it is there.
BESIDE := $(wildcard ../shared/cifar/unpack.py)
ifndef DSNN_DATA
ifneq ($(BESIDE),)
export DSNN_DATA := $(CURDIR)/.data
DATA := .data/.unpacked
endif
endif

.PHONY: install demo test test-slow lint docs bench clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dsnn needs Python >= 3.11, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

.data/.unpacked: $(BESIDE) | $(VENV)/.installed
	@mkdir -p .data/published
	@$(BIN)/python $< .data
	@cp ../shared/checkpoints/*.pt .data/published/
	@touch $@

demo: install $(DATA)
	@$(BIN)/python -m paper_repro.demo --out out/demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test: lint $(DATA)
	$(BIN)/pytest -n 2 --dist worksteal

test-slow: install $(DATA)
	$(BIN)/pytest -n 2 -m slow

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

bench: install $(DATA)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .data out build dist .pytest_cache .ruff_cache
