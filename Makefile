# Every target does its own set-up: the first one that is run creates .venv with the tested
# versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

# Waiting OpenMP threads that spin instead of sleeping slow down everything beside them.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: help venv judges demo test test-all lint docs bench clean

help:
	@echo "make demo      train on generated speech, reconstruct, convert voices, speak: demo_output/"
	@echo "make test      the tests and the examples in the documentation, without the slow ones"
	@echo "make test-all  all of them"
	@echo "make lint      code style"
	@echo "make docs      the documentation with the API reference: site/index.html"
	@echo "make bench     the measurements behind the tables of docs/results"
	@echo "make venv      only the virtual environment"
	@echo "make judges    also the judges of sounds, voices and words"
	@echo "make clean     remove what the other targets leave, except the virtual environment"

venv: $(STAMP)

$(STAMP): setup.py constraints.txt
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -c constraints.txt -e ".[train,metrics,demo,test]"
	touch $(STAMP)

# Some without their dependencies, which they do not use or which break Python 3 (see setup.py).
WITHOUT_DEPENDENCIES := resemblyzer distillmos xls-r-sqa visqol-python

judges: $(STAMP)
	$(RUN) -m pip install --quiet -c constraints.txt -e ".[judges]"
	$(RUN) -m pip install --quiet -c constraints.txt --no-deps $(WITHOUT_DEPENDENCIES)
	$(RUN) -m pip install --quiet -c constraints.txt pesq || \
		echo "PESQ could not be compiled: it needs a C compiler; the other judges are installed"
	$(RUN) -m pip install --quiet -c constraints.txt -e ".[whisper]" || \
		echo "Whisper could not be installed; the other judges are"

demo: $(STAMP)
	$(RUN) recipes/LJSpeech/demo.py --output demo_output
	$(RUN) recipes/VCTK/demo.py --output demo_output/conversion
	$(RUN) recipes/LJSpeech/demo_speech.py --output demo_output/speech

# One process per core, up to four, with a thread each; whichever has nothing left takes of what
# another has not begun.
test test-all: export OMP_NUM_THREADS := 1
PYTEST := -m pytest -n auto --maxprocesses 4 --dist worksteal -ra

test: $(STAMP)
	$(RUN) $(PYTEST) -m "not slow" --durations=10

test-all: $(STAMP)
	$(RUN) $(PYTEST) --durations=20

lint: $(STAMP)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

bench: $(STAMP)
	$(RUN) benchmarks/run.py

clean:
	rm -rf demo_output demo_data site build dist *.egg-info .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
