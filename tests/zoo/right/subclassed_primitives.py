"""Primitives of the program's own, as subclasses: a latch that is a semaphore, a monitor that is a mutex."""

from collections import deque

from lab.threadlib import Cond, Mutex, Semaphore, join, spawn

CONSUMERS, ITEMS = 2, 4


class Latch(Semaphore):
    __slots__ = ("needed",)

    def __init__(self, needed):
        super().__init__(0, "latch")
        self.needed = needed

    def wait(self):
        for _ in range(self.needed):
            self.P()


class Monitor(Mutex):
    def __init__(self):
        super().__init__()
        self.changed = Cond()

    def wait_until(self, condition):
        while not condition():
            self.changed.wait(self)


def main():
    latch, monitor = Latch(ITEMS), Monitor()
    items, taken = deque(), []

    def consumer(number):
        for _ in range(ITEMS // CONSUMERS):
            with monitor:
                monitor.wait_until(lambda: items)
                taken.append(items.popleft())
            latch.V()

    for _ in range(CONSUMERS):
        spawn(consumer)
    for item in range(ITEMS):
        with monitor:
            items.append(item)
            monitor.changed.signal()
    latch.wait()
    join()
    return sorted(taken)


def check(result):
    assert result == list(range(ITEMS)), result
