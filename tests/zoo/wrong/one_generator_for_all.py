"""Workers take their tasks from one generator, which only one thread at a time may be inside of."""
# EXPECT explore exception: generator already executing

from lab.threadlib import join, spawn

done = []


def tasks():
    for number in range(6):
        task = [number]
        yield task


def main():
    source = tasks()

    def work(number):
        for task in source:  # BUG
            done.append(task)

    for _ in range(2):
        spawn(work)
    join()
