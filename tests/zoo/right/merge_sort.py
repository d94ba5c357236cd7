"""Each half of an array is sorted by a thread of its own, which does the same with its halves."""

import numpy as np

from lab.threadlib import join, spawn


def sort(part):
    if len(part) < 2:
        return
    middle = len(part) // 2
    left, right = part[:middle], part[middle:]
    join(spawn(lambda number: sort(left)), spawn(lambda number: sort(right)))
    part[:] = np.sort(np.concatenate([left, right]))


def main():
    numbers = np.array([3.0, 1.0, 2.0, 5.0, 4.0, 0.0])
    sort(numbers)
    assert (numbers == np.arange(6)).all()
