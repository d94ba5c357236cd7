"""Two workers count in the same record of a recarray, by attribute."""
# EXPECT races race: particles[0]

import numpy as np

from lab.threadlib import join, spawn


def main():
    particles = np.rec.array([(0, 1.0), (0, 2.0)], dtype=[("hits", "i4"), ("mass", "f8")])

    def work(number):
        first = particles[0]
        first.hits += 1  # BUG

    for _ in range(2):
        spawn(work)
    join()
