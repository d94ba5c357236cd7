"""Three workers and a queue: the program whose schedules are counted."""

from collections import deque

from lab.threadlib import Cond, Mutex, join, spawn

K, TASKS = 3, 6


class Queue:
    def __init__(self):
        self.mutex = Mutex("queue")
        self.changed = Cond("not empty")
        self.tasks = deque()
        self.closed = False

    def put(self, task):
        with self.mutex:
            self.tasks.append(task)
            self.changed.signal()

    def get(self):
        with self.mutex:
            while not self.tasks and not self.closed:
                self.changed.wait(self.mutex)
            return self.tasks.popleft() if self.tasks else None

    def close(self):
        with self.mutex:
            self.closed = True
            self.changed.broadcast()


def main():
    queue = Queue()
    done = [0] * TASKS

    def worker(number):
        while (task := queue.get()) is not None:
            done[task] += 1

    for _ in range(K):
        spawn(worker)
    for task in range(TASKS):
        queue.put(task)
    queue.close()
    join()
    return done


def check(result):
    assert result == [1] * TASKS
