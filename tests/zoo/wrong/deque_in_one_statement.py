"""One statement is not one step: between the look at the deque and the popleft() another thread takes the task."""
# EXPECT explore exception: pop from an empty deque

from collections import deque

from lab.threadlib import join, spawn

tasks = deque([1, 2, 3])
done = []


def work(number):
    while True:
        task = tasks.popleft() if tasks else None  # BUG
        if task is None:
            return
        done.append(task)


def main():
    for _ in range(3):
        spawn(work)
    join()
