"""Each worker has a field of its own."""

import numpy as np

from lab.threadlib import join, spawn


def main():
    particles = np.zeros(5, dtype=[("mass", np.float32), ("charge", np.int64)])

    def work(number):
        name = ("mass", "charge")[number - 1]
        particles[name] = number
        particles[name] += 1

    for _ in range(2):
        spawn(work)
    join()
    assert particles["mass"].sum() == 10 and particles["charge"].sum() == 15
