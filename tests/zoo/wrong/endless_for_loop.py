"""A worker that never ends, in a for loop, without any operation."""
# EXPECT explore livelock: worker-1 loops at

import itertools

from lab.threadlib import join, spawn

done = []


def work(number):
    for _ in itertools.count():  # BUG
        if len(done) == 2:
            return


def main():
    spawn(work)
    done.append(1)
    join()
