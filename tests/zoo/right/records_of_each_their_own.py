"""Each worker changes its own records, of a recarray and of a masked array, and all print what nobody changes."""

import numpy as np

from lab.threadlib import join, spawn


def main():
    particles = np.rec.array([(0, 1.0), (0, 2.0)], dtype=[("hits", "i4"), ("mass", "f8")])
    values = np.ma.array(np.arange(6.0), mask=np.zeros(6, dtype=bool))
    lists = np.array([np.zeros(2), np.zeros(3)], dtype=object)
    square = np.zeros((3, 3))

    def work(number):
        mine = particles[number - 1]
        mine.hits += 1
        particles.mass[number - 1] *= 2
        values[3 * (number - 1) : 3 * number] = np.ma.masked if number == 1 else number
        lists[number - 1][:] = number
        np.einsum("ii->i", square)[number] += square[0, number]
        print(f"{number}: {mine.hits}", mine, lists[number - 1])

    for _ in range(2):
        spawn(work)
    join()
    assert particles.hits.sum() == 2 and values.sum() == 6 and lists[1].sum() == 6
