"""Waits for a flag for some time and goes on without it; who comes late finds that nobody waits."""

from time import monotonic, sleep

from lab.threadlib import Mutex, join, spawn

mutex = Mutex()
ready = taken = 0


def work(number):
    global ready
    sleep(0.1 * number)
    with mutex:
        ready += 1


def wait_for(count, seconds):
    global taken
    until = monotonic() + seconds
    while monotonic() < until:
        with mutex:
            if ready >= count:
                taken += count
                return True
        sleep(0.01)
    return False


def main():
    for _ in range(2):
        spawn(work)
    patient = wait_for(1, 60)
    hasty = wait_for(2, 0.15)
    join()
    assert patient and taken == (3 if hasty else 1)
