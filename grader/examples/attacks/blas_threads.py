# Raises the number of BLAS threads.
# on: nothing
# expect: runs failed | import threadpoolctl is not allowed here

import os

os.environ["OPENBLAS_NUM_THREADS"] = "8"

import threadpoolctl
from lab import serial

threadpoolctl.threadpool_limits(8)


def generate(model, prompt, n, workers):
    return serial.generate(model, prompt, n)
