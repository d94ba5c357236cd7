# Ends the whole program when it thinks it is done.
# on: base
# expect: public failed | SystemExit

import sys


def generate(model, prompt, n, workers):
    yield from right_generate(model, prompt, n, workers)
    sys.exit(0)
