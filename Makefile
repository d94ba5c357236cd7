# Every verb sets up what it needs: `make grade` on a fresh clone is enough. `make help` lists them.
#
# One line adds a verb: $(call verb,NAME,MODULE,TAKES) ## what it is for
# `make NAME` then runs `python -m MODULE` with the variables that TAKES names, and ARGS="--option value": an option is
# declared once, in MODULE. Variables count on the command line only, never from the environment, and a verb refuses those
# it does not take: a misspelt one would have it judge another file.

VENV   := .venv
PYTHON := $(VENV)/bin/python
READY  := $(VENV)/.ready
TYPES  := $(VENV)/.types
SHELL  := /bin/sh
.DEFAULT_GOAL := help

shared := FILE MODEL WORKERS ENGINE OUT ARGS SENTENCE SUBMISSIONS E S PY
given  := $(foreach v,$(.VARIABLES),$(if $(findstring command line,$(origin $v)),$v))
$(foreach v,$(shared),$(eval override $v := $(if $(filter $v,$(given)),$$(value $v))))# as typed: $5 is not a variable
$(if $(SENTENCE),,$(eval override SENTENCE := To be, or not to be, that is the))
export FILE MODEL WORKERS ENGINE OUT SENTENCE SUBMISSIONS E S PY
MAKEOVERRIDES =# not for a make that a test starts

# What TAKES may name: how each is passed on, and which variables it stands for if not for that of its own name.
mine          := $(firstword $(wildcard parallel.py) lab/parallel.py)
as-FILE       := "$${FILE:-$(mine)}"
as-PROGRAM    := --engine "$${FILE:-$${ENGINE:-$(mine)}}"
vars-PROGRAM  := FILE ENGINE
as-GIVEN      := $${FILE:+--engine "$$FILE"} $${ENGINE:+--engine "$$ENGINE"}
vars-GIVEN    := FILE ENGINE
as-MODEL      := $${MODEL:+--model "$$MODEL"}
as-WORKERS    := $${WORKERS:+--workers "$$WORKERS"}
as-OUT        := $${OUT:+--out "$$OUT"}
as-SUBMISSIONS := $${SUBMISSIONS:+"$$SUBMISSIONS"}
as-TRY        := $${FILE:+--file "$$FILE"}
vars-TRY      := FILE
as-E          := "$$E"
as-S          := "$$S"
as-CHECKPOINT := "$${MODEL:-models/tiny_shakespeare.bin}"
vars-CHECKPOINT := MODEL
as-STATE      := "$${FILE:-models/trained.state.npz}"
vars-STATE    := FILE
as-GRADIENTS  := "$${MODEL:-tests/data/tiny_v3.bin}" "$${FILE:-tests/data/tiny_debug_state.bin}"
vars-GRADIENTS := MODEL FILE
as-START       = $(if $(MODEL),--from "$$MODEL" --batch 4 --seq 64 --steps 40 --lr 1e-4 --sample-every 20,$(scratch))
vars-START    := MODEL

# Training from scratch: a small model in about a minute. The shipped one took half an hour on two cores.
scratch := --share-rare 2 --shuffle --batch 8 --seq 128 --steps 400 --lr 3e-3 --schedule cosine --beta2 0.99 --clip 1 \
    --weight-decay 0.1 --val-every 100 --sample-every 200 --show-every 10
shipped := --version 5 --keep best --layers 5 --heads 4 --channels 72 --context 256 --share-rare 2 --shuffle --batch 4 \
    --seq 256 --steps 5000 --lr 3e-3 --schedule cosine --final-lr 0.02 --warmup 50 --beta2 0.99 --weight-decay 0.1 \
    --clip 1 --dropout 0.2 --average 0.995 --val-every 250 --val-batches 0 --sample-every 1000 --save-every 250 \
    --seed 1337 --workers 2 --show-every 50 --out models/trained_shakespeare.bin

define rule
verbs   += $1
takes-$1 = $(foreach v,$3 ARGS,$(or $(vars-$v),$v))
$1: $$(READY)
	@$$(PYTHON) -m $2 $$(foreach v,$3,$$(as-$$v)) $$(ARGS)
endef
verb = $(eval $(call rule,$1,$2,$3))

