"""Producers and consumers with two condition variables."""

from lab.threadlib import Cond, Mutex, join, spawn

ROOM = 1
buffer, taken = [], []
mutex = Mutex()
not_full = Cond()
not_empty = Cond()


def producer(number):
    for item in range(2):
        with mutex:
            while len(buffer) == ROOM:
                not_full.wait(mutex)
            buffer.append((number, item))
            not_empty.signal()


def consumer(number):
    for _ in range(2):
        with mutex:
            while not buffer:
                not_empty.wait(mutex)
            taken.append(buffer.pop())
            not_full.signal()


def main():
    for _ in range(2):
        spawn(producer)
        spawn(consumer)
    join()
    assert len(set(taken)) == 4
