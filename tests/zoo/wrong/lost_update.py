"""Two threads add to a counter without a mutex: reading and writing are two steps."""
# EXPECT explore assertion: counter written by worker
# EXPECT races race: counter

from lab.threadlib import join, spawn

counter = 0


def worker(number):
    global counter
    for _ in range(2):
        counter += 1  # BUG


def main():
    for _ in range(2):
        spawn(worker)
    join()
    assert counter == 4, f"{counter} instead of 4"
