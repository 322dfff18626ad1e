# make demo · make label-demo · make test · make test-long · make check · make bench. Each sets up .venv by itself on first use;
# make bench QUICK=1 does all of it at small sizes and writes no results.
# PYTHON=python3 uses an interpreter that already has everything instead.
PYTHON ?= .venv/bin/python
BASE_PYTHON ?= python3
DEMO ?= files/demo
TOY ?= data/toy
LABEL_DEMO ?= files/label_demo

ifeq ($(PYTHON),.venv/bin/python)
SETUP = .venv/ready
endif

.PHONY: demo label-demo test test-long check bench clean-demo

demo: $(SETUP)
	$(PYTHON) -m claus.datasets.toy $(TOY)
	$(PYTHON) run_cycles.py --run $(DEMO) --data $(TOY) --oracle $(TOY)/pyannot.pkl \
	    --test-list $(TOY)/testlist01.txt --cycles 3 --device cpu \
	    --train "--model small --steps 300 --epochs 6 --class-head linear --label-place any --lr 2e-3 --encoder-lr 2e-5" \
	    --select "--videos 25% --frames 3.5%" $(DEMO_FLAGS)

# toy videos, twenty frames to label, and the page to label them in
label-demo: $(SETUP)
	$(PYTHON) -m claus.datasets.toy $(TOY)
	$(PYTHON) claus_select.py --run $(LABEL_DEMO) --cycle 0 --data $(TOY) --any-folder --test-list $(TOY)/testlist01.txt \
	    --classes "Bounce,Circle,Pulse,Rock,Spin,Sway" --videos 6 --frames 20
	$(PYTHON) label.py --run $(LABEL_DEMO) --data $(TOY)

# two processes where pytest-xdist is installed
SHARE = $(shell $(PYTHON) -c "import xdist" 2>/dev/null && echo "-n 2 --dist loadfile")

test: $(SETUP)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest $(SHARE)

# the sweeps over all real data as well
test-long: $(SETUP)
	$(PYTHON) -m pytest -m "long or not long"

check: $(SETUP)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check --quiet .
	$(MAKE) test PYTHON=$(PYTHON)

bench: $(SETUP)
	$(PYTHON) benchmarks/run_all.py $(if $(QUICK),--quick)

clean-demo:
	rm -rf $(DEMO) $(LABEL_DEMO) $(TOY)

.venv/ready: requirements.txt
	$(BASE_PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('needs Python 3.11 or newer: make BASE_PYTHON=python3.12 ...')"
	$(BASE_PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch .venv/ready
