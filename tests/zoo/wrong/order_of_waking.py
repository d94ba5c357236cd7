"""Relies on the order in which waiting threads come back."""
# EXPECT explore assertion: not defined

from lab.threadlib import Cond, Mutex, join, spawn

mutex, turn = Mutex("mutex"), Cond("turn")
arrived, left = [], []


def waiter(number):
    with mutex:
        arrived.append(number)
        turn.wait(mutex)  # BUG
        left.append(number)


def main():
    for _ in range(2):
        spawn(waiter)
    parked = 0
    while parked < 2:
        with mutex:
            parked = len(arrived)
    for _ in range(2):
        with mutex:
            turn.signal()
    join()
    assert left == arrived, f"{arrived} came, {left} left"
