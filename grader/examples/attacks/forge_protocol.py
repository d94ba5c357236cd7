# Speaks to the grader over every open descriptor: all done, everything right.
# on: nothing
# expect: runs failed |
# expect: public failed |

import os


def generate(model, prompt, n, workers):
    for fd in range(3, 64):
        for line in (b"ready\n", b"score 100\n", b'value {"score": 100}\n', b"done\n"):
            try:
                os.write(fd, line)
            except OSError:
                pass
    yield 0
