"""llm.c's other half: the backward pass, AdamW, the data and the loop that train a GPT-2.

forward.py      serial.py's functions again, each working on a whole batch at once
backward.py     their derivatives, function by function
adamw.py        one step of the optimizer
data.py         text -> token files -> batches
vocabulary.py   one row for all rare tokens
split.py        one operation shared among workers
trainer.py      all that the next step depends on, saved and continued
loop.py         all of it together:  python -m lab.train --help; settings.py, curve.py, sample.py
evaluate.py     the loss of a checkpoint; debug_state.py: llm.c's test_gpt2; bench.py, torch_step.py: beside PyTorch
"""
