# Looks through its own memory with ctypes.
# on: nothing
# expect: runs failed | not allowed here

import ctypes

LIBC = ctypes.CDLL(None)


def generate(model, prompt, n, workers):
    yield LIBC.getpid()
