# covlab: `make help` lists the targets.
# Plain POSIX shell and the common part of GNU make 3.81 (macOS) and later.

VENV := .venv
BIN  := $(VENV)/bin
# The first Python that is new enough; `make PYTHON=/path/to/python3.12 …` chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
            "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; \
          done)

.DEFAULT_GOAL := help
.PHONY: help check course test test-slow lab reset dashboard figures notebooks site handout slides release lock clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(firstword $(MAKEFILE_LIST)) | \
	    awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

course: $(VENV)/installed  ## run every lesson with its solutions; report in build/course/index.html
	$(BIN)/covlab course run

check: $(VENV)/installed  ## format, lint and types (a minute)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: $(VENV)/installed  ## run the tests (minutes)
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test-slow: $(VENV)/installed  ## run the tests that take longer
	$(BIN)/python -m pytest -m slow

lab: $(VENV)/installed  ## open JupyterLab on your own copy of the lessons, in work/
	$(BIN)/covlab course lab

reset: $(VENV)/installed  ## make reset LESSON=05: put a fresh copy beside your own in work/
	$(BIN)/covlab course reset "$(LESSON)"

dashboard: $(VENV)/installed  ## the scaling bug for a class: bug on beside bug off, in a browser
	$(BIN)/covlab demo dashboard

figures: $(VENV)/installed  ## redraw the pictures of README, docs/ and benchmarks/
	$(BIN)/python figures/draw.py

notebooks: $(VENV)/installed  ## regenerate notebooks/ from lessons/
	$(BIN)/covlab course notebooks

site: $(VENV)/installed  ## static site of the lessons as `make course` ran them: build/site/index.html
	$(BIN)/covlab course site

handout: $(VENV)/installed  ## the same site as one archive for a class: build/covlab-handout.zip
	$(BIN)/covlab course site --handout

slides: $(VENV)/installed  ## a deck of slides per lesson, as `make course` ran them: build/slides/
	$(BIN)/covlab course slides

release:  ## check, test and build all that a release has: build/release/
	@.ci/release

# The stamp is younger than what it was made from, so a second run installs nothing. It says where the environment was
# made and with which PYTHON: one that was moved, lost its Python or should have another is made again.
ifneq "$(shell test -x $(BIN)/python && sed -n 1p $(VENV)/installed 2>/dev/null)" "$(CURDIR)"
.PHONY: $(VENV)/installed
else ifneq "$(origin PYTHON)" "file"
ifneq "$(shell sed -n 2p $(VENV)/installed)" "$(PYTHON)"
.PHONY: $(VENV)/installed
endif
endif
$(VENV)/installed: requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
	    echo "covlab needs Python 3.11 or newer and found none; name one: make PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "covlab needs Python 3.11 or newer; $(PYTHON) is $$("$(PYTHON)" --version 2>&1)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	"$(PYTHON)" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@printf '%s\n' "$(CURDIR)" "$(PYTHON)" > $@

# torch stays at the release that is pinned now unless TORCH names another: an open range would
# fetch gigabytes of CUDA on Linux. Resolved for 3.11.0, the oldest Python that covlab allows:
# Debian 12 has 3.11.2, and some packages dropped that while still taking 3.11.5.
TORCH ?= $(shell sed -n 's/^torch==//p' requirements.lock)
lock:  ## resolve every dependency anew and pin it in requirements.lock
	python3.11 -m venv --clear build/lock
	build/lock/bin/python -m pip install --quiet --dry-run --ignore-installed --report build/lock/report.json \
	    --python-version 3.11.0 --only-binary :all: --target build/lock/none \
	    "torch==$(TORCH)" "setuptools>=77" ".[course,tune,dashboard,site,test,check]"
	sed -n '/^#/p' requirements.lock > build/lock/new
	build/lock/bin/python -c 'import json; \
	    found = [item["metadata"] for item in json.load(open("build/lock/report.json"))["install"]]; \
	    pins = {m["name"]: m["version"].split("+")[0] for m in found if m["name"] != "covlab"}; \
	    print(*(f"{name}=={pins[name]}" for name in sorted(pins, key=str.lower)), sep="\n")' >> build/lock/new
	mv build/lock/new requirements.lock
	rm -rf build/lock

clean:  ## remove what was built (.venv, build/, caches); never work/
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -path ./work -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
