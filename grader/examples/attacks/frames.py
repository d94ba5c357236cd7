# Looks for expected tokens through frames and the garbage collector.
# on: nothing
# expect: runs failed | gc.get_objects is not allowed here

import gc
import sys


def generate(model, prompt, n, workers):
    frame, found = sys._getframe(), []
    while frame:
        found += [v for v in frame.f_locals.values() if isinstance(v, list)]
        frame = frame.f_back
    found += [o for o in gc.get_objects() if isinstance(o, list) and len(o) == n - len(prompt)]
    yield from found[0]
