"""A sleep that is long enough, most of the time."""
# EXPECT explore assertion: the result is not there
# EXPECT races race: result

import time

from lab.threadlib import join, spawn

result = None


def work(number):
    global result
    time.sleep(0.01)
    result = 42  # BUG


def main():
    spawn(work)
    time.sleep(0.1)
    assert result == 42, "the result is not there yet"  # BUG
    join()
