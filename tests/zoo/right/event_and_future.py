"""An event that stays set, and a future whose callbacks are kept or called, but never lost."""

from lab.threadlib import Cond, Mutex, join, spawn


class Event:
    def __init__(self):
        self.mutex, self.changed, self.on = Mutex("event"), Cond("set"), False

    def set(self):
        with self.mutex:
            self.on = True
            self.changed.broadcast()

    def wait(self):
        with self.mutex:
            while not self.on:
                self.changed.wait(self.mutex)


class Future:
    def __init__(self):
        self.mutex, self.done, self.value, self.callbacks = Mutex("future"), Event(), None, []

    def set(self, value):
        with self.mutex:
            self.value, callbacks, self.callbacks = value, self.callbacks, None
        self.done.set()
        for callback in callbacks:
            callback(value)

    def get(self):
        self.done.wait()
        return self.value

    def then(self, callback):
        with self.mutex:
            if self.callbacks is not None:
                self.callbacks.append(callback)
                return
        callback(self.value)


future = Future()
seen, got = [], []


def main():
    spawn(lambda number: future.set(42))
    spawn(lambda number: got.append(future.get()))
    future.then(seen.append)
    join()
    assert seen == got == [42]
