# Everything runs in .venv, made here from Python 3.11 or newer, and made again when pyproject.toml changes.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
RUN := $(VENV)/bin
DEMO := $(VENV)/.demo
INSTALLED := $(VENV)/.installed
# The oracle of one test. Its torchvision is not needed, and its wheel does not go with a CPU build of torch.
ORACLE := aesthetic-predictor-v2-5==2024.12.18.1
# wids, which reads the index of an export, came with webdataset up to this one; it lies apart from the present one.
WIDS := webdataset==0.2.111
# Ray Data needs pandas, which pyarrow imports where it finds it, and so every import of Lance: it lies apart, too.
PANDAS := pandas==3.1.1
# Readers that are too large to come with every test run; they have an environment of their own.
READERS := 'polars>=1.30' 'lancedb>=0.30' 'daft[lance]>=0.7'
PIP := $(RUN)/python -m pip install --quiet --disable-pip-version-check
BENCHMARKS := startup tag_io tag_model memory evolve import pages export three_taggers aesthetic_cpu rewrite peers engines scale
ANY := not gpu and not weights

.PHONY: help browser java demo test test-fast test-readers check docs pictures bench clean

help:
	@echo 'make demo       the whole line on real photographs, in under a minute'
	@echo 'make test       every test; what CI runs'
	@echo 'make test-fast  without the slow ones, under a minute'
	@echo 'make test-readers  LanceDB, Polars and Daft on the same dataset'
	@echo 'make check      format, lint, types, generated docs are fresh'
	@echo 'make docs       generate docs/cli.md'
	@echo 'make pictures   take the pictures of docs/tutorial.md'
	@echo 'make bench      the benchmarks in a short form, under ten minutes; LONG=1: as the figures of the README are made'

$(DEMO): pyproject.toml
	@test -n '$(PYTHON)' || { echo 'laketag needs Python 3.11 or newer: make PYTHON=/path/to/python' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[demo]'
	@touch $@

$(INSTALLED): $(DEMO) Makefile
	$(PIP) --editable '.[dev,demo]'
	$(PIP) --no-deps '$(ORACLE)'
	rm -rf $(VENV)/wids
	$(PIP) --no-deps --target $(VENV)/wids '$(WIDS)'
	rm -rf $(VENV)/pandas
	$(PIP) --no-deps --target $(VENV)/pandas '$(PANDAS)'
	@touch $@

demo: $(DEMO)
	@$(RUN)/laketag demo
	@echo 'The program is $(RUN)/laketag; `source $(RUN)/activate` lets you type just laketag.'

# The browser tests need a Chromium. Without one they are skipped, and fail where CI=true.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; } || \
	echo 'no Chromium is here and none could be installed; the browser tests want it: apt-get install chromium' >&2

# Spark needs Java. Without one its tests are skipped, and fail where CI=true.
java:
	@command -v java >/dev/null || test -n "$$JAVA_HOME" || \
	{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends default-jre-headless >/dev/null; } || \
	echo 'no Java is here and none could be installed; the Spark tests want it: apt-get install default-jre-headless' >&2

test: $(INSTALLED) browser java
	$(RUN)/python -m pytest -n 2 -m '$(ANY)' --durations=20

test-fast: $(INSTALLED)
	$(RUN)/python -m pytest -n 2 -m '$(ANY) and not slow'

test-readers:
	$(PYTHON) -m venv $(VENV)-readers
	$(VENV)-readers/bin/python -m pip install --quiet --editable '.[demo]' $(READERS) duckdb pytest
	$(VENV)-readers/bin/python -m pytest -m '$(ANY)' tests/test_readers.py

check: $(INSTALLED)
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy --strict src
	$(RUN)/python scripts/cli_reference.py --check

docs: $(INSTALLED)
	$(RUN)/python scripts/cli_reference.py

pictures: $(INSTALLED) browser
	$(RUN)/python scripts/tutorial_pictures.py

bench: $(INSTALLED)
	@for name in $(BENCHMARKS); do \
	echo "== $$name"; $(RUN)/python benchmarks/$$name.py $(if $(LONG),--long) || exit 1; done
ifdef LONG
	$(RUN)/python scripts/benchmark_table.py
	$(RUN)/python -m pytest -n 2 -m slow --fault-seconds 60 tests/storage/test_faults.py
	$(RUN)/python -m pytest -n 2 --fuzz 1000 tests/tagging/test_damaged_images.py tests/shards/test_faulty_reads.py
	$(RUN)/python tests/sequences.py --seconds 600
endif

clean:
	rm -rf $(VENV) $(VENV)-readers benchmarks/.venv-* build dist laketag-demo .mypy_cache .pytest_cache .ruff_cache
