# make demo   set up, build, train on real data, say why training stopped
# make test   set up, build, run every check and test
# Both work in a fresh clone with Python >= 3.10 and a C compiler.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
SOURCES := $(wildcard src_c/*) $(wildcard optcore/_native/*.py*) $(wildcard optcore/_native/*.pxd) \
           setup.py pyproject.toml VERSION

.PHONY: demo test docs test-old-cpu test-browser lint bench examples pictures accuracy storage-study diagnosis-study clean

demo: $(VENV)/.demo
	$(VENV)/bin/optcore train digits --out out/digits
	$(VENV)/bin/optcore diagnose out/digits

test: $(VENV)/.test lint
	$(PY) -m pytest

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(PY) -m mypy.stubtest optcore._native $(addprefix optcore.optim.,rules adaptive bounded averaged layerwise) --concise --mypy-config-file pyproject.toml --allowlist tests/stubtest_allowlist.txt --ignore-unused-allowlist

# The site, in build/site; a warning is an error.
docs: $(VENV)/.test
	rm -rf docs/api build/site
	$(PY) -m sphinx -n -W --keep-going -q -j 2 docs build/site
	$(PY) -m pytest tests/system/test_site.py

# Needs the system package qemu-user.
test-old-cpu: $(VENV)/.test
	$(PY) -m pytest tests/system/test_old_cpu.py

# Needs the system package chromium.
test-browser: $(VENV)/.test
	$(PY) -m pytest tests/system/test_browser.py

# OPENBLAS_CORETYPE would halve matrix products.
bench: $(VENV)/.bench
	env -u OPENBLAS_CORETYPE $(PY) bench/run.py

# The pictures of docs, but for those of docs/lecture.md.
pictures: $(VENV)/.test
	$(PY) docs/pictures.py
	$(PY) docs/question_pictures.py
	$(PY) examples/landscape_batch_norm.py docs/pictures/landscape_batch_norm.png
	$(PY) examples/edge_of_stability.py docs/pictures/edge_of_stability.png

# The experiments of docs/lecture.md, and their pictures.
LECTURE = batch_size sharp_flat narrow_valley adagrad_burst bad_start batch_norm_surface vanishing_gradients minimum_ratio
examples: $(VENV)/.test
	set -e; for name in $(LECTURE); do $(PY) examples/$$name.py --out docs/pictures/lecture; done

# The table of docs/accuracy.md.
accuracy: $(VENV)/.test
	$(PY) docs/accuracy.py

# The last table of docs/storage.md.
storage-study: $(VENV)/.test
	$(PY) docs/storage_study.py

# The tables of docs/diagnosis.md: failing trainings whose cause is known.
diagnosis-study: $(VENV)/.test
	$(PY) -W ignore bench/diagnosis/diagnosis_study.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip "setuptools>=77" "cython>=3.1" "numpy>=2.0" "scipy>=1.13"

$(VENV)/.demo: $(VENV)/bin/python $(SOURCES)
	$(PY) -m pip install --quiet --no-build-isolation --editable ".[cli]"
	touch $@

$(VENV)/.test: $(VENV)/bin/python $(SOURCES)
	$(PY) -m pip install --quiet --no-build-isolation --editable ".[test]"
	touch $@ $(VENV)/.demo

# The peers that the benches race.
$(VENV)/.bench: $(VENV)/.demo
	$(PY) -m pip install --quiet --no-build-isolation --editable ".[bench]"
	touch $@

clean:
	rm -rf $(VENV) build dist out *.egg-info optcore/include optcore/lib
	find optcore \( -name '*.so' -o -path 'optcore/_native/*.c' \) -delete
