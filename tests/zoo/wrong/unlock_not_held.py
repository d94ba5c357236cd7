"""A helper unlocks a mutex that its caller unlocks again."""
# EXPECT explore misuse: unlocks mutex
# EXPECT checked misuse: unlocks mutex

from lab.threadlib import Mutex, join, spawn

mutex = Mutex()


def helper():
    mutex.unlock()


def worker(number):
    mutex.lock()
    helper()
    mutex.unlock()  # BUG


def main():
    spawn(worker)
    join()
