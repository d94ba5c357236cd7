"""Sushi bar: whoever was told to wait must lock the mutex again to sit down, and newcomers are there first."""
# EXPECT explore assertion: eat at 2 seats

from lab.threadlib import Mutex, Semaphore, join, spawn

SEATS, GUESTS = 2, 5
mutex, seat = Mutex("bar"), Semaphore(0, "seat")
eating = waiting = 0
full = False


def guest(number):
    global eating, waiting, full
    mutex.lock()
    if full:
        waiting += 1
        mutex.unlock()
        seat.P()
        mutex.lock()  # BUG
        waiting -= 1
    eating += 1
    assert eating <= SEATS, f"{eating} eat at {SEATS} seats"  # BUG
    full = eating == SEATS
    mutex.unlock()
    mutex.lock()
    eating -= 1
    if eating == 0:
        for _ in range(min(SEATS, waiting)):
            seat.V()
        full = False
    mutex.unlock()


def main():
    for _ in range(GUESTS):
        spawn(guest)
    join()
