"""Waits for a result with a limit in time, and with pauses; the limit is ample."""

import time

from lab.threadlib import Mutex, join, spawn

mutex = Mutex()
done = 0


def work(number):
    global done
    for _ in range(3):
        time.sleep(0.01)
        with mutex:
            done += 1


def main():
    begin = time.monotonic()
    for _ in range(2):
        spawn(work)
    while True:
        with mutex:
            if done == 6:
                break
        assert time.monotonic() - begin < 5, "too slow"
        time.sleep(0.02)
    join()
    until = time.time() + 0.5
    while time.time() < until:
        pass
