# `make finetune` and `make test` are all a fresh machine needs: they make .venv, install the pinned requirements and go.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
CORES ?= all
VENV := .venv
BIN := $(abspath $(VENV))/bin
READY := $(VENV)/ready
SLURM := $(VENV)/slurm
# Bytecode of what is imported, 5,500 files; pip would compile 18,000, for over a minute. Without it, as in an environment
# that forbids Python to write it, every stage starts 5 s later.
export PYTHONDONTWRITEBYTECODE :=
IMPORTED := snakemake.cli, mobilevideogpt.training.finetune, mobilevideogpt.training.preflight, \
  mobilevideogpt.data.feature_stage, mobilevideogpt.evaluation.evaluate, mobilevideogpt.evaluation.report, \
  transformers.models.qwen2.modeling_qwen2, transformers.models.clip.modeling_clip, deepspeed, pytest
PIP = PYTHONUNBUFFERED=1 $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --no-compile
# Of pip's hundreds of lines: every twentieth package, downloads of over 100 MB, and the last step, silent for minutes.
PROGRESS = n=0; while read -r line; do case "$$line" in \
  Collecting*|Processing*) n=$$((n + 1)); if [ $$((n % 20)) = 0 ]; then echo "  $$n of $$total packages"; fi;; \
  Downloading*[0-9][0-9][0-9].[0-9]\ MB*) echo "  $$line";; \
  Installing\ collected*) if [ $$n != 0 ]; then echo "  unpacking $$n packages"; n=0; fi;; esac; done

.PHONY: finetune report verify test test-slurm check base lock clean

finetune report verify: $(READY)
	@$(BIN)/snakemake --cores $(CORES) $@

# A test takes one core for most of its time; a process without tests takes over half of another's.
# ARGS="-m slow" runs the tests that are left out, ARGS="-m ''" all.
test: $(READY) $(SLURM)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal -m "not slow" $(ARGS)

# The sample on a Slurm of two nodes on this machine, while nodes are lost. Needs root and Debian's packages of Slurm.
test-slurm: $(READY) $(SLURM)
	@$(BIN)/python -m tests.slurm.run $(ARGS)

check: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned requirements into $(VENV); with a GPU build of torch this downloads about 3 GB, once."
	@rm -f $(VENV)/failed; total=$$(grep -c == requirements.lock); { $(PIP) -r requirements.lock \
	  && $(PIP) --no-deps --no-build-isolation --editable . || touch $(VENV)/failed; } | { $(PROGRESS); }; \
	  test ! -e $(VENV)/failed
	@echo "  compiling what is imported"; $(BIN)/python -c "import $(IMPORTED)" > /dev/null
	@touch $@

# Beside the environment, for the tests alone: where it is installed, every command of Snakemake loads pandas for it.
$(SLURM): tests/slurm/requirements.txt $(READY)
	@$(PIP) --quiet --no-deps --upgrade --target $@ -r $<
	@touch $@

# The sample's tiny base checkpoint, trained again: about 20 minutes on an H100.
base: $(READY)
	$(BIN)/python -m mobilevideogpt.sample.pretrain
	$(BIN)/python -m mobilevideogpt.sample.pretrain --start mobilevideogpt/sample/base --language-only --steps 1200 --batch-size 64

# New pins from pyproject.toml, in an environment of their own.
lock:
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-lock/bin/python -m pip install --quiet setuptools torch==2.13.0 --group dev .
	$(VENV)-lock/bin/python -m pip freeze --all --exclude mobilevideogpt --exclude pip | sed 's/+cpu$$//' | grep -vE '^(nvidia-[^m]|cuda|triton)' > requirements.lock
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) .snakemake dataset/sample results/sample
