# Closes every descriptor.
# on: nothing
# expect: runs failed |

import os


def generate(model, prompt, n, workers):
    os.closerange(0, 64)
    yield 0
