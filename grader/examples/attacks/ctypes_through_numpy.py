# Finds ctypes where numpy keeps it.
# on: nothing
# expect: runs failed | not allowed here

import numpy as np


def generate(model, prompt, n, workers):
    ctypes = np.ctypeslib.ctypes
    libc = ctypes.CDLL(None)
    yield libc.getpid()
