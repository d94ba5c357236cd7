"""Readers and writers, with priority for writers: a monitor with two conditions."""

from contextlib import contextmanager

from lab.threadlib import Cond, Mutex, join, spawn


class RWLock:
    def __init__(self):
        self.m = Mutex("rw")
        self.can_read, self.can_write = Cond("can read"), Cond("can write")
        self.readers = self.writers_waiting = 0
        self.writing = False

    @contextmanager
    def read(self):
        with self.m:
            while self.writing or self.writers_waiting:
                self.can_read.wait(self.m)
            self.readers += 1
        try:
            yield
        finally:
            with self.m:
                self.readers -= 1
                if self.readers == 0:
                    self.can_write.signal()

    @contextmanager
    def write(self):
        with self.m:
            self.writers_waiting += 1
            while self.writing or self.readers:
                self.can_write.wait(self.m)
            self.writers_waiting -= 1
            self.writing = True
        try:
            yield
        finally:
            with self.m:
                self.writing = False
                if self.writers_waiting:
                    self.can_write.signal()
                else:
                    self.can_read.broadcast()


lock = RWLock()
data = [0, 0]


def reader(number):
    with lock.read():
        a, b = data
        assert a == b


def writer(number):
    with lock.write():
        data[0] += 1
        data[1] += 1


def main():
    for role in (reader, writer, reader, writer):
        spawn(role)
    join()
    assert data == [2, 2]
