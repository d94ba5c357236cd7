"""V tells of an item that is not there yet."""
# EXPECT explore exception: IndexError

from lab.threadlib import Semaphore, join, spawn

items = Semaphore(0)
buffer = []


def producer(number):
    for item in range(2):
        items.V()
        buffer.append(item)


def consumer(number):
    for _ in range(2):
        items.P()
        buffer.pop(0)  # BUG


def main():
    spawn(producer)
    spawn(consumer)
    join()
