"""Two mutexes are locked in opposite orders, but always under a third one."""

from lab.threadlib import Mutex, join, spawn

gate, a, b = Mutex(), Mutex(), Mutex()


def forward(number):
    with gate, a, b:
        pass


def backward(number):
    with gate, b, a:
        pass


def main():
    spawn(forward)
    spawn(backward)
    join()
