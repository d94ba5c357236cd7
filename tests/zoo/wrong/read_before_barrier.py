"""A worker reads its neighbour's result of the first phase without waiting for it."""
# EXPECT races race: squares

import numpy as np

from lab.threadlib import join, spawn

K = 3


def main():
    squares = np.zeros(K)
    sums = np.zeros(K)

    def worker(number):
        squares[number - 1] = number * number
        sums[number - 1] = squares[number - 1] + squares[number % K]  # BUG

    for _ in range(K):
        spawn(worker)
    join()
    return sums
