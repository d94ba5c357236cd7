"""Work stealing: each worker takes from the end of its own deque, and from the beginning of another one's."""

from collections import deque

from lab.threadlib import Mutex, join, spawn

queues = [deque(range(4)), deque()]
locks = [Mutex(), Mutex()]
done = []
finished = Mutex("done")


def take(me):
    for victim in (me, 1 - me):
        with locks[victim]:
            if queues[victim]:
                return queues[victim].pop() if victim == me else queues[victim].popleft()
    return None


def work(number):
    while (task := take(number - 1)) is not None:
        with finished:
            done.append(task)


def main():
    spawn(work)
    spawn(work)
    join()
    assert sorted(done) == [0, 1, 2, 3]
