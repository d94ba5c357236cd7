# Starts threads past the library, by the module underneath it.
# on: base
# expect: public passed |
# expect: workers failed | a thread was started without lab.threadlib

import sys

start = sys.modules["_thread"].start_new_thread


def generate(model, prompt, n, workers):
    for t, token in enumerate(right_generate(model, prompt, n, workers)):
        if t == 0:
            start(int, ())
        yield token
