"""A property that locks: what looks like an attribute is a call; the slot behind it is protected."""

from lab.threadlib import Mutex, join, spawn


class Counter:
    """A number that may be assigned to from everywhere."""

    __slots__ = ("_number", "lock")

    def __init__(self):
        self.lock, self._number = Mutex(), 0

    @property
    def number(self):
        with self.lock:
            return self._number

    @number.setter
    def number(self, value):
        with self.lock:
            self._number = value


def main():
    counter = Counter()

    def work(number):
        counter.number = number
        assert counter.number in (1, 2, 3)

    for _ in range(3):
        spawn(work)
    join()
