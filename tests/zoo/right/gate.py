"""All workers wait for a gate, which is opened once, with broadcast."""

from lab.threadlib import Cond, Mutex, join, spawn

opened = False
mutex, gate = Mutex(), Cond()
passed = []


def worker(number):
    with mutex:
        while not opened:
            gate.wait(mutex)
        passed.append(number)


def main():
    global opened
    for _ in range(3):
        spawn(worker)
    with mutex:
        opened = True
        gate.broadcast()
    join()
    assert sorted(passed) == [1, 2, 3]
