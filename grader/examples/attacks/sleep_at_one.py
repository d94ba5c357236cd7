# Asleep on one worker, so that two look twice as fast.
# on: base
# expect: public passed |
# timing: sleep_at_one
# expect: threads-2 failed | sleeps or waits the rest

import time


def forward(workers, model, tokens, T):
    begin = time.perf_counter()
    probs = right_forward(workers, model, tokens, T)
    if workers.k == 1:
        time.sleep(time.perf_counter() - begin)
    return probs
