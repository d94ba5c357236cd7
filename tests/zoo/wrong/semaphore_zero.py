"""A semaphore that is to be a mutex begins with 0."""
# EXPECT explore deadlock: made with 0
# EXPECT checked deadlock: made with 0

from lab.threadlib import Semaphore, join, spawn

guard = Semaphore(0)  # BUG
counter = 0


def worker(number):
    global counter
    guard.P()
    counter += 1
    guard.V()


def main():
    for _ in range(2):
        spawn(worker)
    join()
