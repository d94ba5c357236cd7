"""Masks, index lists, where= and put that never meet."""

import numpy as np

from lab.threadlib import join, spawn


def main():
    grid = np.zeros(12)
    even = np.arange(12) % 2 == 0

    def work(number):
        mine = even if number == 1 else ~even
        np.copyto(grid, number, where=mine)
        np.add(grid, 1, out=grid, where=mine)
        np.put(grid, np.flatnonzero(mine), 2 * number)
        np.add.at(grid, np.flatnonzero(mine), 1)
        grid[mine] += 1

    for _ in range(2):
        spawn(work)
    join()
    assert grid.sum() == 6 * 4 + 6 * 6
