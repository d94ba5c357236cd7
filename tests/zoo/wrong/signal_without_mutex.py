"""The flag is set without the mutex: between the waiter's look at it and its wait, the signal is lost."""
# EXPECT explore deadlock: woke nobody
# EXPECT races race: ready

from lab.threadlib import Cond, Mutex, join, spawn

ready = False
mutex = Mutex()
changed = Cond()


def worker(number):
    global ready
    ready = True  # BUG
    changed.signal()


def main():
    spawn(worker)
    with mutex:
        while not ready:
            changed.wait(mutex)
    join()
