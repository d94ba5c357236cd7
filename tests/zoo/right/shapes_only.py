"""Looking at the shape of an array that another worker fills is not a read."""

import numpy as np

from lab.threadlib import join, spawn


def main():
    table = np.zeros((3, 4))

    def fill(number):
        table[:] = number

    def measure(number):
        other = np.empty_like(table)
        assert np.zeros_like(table).shape == np.shape(other) == table.T.shape[::-1]
        assert np.ones_like(table).sum() == np.full_like(table, 1).sum() == table.size
        assert np.may_share_memory(table, table.reshape(-1)) and len(table) == 3

    spawn(fill)
    spawn(measure)
    join()
