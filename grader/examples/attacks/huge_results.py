# Fills the pipe for tokens.
# on: nothing
# expect: public failed |

import os


def generate(model, prompt, n, workers):
    line = b"token 1\n" * 8192
    while True:
        for fd in range(3, 64):
            try:
                os.write(fd, line)
            except OSError:
                pass
    yield 0
