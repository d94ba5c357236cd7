"""Many readers or one writer, with one mutex and one condition variable, always broadcast."""

from lab.threadlib import Cond, Mutex, join, spawn


class Shared:
    def __init__(self):
        self.mutex, self.changed = Mutex(), Cond()
        self.readers, self.writing, self.value = 0, False, (0, 0)

    def read(self, number):
        with self.mutex:
            while self.writing:
                self.changed.wait(self.mutex)
            self.readers += 1
        first, second = self.value
        assert first == second
        with self.mutex:
            self.readers -= 1
            self.changed.broadcast()

    def write(self, number):
        with self.mutex:
            while self.writing or self.readers:
                self.changed.wait(self.mutex)
            self.writing = True
        self.value = (number, number)
        with self.mutex:
            self.writing = False
            self.changed.broadcast()


def main():
    shared = Shared()
    for role in (shared.read, shared.write, shared.read, shared.write):
        spawn(role)
    join()
    assert shared.value[0] in (2, 4)
