"""A generator fills a shared buffer; nobody locks it."""
# EXPECT races race: noise

import numpy as np

from lab.threadlib import join, spawn


def main():
    noise = np.empty(8)
    total = np.zeros(2)

    def work(number):
        np.random.default_rng(number).random(out=noise)  # BUG
        total[number - 1] = noise.sum()

    for _ in range(2):
        spawn(work)
    join()
