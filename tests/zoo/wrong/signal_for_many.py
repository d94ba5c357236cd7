"""A gate that all workers wait at is opened with signal, which wakes only one of them."""
# EXPECT explore deadlock: nobody is left to signal

from lab.threadlib import Cond, Mutex, join, spawn

opened = False
mutex = Mutex()
gate = Cond()


def worker(number):
    with mutex:
        while not opened:
            gate.wait(mutex)


def main():
    global opened
    for _ in range(3):
        spawn(worker)
    with mutex:
        opened = True
        gate.signal()  # BUG
    join()
