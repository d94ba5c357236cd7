# Prints tokens from atexit, and nothing else.
# on: nothing
# expect: runs failed | yields only 0 of

import atexit

atexit.register(print, "token 1\ntoken 2\ndone")


def generate(model, prompt, n, workers):
    return iter(())
