"""Two masks that both contain zero."""
# EXPECT races race: grid

import numpy as np

from lab.threadlib import join, spawn


def main():
    grid = np.arange(-4.0, 4.0)
    low, high = grid <= 0, grid >= 0

    def work(number):
        np.copyto(grid, number, where=low if number == 1 else high)  # BUG

    for _ in range(2):
        spawn(work)
    join()
