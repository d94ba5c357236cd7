"""Jacobi iteration: all read one buffer and write the other; a barrier, and they change places."""

import numpy as np

from lab.threadlib import Cond, Mutex, join, spawn

WORKERS, STEPS = 2, 2
mutex, all_here = Mutex("barrier"), Cond("all here")
arrived = turn = 0


def barrier():
    global arrived, turn
    with mutex:
        mine = turn
        arrived += 1
        if arrived == WORKERS:
            arrived, turn = 0, turn + 1
            all_here.broadcast()
        while turn == mine:
            all_here.wait(mutex)


def main():
    first, second = np.arange(8.0), np.arange(8.0)

    def work(number):
        before, after = first, second
        begin, end = (1, 4) if number == 1 else (4, 7)
        for _ in range(STEPS):
            after[begin:end] = (before[begin - 1 : end - 1] + before[begin + 1 : end + 1]) / 2
            barrier()
            before, after = after, before

    for _ in range(WORKERS):
        spawn(work)
    join()
    assert (first == np.arange(8.0)).all()
