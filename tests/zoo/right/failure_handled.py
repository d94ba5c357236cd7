"""A worker fails, and the main thread expects that it may."""

from lab.threadlib import Semaphore, WorkerFailed, join, spawn

done = Semaphore(0)


def worker(number):
    if number == 2:
        raise ValueError("no such thing")
    done.V()


def main():
    for _ in range(2):
        spawn(worker)
    try:
        done.P()
        done.P()
        join()
    except WorkerFailed:
        return "handled"
    return "missed"


def check(result):
    assert result == "handled"
