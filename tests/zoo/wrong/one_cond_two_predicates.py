"""Producers and consumers wait on one condition variable, and signal wakes one of the wrong kind."""
# EXPECT explore deadlock: threads that wait for different things share one Cond

from lab.threadlib import Cond, Mutex, join, spawn

ROOM = 1
buffer = []
mutex = Mutex()
changed = Cond()


def producer(number):
    for item in range(2):
        with mutex:
            while len(buffer) == ROOM:
                changed.wait(mutex)
            buffer.append(item)
            changed.signal()  # BUG


def consumer(number):
    for _ in range(2):
        with mutex:
            while not buffer:
                changed.wait(mutex)
            buffer.pop()
            changed.signal()  # BUG


def main():
    for _ in range(2):
        spawn(producer)
        spawn(consumer)
    join()
