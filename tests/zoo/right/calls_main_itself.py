"""A program whose last line calls main(), without a guard: it has been run when it has been executed."""

import sys

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
    assert counter == 6, counter
    return 0


sys.exit(main())
