"""A method that locks calls another one that locks the same mutex."""
# EXPECT explore misuse: again, which it has held since
# EXPECT checked misuse: again, which it has held since

from lab.threadlib import Mutex, join, spawn

mutex = Mutex()
items = []


def size():
    with mutex:  # BUG
        return len(items)


def worker(number):
    with mutex:
        if size() == 0:
            items.append(number)


def main():
    spawn(worker)
    join()
