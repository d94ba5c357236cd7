"""A counter under a mutex."""

from lab.threadlib import Mutex, join, spawn

counter = 0
mutex = Mutex()


def worker(number):
    global counter
    for _ in range(2):
        with mutex:
            counter += 1


def main():
    for _ in range(3):
        spawn(worker)
    join()
    assert counter == 6
