"""An expression makes the array; both workers use it as their scratch memory."""
# EXPECT races race: scratch

import numpy as np

from lab.threadlib import join, spawn


def main():
    values = np.arange(6.0)
    scratch = values * 2 + 1
    sums = np.zeros(2)

    def work(number):
        np.multiply(values, number, out=scratch)  # BUG
        sums[number - 1] = scratch.sum()

    for _ in range(2):
        spawn(work)
    join()
