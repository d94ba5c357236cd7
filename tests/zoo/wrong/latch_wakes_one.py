"""A latch is open for all who wait, but the last one to arrive wakes only one."""
# EXPECT explore deadlock: nobody is left to signal it

from lab.threadlib import Cond, Mutex, join, spawn


class Latch:
    def __init__(self, count):
        self.count, self.mutex, self.open = count, Mutex("latch"), Cond("open")

    def arrive(self):
        with self.mutex:
            self.count -= 1
            if self.count == 0:
                self.open.signal()  # BUG

    def wait(self):
        with self.mutex:
            while self.count > 0:
                self.open.wait(self.mutex)


def main():
    latch = Latch(2)
    for _ in range(2):
        spawn(lambda number: latch.wait())
    latch.arrive()
    latch.arrive()
    join()
