# Forks, to compute beside what is measured.
# on: base
# expect: runs failed | os.fork is not allowed here

import os


def generate(model, prompt, n, workers):
    if os.fork() == 0:
        os._exit(0)
    yield from right_generate(model, prompt, n, workers)
