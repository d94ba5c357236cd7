"""A semaphore that is to be a mutex begins with 2: two threads are inside at once."""
# EXPECT explore assertion: counter
# EXPECT races race: counter

from lab.threadlib import Semaphore, join, spawn

guard = Semaphore(2)
counter = 0


def worker(number):
    global counter
    guard.P()
    counter += 1  # BUG
    guard.V()


def main():
    for _ in range(2):
        spawn(worker)
    join()
    assert counter == 2, f"{counter} instead of 2"
