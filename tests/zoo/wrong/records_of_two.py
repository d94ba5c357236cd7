"""One worker writes a field, the other one whole records."""
# EXPECT races race: particles

import numpy as np

from lab.threadlib import join, spawn


def main():
    particles = np.zeros(4, dtype=[("mass", np.float64), ("charge", np.int32)])

    def fields(number):
        particles["charge"] += 1

    def records(number):
        particles[2] = (1.0, 5)  # BUG

    spawn(fields)
    spawn(records)
    join()
