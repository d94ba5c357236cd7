"""A consumer looks at the queue in an if: another one may have emptied it before it wakes up."""
# EXPECT explore exception: is in an if

from lab.threadlib import Cond, Mutex, join, spawn

items = []
mutex = Mutex()
not_empty = Cond()


def consumer(number):
    with mutex:
        if not items:
            not_empty.wait(mutex)  # BUG
        items.pop()


def main():
    for _ in range(2):
        spawn(consumer)
    for item in range(2):
        with mutex:
            items.append(item)
            not_empty.signal()
    join()
