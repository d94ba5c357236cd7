"""A worker joins another one while it holds the mutex that the other one needs."""
# EXPECT explore deadlock: a cycle
# EXPECT checked deadlock: waits for the end of

from lab.threadlib import Mutex, join, spawn

mutex = Mutex("results")
results = []


def helper(number):
    with mutex:
        results.append(number)


def boss(number):
    with mutex:
        join(spawn(helper))  # BUG
        results.append(number)


def main():
    spawn(boss)
    join()
