"""Sushi bar: whoever leaves seats those who wait, before the mutex is free."""

from lab.threadlib import Mutex, Semaphore, join, spawn

SEATS, GUESTS = 2, 4
mutex, seat = Mutex("bar"), Semaphore(0, "seat")
eating = waiting = most = 0
full = False


def guest(number):
    global eating, waiting, full, most
    with mutex:
        must_wait = full
        if must_wait:
            waiting += 1
        else:
            eating += 1
            most = max(most, eating)
            full = eating == SEATS
    if must_wait:
        seat.P()  # whoever left has counted this one in
    with mutex:
        eating -= 1
        if eating == 0:
            coming = min(SEATS, waiting)
            waiting -= coming
            eating += coming
            most = max(most, eating)
            full = eating == SEATS
            for _ in range(coming):
                seat.V()


def main():
    for _ in range(GUESTS):
        spawn(guest)
    join()
    assert most <= SEATS
    assert eating == waiting == 0
