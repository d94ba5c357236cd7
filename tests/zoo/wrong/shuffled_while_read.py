"""One worker shuffles the order in which another one reads."""
# EXPECT races race: order

import numpy as np

from lab.threadlib import join, spawn


def main():
    order = np.random.default_rng(1).permutation(10)
    seen = np.zeros(10, dtype=bool)

    def shuffle(number):
        np.random.default_rng(2).shuffle(order)  # BUG

    def visit(number):
        for at in range(10):
            seen[order[at]] = True

    spawn(shuffle)
    spawn(visit)
    join()
