"""Worker numbers count from 1; this program takes them to count from 0."""
# EXPECT explore exception: IndexError
# EXPECT checked exception: IndexError

from lab.threadlib import join, spawn

K = 3


def main():
    parts = [0] * K

    def worker(number):
        parts[number] = number * number  # BUG

    for _ in range(K):
        spawn(worker)
    join()
    return parts
