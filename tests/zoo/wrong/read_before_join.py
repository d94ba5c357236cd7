"""The parts are added up before the workers are done."""
# EXPECT explore assertion: parts
# EXPECT races race: read by the main thread

import numpy as np

from lab.threadlib import join, spawn


def main():
    numbers = np.arange(9)
    parts = np.zeros(3)

    def worker(number):
        parts[number - 1] = numbers[3 * number - 3 : 3 * number].sum()

    for _ in range(3):
        spawn(worker)
    total = parts.sum()  # BUG
    join()
    return total


def check(result):
    assert result == 36, f"{result} instead of 36"
