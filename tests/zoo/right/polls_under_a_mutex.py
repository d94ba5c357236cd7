"""A loop that polls under a mutex and never pauses: it ends as soon as the others get a turn."""

from lab.threadlib import Mutex, join, spawn

mutex = Mutex()
here = 0


def work(number):
    global here
    with mutex:
        here += 1


def main():
    for _ in range(2):
        spawn(work)
    while True:
        with mutex:
            if here == 2:
                break
    join()
