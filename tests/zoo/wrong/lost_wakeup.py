"""A signal is sent before anybody waits for it, and nothing remembers that it was."""
# EXPECT explore deadlock: woke nobody

from lab.threadlib import Cond, Mutex, join, spawn

mutex = Mutex()
ready = Cond()


def worker(number):
    with mutex:
        ready.signal()  # BUG


def main():
    spawn(worker)
    with mutex:
        ready.wait(mutex)
    join()
