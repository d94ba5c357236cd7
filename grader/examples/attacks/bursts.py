# Wastes as much time with k workers as with one, but all of it in one token of each run, not always the same.
# on: base
# expect: public passed |
# timing: bursts
# expect: threads-2 failed | times the CPU time

import random
import time


def forward(workers, model, tokens, T):
    begin = time.perf_counter()
    found = right_forward(workers, model, tokens, T)
    if T > 90 and (workers.k == 1 or random.random() < 0.25):
        until = 2 * time.perf_counter() - begin if workers.k == 1 else time.perf_counter() + 0.6
        while time.perf_counter() < until:
            pass
    return found
