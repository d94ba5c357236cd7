"""Every philosopher takes the left fork first."""
# EXPECT explore deadlock: a cycle
# EXPECT checked order: the opposite order

from lab.threadlib import Mutex, join, spawn

N = 5
forks = [Mutex() for _ in range(N)]


def philosopher(number):
    left, right = forks[number - 1], forks[number % N]
    left.lock()
    right.lock()  # BUG
    right.unlock()
    left.unlock()


def main():
    for _ in range(N):
        spawn(philosopher)
    join()
