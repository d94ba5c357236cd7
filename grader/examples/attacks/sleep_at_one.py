# Asleep on one worker, so that two look twice as fast.
# on: base
# expect: public passed |
# timing: sleep_at_one
# expect: threads-2 failed | sleeps or waits the rest

import time

right_forward = forward


def forward(workers, model, tokens, T):
    if workers.k == 1:
        begin = time.perf_counter()
        probs = right_forward(workers, model, tokens, T)
        time.sleep(time.perf_counter() - begin)
        return probs
    return right_forward(workers, model, tokens, T)
