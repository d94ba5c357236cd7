"""The counter belongs to the class, so all objects share it."""
# EXPECT races race: Task.made

from lab.threadlib import join, spawn


class Task:
    """Counts its objects."""

    made = 0

    def __init__(self):
        Task.made += 1  # BUG


def main():
    def work(number):
        Task()

    for _ in range(2):
        spawn(work)
    join()
