"""One worker masks elements of a masked array while the other one adds up those that are not masked."""
# EXPECT races race: values.mask

import numpy as np

from lab.threadlib import join, spawn


def main():
    values = np.ma.array(np.arange(6.0), mask=np.zeros(6, dtype=bool))

    def hide(number):
        values[number] = np.ma.masked  # BUG

    def total(number):
        return values.sum()  # BUG

    spawn(hide)
    spawn(total)
    join()
