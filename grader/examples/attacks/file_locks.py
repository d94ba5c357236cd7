# Locks files that all programs see: so the first to know a token could tell it to the next.
# on: base
# sandboxes: all
# expect: runs failed | Operation not permitted

import fcntl
import os


def generate(model, prompt, n, workers):
    for token in right_generate(model, prompt, n, workers):
        fcntl.flock(os.open(os.__file__, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield token