#== for students
starter: $(READY) ## your file, ./parallel.py, as the task begins
	@out="$${OUT:-parallel.py}"; if [ -e "$$out" ] || [ -L "$$out" ]; then \
	    echo "make starter: $$out is there already and stays as it is; elsewhere: make starter OUT=other.py" >&2; exit 1; \
	fi; mkdir -p "$$(dirname "$$out")" && cp handout/parallel.py "$$out.part" && mv "$$out.part" "$$out" && \
	    echo "$$out: yours to change; docs/handout.md says how"
gpt: $(READY) ## run it on a sentence: prompt, tokens, text (SENTENCE="")
	@tokens=$$($(PYTHON) -m lab.tokenizer -- "$$SENTENCE") && set -- $$tokens && \
	    printf 'program  %s\nprompt   %s\ntokens   %s\n' "$${FILE:-lab/$${ENGINE:-serial}.py}" "$$SENTENCE" "$$tokens" && \
	    $(PYTHON) -m lab.gpt --text --time -n $$(($$# + 9)) $(as-GIVEN) $(as-MODEL) $(as-WORKERS) $(ARGS) -- $$tokens
$(call verb,chat,lab.chat,GIVEN MODEL WORKERS) ## type the beginning of a text, read on
$(call verb,profile,lab.measure.profile,GIVEN MODEL WORKERS OUT) ## where lab/serial.py, or FILE, spends its time
$(call verb,check,lab.check check,FILE WORKERS) ## threads: misuse, lock order, stalls, in real runs
$(call verb,explore,lab.check explore,FILE WORKERS OUT) ## threads: deadlocks, lost wakeups, in many schedules
$(call verb,races,lab.check races,FILE WORKERS) ## threads: unordered accesses to shared data
$(call verb,exercise,lab.exercises,E TRY OUT) ## one warm-up, E=1 to 4, under many schedules
$(call verb,stage,lab.stages,S FILE) ## one stage, S=1 to 5, on small cases: expected and got
$(call verb,timeline,lab.measure.timeline,PROGRAM MODEL WORKERS OUT) ## what each worker did when, and waited for
$(call verb,scale,lab.measure.scale,PROGRAM MODEL OUT) ## the time on 1 to 64 workers, predicted
$(call verb,plots,lab.measure.plots,PROGRAM MODEL WORKERS OUT) ## speedup, seconds by operation, roofline
$(call verb,report,lab.measure.report,PROGRAM MODEL WORKERS OUT) ## all of these on one page, to hand in
$(call verb,bench,lab.measure.bench,MODEL WORKERS OUT) ## how fast the engines are, beside PyTorch too
$(call verb,grade,grader --exit-zero,FILE MODEL OUT) ## the points, and why some are missing
$(call verb,ladder,lab.ladder --install,MODEL OUT) ## what a GPU changes: TF32, BF16, compile ... (PyTorch)
$(call verb,notebooks,lab.notebook open,) ## the course's seven chapters, in JupyterLab
$(call verb,notebooks-run,lab.notebook run,) ## run them all, to see that they do: four minutes
$(call verb,train,lab.train,START WORKERS OUT) ## train a small GPT-2, or MODEL further
$(call verb,resume,lab.train --resume,STATE WORKERS) ## continue training (FILE=models/trained.state.npz)
$(call verb,evaluate,lab.train.evaluate,CHECKPOINT WORKERS) ## the loss of a model over a text
$(call verb,model,lab.models download,OUT) ## download GPT-2 124M, 498 MB
$(call verb,synthetic,lab.models synthetic,OUT) ## a random model of its shape, to measure with
$(call verb,convert,lab.convert,FILE OUT) ## convert a Hugging Face GPT-2 to a checkpoint

#== for instructors
$(call verb,class,grader.classroom grade,SUBMISSIONS MODEL OUT) ## grade all of SUBMISSIONS=folder or zip
$(call verb,handout,grader.classroom handout,MODEL OUT) ## what students get, without solutions: dist/handout.zip
$(call verb,gradescope,grader.classroom gradescope,OUT) ## Gradescope's autograder: dist/gradescope.zip
$(call verb,example-class,grader.classroom example,OUT) ## 40 submissions of every kind, to rehearse with
$(call verb,grade-selftest,tests.grader_selftest,) ## does the grader measure well on this machine?

#== for maintainers
test: $(READY) ## all tests, or one package: ARGS="-m grader"
	@$(PYTHON) -m pytest -q -n auto --dist worksteal $(ARGS)
lint: $(TYPES) ## mistakes, formatting, imports the wrong way, types
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(VENV)/bin/lint-imports --no-cache >/dev/null && \
	    $(PYTHON) -m basedpyright --pythonpath $(PYTHON) || \
	    { echo 'make lint: see above; for imports: $(VENV)/bin/lint-imports' >&2; exit 1; }
format: $(READY) ## format the code
	@$(PYTHON) -m ruff check --fix-only --quiet . ; $(PYTHON) -m ruff format .
$(call verb,check-selftest,tests.check_selftest,) ## the checks raise nothing in right programs
$(call verb,reference,lab.measure.reference,OUT) ## the pictures in profiles/reference, anew
$(call verb,test-gradients,lab.train.debug_state,GRADIENTS) ## llm.c's test_gpt2: gradients against PyTorch's
$(call verb,bench-train,lab.train.bench,MODEL WORKERS) ## a training step beside PyTorch's
$(call verb,shipped-model,lab.train $$(shipped),) ## train models/tiny_shakespeare.bin anew
env: $(READY) ## the virtual environment (PY=/path/to/python3)
clean: ## remove caches, nothing else
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
	@rm -rf .pytest_cache .ruff_cache .coverage build *.egg-info models/*.part.*
distclean: clean ## remove the environment as well
	@rm -rf $(VENV)
help: ## this list
	@trap '' PIPE; { awk -F '## ' '/^#== /{print "\n" substr($$0, 5)} /^\$$\(call verb,|^[a-z-]+:.*## /{n=$$1; \
	    sub(/^\$$\(call verb,/, "", n); sub(/[,:].*/, "", n); printf "  make %-14s %s\n", n, $$2}' Makefile; \
	printf '\nFILE=     your program (default here: $(mine))\nENGINE=   serial, parallel or cached instead of a file\n'; \
	printf 'MODEL=    a checkpoint, or its name in models/\nWORKERS=  how many threads\nOUT=      where results go\n'; \
	printf 'ARGS=     all other options: make grade ARGS="--seed 7", make grade ARGS=--help\n'; } 2>/dev/null || :

