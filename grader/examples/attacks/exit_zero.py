# Exit status 0 without work.
# on: nothing
# expect: runs failed | exit status 0

import os


def generate(model, prompt, n, workers):
    os._exit(0)
    yield 0
