"""The array is made by concatenate; the parts of two workers overlap by two elements."""
# EXPECT races race: joined[3:5] written by worker

import numpy as np

from lab.threadlib import join, spawn


def main():
    joined = np.concatenate([np.zeros(4), np.ones(4)])

    def work(number):
        start = 0 if number == 1 else 3
        joined[start : start + 5] = number  # BUG

    for _ in range(2):
        spawn(work)
    join()
