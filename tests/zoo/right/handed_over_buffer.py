"""Two buffers change hands through semaphores; whoever has one may use all of it."""

import numpy as np

from lab.threadlib import Semaphore, join, spawn


def main():
    buffers = [np.zeros(6), np.zeros(6)]
    empty, full = Semaphore(2), Semaphore(0)
    sums = []

    def produce(number):
        for turn in range(4):
            empty.P()
            np.multiply(np.arange(6.0), turn, out=buffers[turn % 2])
            full.V()

    def consume(number):
        for turn in range(4):
            full.P()
            sums.append(float(np.asarray(buffers[turn % 2]).sum()))
            empty.V()

    spawn(produce)
    spawn(consume)
    join()
    assert sums == [0.0, 15.0, 30.0, 45.0]
