"""An early return leaves the mutex locked."""
# EXPECT explore misuse: has ended with mutex
# EXPECT checked misuse: has ended with mutex

from lab.threadlib import Mutex, join, spawn

mutex = Mutex()


def worker(number):
    mutex.lock()  # BUG
    if number == 2:
        return
    mutex.unlock()


def main():
    for _ in range(2):
        spawn(worker)
    join()
