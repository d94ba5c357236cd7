# Kills the grader, or everybody.
# on: nothing
# expect: runs failed | os.kill is not allowed here

import os
import signal


def generate(model, prompt, n, workers):
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(-1, signal.SIGKILL)
    yield 0
