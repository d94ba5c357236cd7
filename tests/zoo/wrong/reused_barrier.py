"""A barrier that is used twice: the last thread resets the counter while others have not yet seen that it was full."""
# EXPECT explore deadlock: gate

from lab.threadlib import Cond, Mutex, join, spawn

K = 3
arrived = 0
mutex = Mutex()
gate = Cond()


def barrier():
    global arrived
    with mutex:
        arrived += 1
        if arrived == K:
            gate.broadcast()
        while arrived < K:
            gate.wait(mutex)  # BUG
    with mutex:
        arrived = 0


def worker(number):
    for _ in range(2):
        barrier()


def main():
    for _ in range(K):
        spawn(worker)
    join()
