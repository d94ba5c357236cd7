"""Producers and consumers with semaphores and a ring."""

import numpy as np

from lab.threadlib import Mutex, Semaphore, join, spawn

ROOM, ITEMS = 2, 3


def main():
    ring = np.zeros(ROOM, dtype=np.int64)
    room, items = Semaphore(ROOM), Semaphore(0)
    mutex = Mutex()
    state = {"put": 0, "get": 0, "sum": 0}

    def producer(number):
        for item in range(1, ITEMS + 1):
            room.P()
            with mutex:
                ring[state["put"] % ROOM] = item
                state["put"] += 1
            items.V()

    def consumer(number):
        for _ in range(ITEMS):
            items.P()
            with mutex:
                state["sum"] += int(ring[state["get"] % ROOM])
                state["get"] += 1
            room.V()

    for _ in range(2):
        spawn(producer)
        spawn(consumer)
    join()
    return state["sum"]


def check(result):
    assert result == 12
