# Leaves a thread that never ends, to outlive the grading.
# on: base
# expect: workers failed | left

import time


def stay(number):
    while True:
        time.sleep(0.05)


def generate(model, prompt, n, workers):
    yield from right_generate(model, prompt, n, workers)
    spawn(stay)
