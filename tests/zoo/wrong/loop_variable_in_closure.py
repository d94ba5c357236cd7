"""A closure over the loop's variable: it is looked up when the thread runs, not when the thread is spawned."""
# EXPECT explore assertion: perhaps because of part written by the main thread at
# EXPECT races race: part written by the main thread at

from lab.threadlib import join, spawn

PARTS = 3
done = [0] * PARTS


def compute(part):
    done[part] = 1


def main():
    for part in range(PARTS):
        spawn(lambda number: compute(part))  # BUG  # noqa: B023
    join()
    assert all(done), f"done: {done}"
