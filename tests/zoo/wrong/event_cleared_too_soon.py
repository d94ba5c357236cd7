"""An event that is set and cleared at once: a thread that waits for it may look only when it is cleared again."""
# EXPECT explore deadlock: condition

from lab.threadlib import Cond, Mutex, join, spawn


class Event:
    def __init__(self):
        self.mutex, self.changed, self.on = Mutex("event"), Cond("set"), False

    def set(self):
        with self.mutex:
            self.on = True
            self.changed.broadcast()

    def clear(self):
        with self.mutex:
            self.on = False

    def wait(self):
        with self.mutex:
            while not self.on:
                self.changed.wait(self.mutex)  # BUG


go = Event()


def main():
    for _ in range(2):
        spawn(lambda number: go.wait())
    go.set()
    go.clear()
    join()
