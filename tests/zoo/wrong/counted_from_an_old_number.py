"""A latch looks at its counter in one critical section and writes it in another: one arrival is lost, main waits on."""
# EXPECT explore deadlock: not atomic

from lab.threadlib import Cond, Mutex, join, spawn

WORKERS = 3
mutex, empty = Mutex("latch"), Cond("empty")
left = WORKERS


def worker(number):
    global left
    with mutex:
        before = left
    with mutex:
        left = before - 1  # BUG
        if left == 0:
            empty.signal()


def main():
    for _ in range(WORKERS):
        spawn(worker)
    with mutex:
        while left > 0:
            empty.wait(mutex)
    join()
