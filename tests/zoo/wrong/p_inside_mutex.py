"""The producer waits for room while it holds the mutex that the consumer needs to make room."""
# EXPECT explore deadlock: held by

from lab.threadlib import Mutex, Semaphore, join, spawn

mutex = Mutex()
room = Semaphore(1)
items = Semaphore(0)
buffer = []


def producer(number):
    for item in range(2):
        with mutex:
            room.P()  # BUG
            buffer.append(item)
            items.V()


def consumer(number):
    for _ in range(2):
        items.P()
        with mutex:
            buffer.pop(0)
            room.V()


def main():
    spawn(producer)
    spawn(consumer)
    join()
