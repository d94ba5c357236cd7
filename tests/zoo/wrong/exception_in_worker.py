"""One worker fails: its exception is the news, not that the others wait for it."""
# EXPECT explore exception: ZeroDivisionError in worker-2
# EXPECT checked exception: ZeroDivisionError

from lab.threadlib import Semaphore, join, spawn

done = Semaphore(0)


def worker(number):
    1 / (2 - number)  # BUG
    done.V()


def main():
    for _ in range(2):
        spawn(worker)
    for _ in range(2):
        done.P()
    join()
