# Every verb sets up all it needs: `make grade` on a fresh clone is enough. `make help` lists the verbs.

VENV   := .venv
PYTHON := $(VENV)/bin/python
READY  := $(VENV)/.ready
SHELL  := /bin/sh

# What most verbs understand, passed on when given: make chat MODEL=models/my.bin ENGINE=cached N=60 WORKERS=2
GPT_FLAGS = $(if $(MODEL),--model "$(MODEL)") $(if $(ENGINE),--engine $(ENGINE)) $(if $(N),-n $(N)) \
            $(if $(WORKERS),--workers $(WORKERS))

help: ## this list
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | LC_ALL=C sort \
	    | awk -F '\t' '{ printf "  make %-16s %s\n", $$1, $$2 }'
.PHONY: help
.DEFAULT_GOAL := help

# ------------------------------------------------------------------------------------------------ the virtual environment

# An interpreter of your choice: make env PY=/usr/bin/python3.12
PY ?=

env: $(READY) ## set up the virtual environment (all verbs do, when needed)
.PHONY: env

$(READY): pyproject.toml constraints.txt make/setup.sh
	@PY="$(PY)" VENV="$(VENV)" sh make/setup.sh
	@touch $@

# ------------------------------------------------------------------------------------------------------------- the program

SENTENCE ?= To be, or not to be, that is the

gpt: $(READY) ## run the given program on a sentence: prompt, tokens, text (SENTENCE="..." MODEL= ENGINE= N= WORKERS=)
	@tokens=$$($(PYTHON) -m lab.tokenizer "$(SENTENCE)") && echo "prompt  $(SENTENCE)" && echo "tokens  $$tokens" && \
	    $(PYTHON) -m lab.gpt --text --time $(if $(N),,-n 20) $(GPT_FLAGS) $$tokens
.PHONY: gpt

ifeq ($(wildcard make/grader.mk),)
grade: gpt
.PHONY: grade
endif

chat: $(READY) ## type a beginning, read the rest (MODEL= ENGINE=serial|parallel|cached N= WORKERS=)
	@$(PYTHON) -m lab.chat $(GPT_FLAGS)
.PHONY: chat

model: $(READY) ## download GPT-2 124M, 498 MB (MIRROR=url), or write one of its shape: SYNTHETIC=1
	@$(PYTHON) -m lab.models $(if $(SYNTHETIC),synthetic,download $(if $(MIRROR),--mirror "$(MIRROR)"))
.PHONY: model

convert: $(READY) ## a GPT-2 of the Hugging Face hub to a checkpoint (FROM=model.safetensors TO=models/name.bin)
	@$(PYTHON) -m lab.convert "$(FROM)" -o "$(TO)"
.PHONY: convert

# ----------------------------------------------------------------------------------------------------------------- upkeep

test: $(READY) ## run all tests (STAGE=serial|threads|parallel|cached|train|measure|check|grader for one stage)
	@$(PYTHON) -m pytest -q -n auto --dist worksteal $(if $(STAGE),-m $(STAGE))
.PHONY: test

lint: $(READY) ## look for mistakes and unformatted code
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check .
.PHONY: lint

format: $(READY) ## format the code
	@$(PYTHON) -m ruff check --fix-only --quiet . ; $(PYTHON) -m ruff format .
.PHONY: format

clean: ## remove caches; models, profiles and the environment stay
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
	@rm -rf .pytest_cache .ruff_cache build *.egg-info models/*.part
.PHONY: clean

distclean: clean ## remove the environment as well
	@rm -rf $(VENV)
.PHONY: distclean

include $(wildcard make/*.mk)
