"""Sleeping barber: he looks whether anybody waits, lets go of the mutex, and then goes to sleep; a customer who comes
in between wakes nobody."""
# EXPECT explore deadlock: woke nobody

from lab.threadlib import Cond, Mutex, join, spawn

CUSTOMERS = 2
shop = Mutex("shop")
bell, done = Cond("bell"), Cond("done")
waiting = 0
served = 0


def barber(number):
    global waiting, served
    for _ in range(CUSTOMERS):
        with shop:
            asleep = waiting == 0
        with shop:
            if asleep:
                bell.wait(shop)  # BUG
            waiting -= 1
            served += 1
            done.broadcast()


def customer(number):
    global waiting
    with shop:
        waiting += 1
        ticket = served
        bell.signal()
        while served <= ticket:
            done.wait(shop)


def main():
    spawn(barber)
    for _ in range(CUSTOMERS):
        spawn(customer)
    join()
