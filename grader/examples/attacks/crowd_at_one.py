# With one worker, threads of its own wait for the one core: their waiting is to hide that all of them sleep.
# on: base
# expect: public passed |
# timing: crowd_at_one
# expect: threads-2 failed | sleeps or waits the rest

import time


def crowd(end):
    while not end:
        until = time.perf_counter() + 0.001
        while time.perf_counter() < until:
            pass
        time.sleep(0.001)


def generate(model, prompt, n, workers):
    end = []
    if workers == 1 and n > 90:
        spawn(lambda number: crowd(end))
    try:
        yield from right_generate(model, prompt, n, workers)
    finally:
        end.append(True)
        join()
