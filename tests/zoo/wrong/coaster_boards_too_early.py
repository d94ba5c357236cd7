"""Roller coaster: the car lets the next passengers in before the last ones have got off."""
# EXPECT explore assertion: aboard

from lab.threadlib import Mutex, Semaphore, join, spawn

SEATS, RIDES = 2, 2
mutex = Mutex("car")
board, seated, leave = Semaphore(0, "board"), Semaphore(0, "seated"), Semaphore(0, "leave")
aboard = 0


def car(number):
    for _ in range(RIDES):
        for _ in range(SEATS):
            board.V()
        for _ in range(SEATS):
            seated.P()
        with mutex:
            assert aboard == SEATS, f"{aboard} aboard"  # BUG
        for _ in range(SEATS):
            leave.V()


def passenger(number):
    global aboard
    board.P()
    with mutex:
        aboard += 1
    seated.V()
    leave.P()
    with mutex:
        aboard -= 1


def main():
    spawn(car)
    for _ in range(SEATS * RIDES):
        spawn(passenger)
    join()
