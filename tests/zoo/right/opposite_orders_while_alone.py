"""The main thread locks two mutexes in the other order than the workers do, but before they are there and after they
have ended."""

from lab.threadlib import Mutex, join, spawn

a, b = Mutex("a"), Mutex("b")
left = right = 0


def move(number):
    global left, right
    with a, b:
        left, right = left - 1, right + 1


def main():
    global left
    with b, a:
        left = 2
    spawn(move)
    spawn(move)
    join()
    with b, a:
        assert (left, right) == (0, 2)
