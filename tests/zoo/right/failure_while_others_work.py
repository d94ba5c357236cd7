"""One worker fails, as expected; the others go on under the mutex until they are joined."""

from lab.threadlib import Mutex, WorkerFailed, join, spawn

mutex = Mutex()
count = 0


def work(number):
    global count
    if number == 2:
        raise ValueError("as expected")
    for _ in range(3):
        with mutex:
            count += 1


def main():
    for _ in range(3):
        spawn(work)
    try:
        join()
    except WorkerFailed:
        return
    raise AssertionError("no failure")
