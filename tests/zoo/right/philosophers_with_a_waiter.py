"""A semaphore lets all but one philosopher to the table: forks in a circle, but no deadlock."""

from lab.threadlib import Mutex, Semaphore, join, spawn

N = 3
forks = [Mutex() for _ in range(N)]
seats = Semaphore(N - 1)


def philosopher(number):
    seats.P()
    with forks[number - 1], forks[number % N]:
        pass
    seats.V()


def main():
    for _ in range(N):
        spawn(philosopher)
    join()
