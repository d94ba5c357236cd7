"""Every philosopher takes the fork with the lower number first."""

from lab.threadlib import Mutex, join, spawn

N = 3
forks = [Mutex() for _ in range(N)]
meals = [0] * N


def philosopher(number):
    low, high = sorted((number - 1, number % N))
    for _ in range(2):
        with forks[low], forks[high]:
            meals[number - 1] += 1


def main():
    for _ in range(N):
        spawn(philosopher)
    join()
    assert meals == [2] * N
