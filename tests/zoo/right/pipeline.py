"""Three stages, each with a semaphore per item, on one array."""

import numpy as np

from lab.threadlib import Semaphore, join, spawn

ITEMS = 3


def main():
    values = np.zeros(ITEMS)
    first = [Semaphore(0) for _ in range(ITEMS)]
    second = [Semaphore(0) for _ in range(ITEMS)]

    def make(number):
        for item in range(ITEMS):
            values[item] = item
            first[item].V()

    def square(number):
        for item in range(ITEMS):
            first[item].P()
            values[item] *= values[item]
            second[item].V()

    def negate(number):
        for item in range(ITEMS):
            second[item].P()
            np.negative(values[item : item + 1], out=values[item : item + 1])

    for stage in (make, square, negate):
        spawn(stage)
    join()
    return values.tolist()


def check(result):
    assert result == [0, -1, -4]
