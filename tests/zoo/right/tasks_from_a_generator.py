"""Workers take their tasks from one generator, one at a time."""

from lab.threadlib import Mutex, join, spawn

mutex, results = Mutex(), []


def tasks():
    for number in range(6):
        task = [number]
        yield task


def main():
    source = tasks()

    def work(number):
        while True:
            with mutex:
                task = next(source, None)
            if task is None:
                return
            with mutex:
                results.append(sum(part for part in task))

    for _ in range(2):
        spawn(work)
    join()
    assert sorted(results) == list(range(6))
