"""Two workers each spawn and join workers of their own."""

from lab.threadlib import Mutex, join, spawn

mutex = Mutex()
count = 0


def child(number):
    global count
    with mutex:
        count += 1


def parent(number):
    join(*[spawn(child) for _ in range(2)])


def main():
    join(*[spawn(parent) for _ in range(2)])
    assert count == 4
