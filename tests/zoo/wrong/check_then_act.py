"""Is there a task left? Then take it: in between another worker takes it."""
# EXPECT explore exception: IndexError

from lab.threadlib import join, spawn

tasks = list(range(4))


def worker(number):
    while tasks:
        tasks.pop()  # BUG


def main():
    for _ in range(2):
        spawn(worker)
    join()
