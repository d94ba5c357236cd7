"""Philosophers with forks that are semaphores and a waiter who lets all of them in: each takes one fork."""
# EXPECT explore deadlock: each waits for what the next one has taken

from lab.threadlib import Semaphore, join, spawn

N = 3
forks = [Semaphore(1, f"fork {i}") for i in range(N)]
waiter = Semaphore(N, "waiter")


def philosopher(number):
    left, right = forks[number - 1], forks[number % N]
    waiter.P()
    left.P()
    right.P()  # BUG
    right.V()
    left.V()
    waiter.V()


def main():
    for _ in range(N):
        spawn(philosopher)
    join()
