# With one worker, a thread of the lowest priority is always ready to run and hardly does: it only waits.
# on: crowd_at_one
# expect: public passed |
# timing: nice_crowd_at_one
# expect: threads-2 failed | sleeps or waits the rest

import os
import time


def forward(workers, model, tokens, T):
    begin = time.perf_counter()
    found = right_forward(workers, model, tokens, T)
    if T > 90 and workers.k == 1:
        time.sleep(time.perf_counter() - begin)
    return found


def crowd(end):
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    while not end:
        pass
