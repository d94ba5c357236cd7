# llm.c's other half: training. Flags of `python -m lab.train --help` that have no variable here: ARGS="--layers 6 --dropout 0.1"

DATA ?= tinyshakespeare

# From scratch: a small model in about a minute. From a checkpoint: llm.c's first example.
SCRATCH = --share-rare 2 --shuffle --batch 8 --seq 128 --steps 400 --lr 3e-3 --schedule cosine --beta2 0.99 --clip 1 \
    --weight-decay 0.1 --val-every 100 --sample-every 200 --show-every 10
FINETUNE = --from "$(FROM)" --batch 4 --seq 64 --steps 40 --lr 1e-4 --sample-every 20

train: $(READY) ## train a small GPT-2 (DATA=name or text file FROM=checkpoint STEPS= OUT= WORKERS= ARGS=)
	@$(PYTHON) -m lab.train --data "$(DATA)" $(if $(FROM),$(FINETUNE),$(SCRATCH)) $(if $(STEPS),--steps $(STEPS)) \
	    $(if $(OUT),--out "$(OUT)") $(if $(WORKERS),--workers $(WORKERS)) $(ARGS)
.PHONY: train

resume: $(READY) ## go on with a training run that was stopped (STATE=models/trained.state.npz STEPS=)
	@$(PYTHON) -m lab.train --resume "$(or $(STATE),models/trained.state.npz)" $(if $(STEPS),--steps $(STEPS)) \
	    $(if $(WORKERS),--workers $(WORKERS))
.PHONY: resume

evaluate: $(READY) ## the loss of a model over a corpus (MODEL= DATA= ARGS="--part both")
	@$(PYTHON) -m lab.train.evaluate "$(or $(MODEL),models/tiny_shakespeare.bin)" --data "$(DATA)" $(ARGS)
.PHONY: evaluate

test-gradients: $(READY) ## llm.c's test_gpt2: our gradients against PyTorch's (MODEL=checkpoint STATE=its debug state)
	@$(PYTHON) -m lab.train.debug_state "$(or $(MODEL),tests/data/tiny_v3.bin)" \
	    "$(or $(STATE),tests/data/tiny_debug_state.bin)"
.PHONY: test-gradients

bench-train: $(READY) ## a training step beside PyTorch's, in turns (TORCH=python that has torch MODEL= WORKERS= STEPS=)
	@$(PYTHON) -m lab.train.bench $(if $(TORCH),--torch-python "$(TORCH)") $(if $(MODEL),--model "$(MODEL)") \
	    $(if $(WORKERS),--workers $(WORKERS)) $(if $(STEPS),--steps $(STEPS)) $(ARGS)
.PHONY: bench-train

# The shipped model, as it was trained: about 20 minutes on two quiet cores. DATA=file where there is no network.
shipped-model: $(READY) ## train models/tiny_shakespeare.bin anew (DATA= OUT=)
	@$(PYTHON) -m lab.train --data "$(DATA)" --out "$(or $(OUT),models/trained_shakespeare.bin)" --version 5 --keep best \
	    --layers 5 --heads 4 --channels 72 --context 256 --share-rare 2 --shuffle --batch 4 --seq 256 --steps 5000 \
	    --lr 3e-3 --schedule cosine --final-lr 0.02 --warmup 50 --beta2 0.99 --weight-decay 0.1 --clip 1 --dropout 0.2 \
	    --average 0.995 --val-every 250 --val-batches 0 --sample-every 1000 --save-every 250 --seed 1337 --workers 2 \
	    --show-every 50
.PHONY: shipped-model
