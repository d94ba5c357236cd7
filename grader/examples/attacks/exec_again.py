# Starts itself anew with another environment: BLAS threads, a hook for every interpreter.
# on: nothing
# expect: runs failed | os.exec is not allowed here

import os
import sys

if os.environ.get("OPENBLAS_NUM_THREADS") == "1":
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {"OPENBLAS_NUM_THREADS": "8", "PYTHONPATH": "/tmp"})


def generate(model, prompt, n, workers):
    yield 0
