"""llm.c's other half: the backward pass, AdamW, the data and the loop that train a GPT-2.

forward.py     serial.py's functions again, each working on a whole batch at once
backward.py    their derivatives, function by function
adamw.py       one step of the optimizer
data.py        text -> token files -> batches
loop.py        all of it together:  python -m lab.train --help
"""
