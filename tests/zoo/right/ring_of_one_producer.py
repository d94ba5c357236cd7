"""One producer and one consumer share a ring with nothing but two semaphores."""

import numpy as np

from lab.threadlib import Semaphore, join, spawn

ROOM, ITEMS = 2, 5


def main():
    ring = np.zeros(ROOM)
    taken = []
    room, items = Semaphore(ROOM, "room"), Semaphore(0, "items")

    def producer(number):
        for item in range(ITEMS):
            room.P()
            ring[item % ROOM] = item
            items.V()

    def consumer(number):
        for item in range(ITEMS):
            items.P()
            taken.append(float(ring[item % ROOM]))
            room.V()

    spawn(producer)
    spawn(consumer)
    join()
    return taken


def check(result):
    assert result == [0, 1, 2, 3, 4]
