"""A thread pool of the student's own: futures, map, with statement, shutdown in a finally."""

from collections import deque

from lab.threadlib import Cond, Mutex, join, spawn


class Future:
    def __init__(self):
        self.m, self.c, self.ready, self.value, self.error = Mutex("future"), Cond("ready"), False, None, None

    def set(self, value=None, error=None):
        with self.m:
            self.value, self.error, self.ready = value, error, True
            self.c.broadcast()

    def result(self):
        with self.m:
            while not self.ready:
                self.c.wait(self.m)
            if self.error is not None:
                raise self.error
            return self.value


class Pool:
    def __init__(self, k):
        self.m, self.c, self.tasks, self.closed = Mutex("pool"), Cond("tasks"), deque(), False
        self.threads = [spawn(self._work) for _ in range(k)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self.m:
            self.closed = True
            self.c.broadcast()
        join(*self.threads)

    def _work(self, number):
        while True:
            with self.m:
                while not self.tasks and not self.closed:
                    self.c.wait(self.m)
                if not self.tasks:
                    return
                future, fn, args = self.tasks.popleft()
            try:
                value = fn(*args)
            except Exception as error:
                future.set(error=error)
            else:
                future.set(value)

    def submit(self, fn, *args):
        future = Future()
        with self.m:
            self.tasks.append((future, fn, args))
            self.c.signal()
        return future

    def map(self, fn, items):
        return [future.result() for future in [self.submit(fn, item) for item in items]]


def main():
    with Pool(2) as pool:
        assert pool.map(lambda x: x * x, range(3)) == [0, 1, 4]
        bad = pool.submit(lambda: 1 / 0)
        try:
            bad.result()
        except ZeroDivisionError:
            pass
        else:
            raise AssertionError
