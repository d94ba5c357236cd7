"""The sleeping barber, with two chairs: a customer who finds no chair leaves, every other one is served."""

from lab.threadlib import Mutex, Semaphore, join, spawn

CHAIRS, CUSTOMERS = 2, 4
mutex = Mutex("shop")
customers, barber_ready, served = Semaphore(0), Semaphore(0), Semaphore(0)
waiting = 0
cut = turned_away = 0
closed = False


def barber(number):
    global waiting, cut
    while True:
        customers.P()
        with mutex:
            if closed:
                return
            waiting -= 1
        barber_ready.V()
        cut += 1
        served.V()


def customer(number):
    global waiting, turned_away
    with mutex:
        if waiting == CHAIRS:
            turned_away += 1
            return
        waiting += 1
    customers.V()
    barber_ready.P()
    served.P()


def main():
    global closed
    shop = spawn(barber)
    join(*[spawn(customer) for _ in range(CUSTOMERS)])
    with mutex:
        closed = True
    customers.V()
    join(shop)
    assert cut + turned_away == CUSTOMERS
    assert cut >= 1
