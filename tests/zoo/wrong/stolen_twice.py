"""Work stealing: owner and thief look at the queue and take from it without a lock; the last task is only one."""
# EXPECT explore exception: pop from an empty deque

from collections import deque

from lab.threadlib import join, spawn

tasks = deque(range(3))
done = []


def owner(number):
    while tasks:
        done.append(tasks.pop())  # BUG


def thief(number):
    while (task := tasks.popleft() if tasks else None) is not None:  # BUG
        done.append(task)


def main():
    spawn(owner)
    spawn(thief)
    join()
    assert sorted(done) == [0, 1, 2]
