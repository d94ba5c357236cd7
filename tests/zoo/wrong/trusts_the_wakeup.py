"""Only one thread waits and only one signals, and yet an if is not enough: a wait may end without a signal."""
# EXPECT explore assertion: ended without a signal

from lab.threadlib import Cond, Mutex, join, spawn

mutex, full = Mutex("box"), Cond("full")
box = []


def producer(number):
    with mutex:
        box.append(1)
        full.signal()


def main():
    with mutex:
        spawn(producer)
        if not box:
            full.wait(mutex)  # BUG
        assert box, "woke, and the box is empty"
    join()
