"""The next task's number is taken from an attribute without a mutex, so that two workers do the same task."""
# EXPECT explore assertion: self.following
# EXPECT races race: self.following

from lab.threadlib import join, spawn


class Tasks:
    def __init__(self, count):
        self.count = count
        self.following = 0
        self.done = [0] * count

    def work(self, number):
        while True:
            task = self.following
            self.following = task + 1  # BUG
            if task >= self.count:
                return
            self.done[task] += 1


def main():
    tasks = Tasks(3)
    for _ in range(2):
        spawn(tasks.work)
    join()
    assert tasks.done == [1, 1, 1], f"each task once, not {tasks.done}"
