"""Iterating over an array reads it, while another worker fills it."""
# EXPECT races race: values

import numpy as np

from lab.threadlib import join, spawn


def main():
    values = np.full(5, 2.0)

    def fill(number):
        values.fill(number)  # BUG

    def add(number):
        assert sum(value for value in values.flat) >= 0

    spawn(fill)
    spawn(add)
    join()
