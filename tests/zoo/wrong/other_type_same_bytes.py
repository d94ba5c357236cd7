"""The same bytes as integers and as floats."""
# EXPECT races race: bits[1]

import numpy as np

from lab.threadlib import join, spawn


def main():
    bits = np.zeros(4, dtype=np.uint32)
    floats = bits.view(np.float32)

    def work(number):
        if number == 1:
            bits[:2] = 7
        else:
            floats[1:] = 1.5  # BUG

    for _ in range(2):
        spawn(work)
    join()