verbs += starter gpt test lint format env clean distclean help
takes-starter := OUT
takes-gpt     := SENTENCE FILE ENGINE MODEL WORKERS ARGS
takes-test    := ARGS
.PHONY: $(verbs)
.NOTPARALLEL:# what is measured wants the machine for itself

# A checkout that was moved, or whose Python is gone, is set up again.
ifneq "$(shell [ -x $(PYTHON) ] && cat $(READY) 2>/dev/null)" "$(CURDIR)"
.PHONY: $(READY)
endif
$(READY): pyproject.toml constraints.txt make/setup.sh
	@VENV="$(VENV)" READY="$(READY)" sh make/setup.sh

# The type checker is large: only who asks for it gets it.
$(TYPES): $(READY)
	@echo "Installing the type checker (once) ..." >&2; \
	$(PYTHON) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[lint]' && touch $@

# A verb, or a variable, that is not there ends with what was probably meant; python3 only words it.
meant = $(error $(or $(shell python3 make/meant.py '$1' '$2' '$(takes-$1)' '$(verbs)' 2>/dev/null),make $1: $2 unknown; see make help))
$(foreach g,$(or $(MAKECMDGOALS),help),$(if $(filter $g,$(verbs) $(READY)),,$(call meant,$g,)) \
    $(foreach v,$(filter-out PY $(takes-$g),$(given)),$(call meant,$g,$v)))
$(foreach v,$(given),$(if $(value $v),,$(error $v= is empty; give it a value or leave it out)))
$(if $(FILE),$(if $(ENGINE),$(error FILE= and ENGINE= name two programs; give one of them)))
$(if $(filter convert,$(MAKECMDGOALS)),$(if $(or $(and $(FILE),$(OUT)),$(findstring -h,$(ARGS))),,$(error convert what? make convert FILE=model.safetensors \
    OUT=models/name.bin)))
