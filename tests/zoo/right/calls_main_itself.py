"""A program whose last line calls main(), without a guard: it has been run when it has been executed."""

import sys

from lab.threadlib import Semaphore, join, spawn

served = []
ready, done = Semaphore(0, "ready"), Semaphore(0, "done")


def cook(number):
    served.append(number)
    ready.V()
    done.P()


def main():
    thread = spawn(cook)
    ready.P()
    meal = served.pop()
    done.V()
    join(thread)
    assert not served and meal == 1, (served, meal)
    return 0


sys.exit(main())
