"""All workers add their part to one element of an array."""
# EXPECT races race: total[0] written

import numpy as np

from lab.threadlib import join, spawn


def main():
    numbers = np.arange(12, dtype=np.float32)
    total = np.zeros(1, dtype=np.float32)

    def worker(number):
        total[0] += numbers[4 * (number - 1) : 4 * number].sum()  # BUG

    for _ in range(3):
        spawn(worker)
    join()
    return total[0]


def check(result):
    assert result == 66, f"{result} instead of 66"
