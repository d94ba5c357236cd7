"""On the error path the worker leaves without V: the next one waits for ever."""
# EXPECT explore deadlock: last unit was taken
# EXPECT checked deadlock: guard

from lab.threadlib import Semaphore, join, spawn

guard = Semaphore(1)
results = {}


def worker(number):
    guard.P()  # BUG
    if number == 1:
        return
    results[number] = number * number
    guard.V()


def main():
    for _ in range(3):
        spawn(worker)
    join()
