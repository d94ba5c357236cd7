"""Each worker's slice ends one row too late."""
# EXPECT races race: out[4, :] written by worker

import numpy as np

from lab.threadlib import join, spawn

ROWS = 12


def main():
    out = np.zeros((ROWS, 4), dtype=np.float32)

    def worker(number):
        first = (number - 1) * 4
        out[first : first + 5] = number  # BUG

    for _ in range(3):
        spawn(worker)
    join()
    return out
