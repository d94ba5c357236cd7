"""Each worker locks a mutex, but not the same one."""
# EXPECT races race: they hold different mutexes

from lab.threadlib import Mutex, join, spawn

left = Mutex()
right = Mutex()


class Counter:
    """A number."""

    __slots__ = ("value",)

    def __init__(self):
        self.value = 0


def main():
    counter = Counter()

    def work(number):
        with left if number == 1 else right:
            counter.value += 1  # BUG

    for _ in range(2):
        spawn(work)
    join()
