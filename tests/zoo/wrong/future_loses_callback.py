"""A future: whether it is done is looked up in one critical section, and the callback kept in the next."""
# EXPECT explore assertion: not atomic

from lab.threadlib import Mutex, join, spawn


class Future:
    def __init__(self):
        self.mutex, self.done, self.value, self.callbacks = Mutex("future"), False, None, []

    def set(self, value):
        with self.mutex:
            self.done, self.value = True, value
            callbacks = self.callbacks
        for callback in callbacks:
            callback(value)

    def then(self, callback):
        with self.mutex:
            done = self.done
        if done:
            callback(self.value)
        else:
            with self.mutex:  # BUG
                self.callbacks.append(callback)


future = Future()
seen = []


def main():
    spawn(lambda number: future.set(42))
    future.then(seen.append)
    join()
    assert seen == [42], "the callback was never called"
