# Says done, and exits with status 0, before any work.
# on: nothing
# expect: runs failed |

import os


def generate(model, prompt, n, workers):
    for fd in range(3, 64):
        try:
            os.write(fd, b"done\n")
        except OSError:
            pass
    os._exit(0)
    yield 0
