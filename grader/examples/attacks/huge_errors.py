# Prints without end on standard error.
# on: nothing
# expect: runs failed | prints without end

import sys


def generate(model, prompt, n, workers):
    while True:
        sys.stderr.write("x" * 65536)
    yield 0
